//! Who was there, and when.

use serde_json::{Value, json};

use super::{Bars, Figure, colour, counts_over_time, layout, mark_faults, name_axis, plain};
use super::{seconds, stacked, time_axis};
use crate::model::{Node, Run};

/// The most rows.
const MOST_ROWS: usize = 100;

/// From this many volunteers on, their number is worth a figure.
const MANY: usize = 20;

/// Where the machine was on: all the time, unless somebody said something else.
fn available(node: &Node, end: f64) -> Vec<(f64, f64)> {
    if node.available.is_empty() { vec![(0.0, end)] } else { node.available.clone() }
}

/// How many volunteers work.
pub(super) fn count(run: &Run) -> Option<Figure> {
    let all = run.volunteers().count();
    if all < MANY {
        return None;
    }
    let mut steps = Vec::new();
    for (from, to) in run.volunteers().flat_map(|node| &node.up) {
        steps.push((*from, 1));
        // The end of the run is not an end of theirs.
        if *to < run.end {
            steps.push((*to, -1));
        }
    }
    let counts = counts_over_time(&[steps], run.end);
    let areas = counts.iter().map(|counts| stacked("agents that work", colour::GREEN, counts));
    let data = areas.collect();
    let mut layout = layout(
        260,
        time_axis(run),
        json!({"title": {"text": "volunteers"}, "range": [0, all as f64 * 1.05]}),
    );
    mark_faults(run, &mut layout);
    Some(Figure {
        id: "volunteer-count",
        title: "Volunteers at work".to_owned(),
        caption: format!("How many of the {all} volunteers' agents work."),
        data,
        layout,
    })
}

/// One row for each volunteer.
pub(super) fn bars(run: &Run) -> Option<Figure> {
    let all = run.volunteers().count();
    if all == 0 {
        return None;
    }
    // When there are too many: those that came and went most.
    let mut shown: Vec<(usize, &Node)> = run.volunteers().enumerate().collect();
    if all > MOST_ROWS {
        shown.sort_by_key(|(at, node)| (usize::MAX - node.up.len() - node.available.len(), *at));
        shown.truncate(MOST_ROWS);
        shown.sort_by_key(|(at, _)| *at);
    }
    let row = |spans: Vec<(f64, f64)>, node: &Node, what: &str| {
        let label = plain(&node.name);
        let text = move |from: f64, to: f64| {
            format!("{}<br>{what} from {} to {}", plain(&node.name), seconds(from), seconds(to))
        };
        let bars =
            spans.into_iter().map(move |(from, to)| (label.clone(), from, to, text(from, to)));
        bars.collect::<Vec<_>>()
    };
    let on = shown.iter().flat_map(|(_, node)| row(available(node, run.end), node, "machine on"));
    let up = shown.iter().flat_map(|(_, node)| row(node.up.clone(), node, "agent works"));
    let data: Vec<Value> = vec![
        Bars { name: "machine on", colour: colour::GREY, bars: on.collect() }.trace(),
        Bars { name: "agent works", colour: colour::GREEN, bars: up.collect() }.trace(),
    ];
    let names: Vec<String> = shown.iter().map(|(_, node)| plain(&node.name)).collect();
    let high = if names.len() > 40 { 11 } else { 18 };
    let mut layout = layout(120 + high * names.len().max(4), time_axis(run), name_axis(&names));
    layout["barmode"] = json!("overlay");
    mark_faults(run, &mut layout);
    let left_out = match all - names.len() {
        0 => String::new(),
        _ => format!(
            " {} of {all} volunteers are shown: those that came and went most; nodes.csv has all.",
            names.len()
        ),
    };
    Some(Figure {
        id: "availability",
        title: "Availability of the volunteers".to_owned(),
        caption: format!(
            "White: the owner's machine is off or gone. Grey: it is on, and the agent does not work.\
             {left_out}"
        ),
        data,
        layout,
    })
}
