//! The jobs' lives.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Bars, Figure, colour, counts_over_time, layout, mark_faults, name_axis, plain};
use super::{seconds, stacked, time_axis};
use crate::job::JobKey;
use crate::model::{Job, Run};

/// The most rows: what fits on a page that is printed.
const MOST_ROWS: usize = 60;

/// From this many jobs on, their number in each state is worth a figure.
const MANY: usize = 8;

/// What OAR's states mean for a reader.
const PHASES: [(&str, &[&str], &str); 3] = [
    ("waiting", &["Waiting", "Hold", "toLaunch", "toAckReservation"], colour::GREY),
    ("launching", &["Launching"], colour::YELLOW),
    ("running", &["Running", "Finishing", "Suspended", "Resuming"], colour::BLUE),
];

fn phase(state: &str) -> Option<usize> {
    PHASES.iter().position(|(_, states, _)| states.contains(&state))
}

/// The parts of a job's life: phase, from, to. Equal neighbours are one.
fn life(job: &Job, end: f64) -> Vec<(usize, f64, f64)> {
    let ends = job.states.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let mut parts: Vec<(usize, f64, f64)> = Vec::new();
    for ((from, state), to) in job.states.iter().zip(ends) {
        let Some(phase) = phase(state) else { continue };
        match parts.last_mut() {
            Some(last) if last.0 == phase && last.2 == *from => last.2 = to,
            _ => parts.push((phase, *from, to)),
        }
    }
    parts
}

/// How many jobs are in which phase.
pub(super) fn by_state(run: &Run) -> Option<Figure> {
    if run.jobs.len() < MANY {
        return None;
    }
    let mut steps: Vec<Vec<(f64, i64)>> = vec![Vec::new(); PHASES.len()];
    for job in &run.jobs {
        for (phase, from, to) in life(job, run.end) {
            steps[phase].extend([(from, 1), (to, -1)]);
        }
    }
    let counts = counts_over_time(&steps, run.end);
    let areas = PHASES.iter().zip(&counts).rev();
    let data = areas.map(|((name, _, colour), counts)| stacked(name, colour, counts)).collect();
    let mut layout =
        layout(300, time_axis(run), json!({"title": {"text": "jobs"}, "rangemode": "tozero"}));
    mark_faults(run, &mut layout);
    Some(Figure {
        id: "job-counts",
        title: "Jobs by state".to_owned(),
        caption: format!("All {} jobs. Jobs that have ended are not counted.", run.jobs.len()),
        data,
        layout,
    })
}

/// One row for each job.
pub(super) fn gantt(run: &Run) -> Option<Figure> {
    if run.jobs.is_empty() {
        return None;
    }
    let shown = &run.jobs[..run.jobs.len().min(MOST_ROWS)];
    let label = |job: &Job| format!("{} {}", job.id, plain(&job.command));
    let mut data: Vec<Value> = PHASES
        .iter()
        .enumerate()
        .map(|(index, (name, _, colour))| {
            let bars = shown.iter().flat_map(|job| {
                let parts = life(job, run.end).into_iter().filter(|(phase, ..)| *phase == index);
                parts.map(|(_, from, to)| {
                    let text = format!(
                        "{}<br>{name} from {} to {}",
                        label(job),
                        seconds(from),
                        seconds(to)
                    );
                    (label(job), from, to, text)
                })
            });
            Bars { name, colour, bars: bars.collect() }.trace()
        })
        .collect();
    let marks = [
        ("mesh open", "triangle-up", colour::BLACK, None),
        ("terminated", "circle", colour::GREEN, Some("Terminated")),
        ("error", "x", colour::RED, Some("Error")),
    ];
    for (name, symbol, colour, state) in marks {
        let points = shown.iter().flat_map(|job| {
            let at: Vec<f64> = match state {
                None => job.opened.iter().map(|opened| opened.at).collect(),
                Some(state) => {
                    job.states.iter().filter(|(_, s)| s == state).map(|(at, _)| *at).collect()
                }
            };
            at.into_iter().map(|at| (at, label(job)))
        });
        let (x, y): (Vec<f64>, Vec<String>) = points.unzip();
        if !x.is_empty() {
            data.push(json!({
                "type": "scatter", "mode": "markers", "name": name, "x": x, "y": y,
                "marker": {"symbol": symbol, "size": 9, "color": colour,
                           "line": {"width": 1, "color": "white"}},
                "hovertemplate": format!("%{{y}}<br>{name} at %{{x:.2f}} s<extra></extra>"),
            }));
        }
    }
    let names: Vec<String> = shown.iter().map(label).collect();
    let mut layout = layout(130 + 22 * names.len().max(3), time_axis(run), name_axis(&names));
    layout["barmode"] = json!("overlay");
    mark_faults(run, &mut layout);
    let left_out = match run.jobs.len() - shown.len() {
        0 => String::new(),
        _ => format!(
            " The first {} of {} jobs are shown; jobs.csv has all.",
            shown.len(),
            run.jobs.len()
        ),
    };
    Some(Figure {
        id: "job-gantt",
        title: "Life of each job".to_owned(),
        caption: format!("From submission to end.{left_out}"),
        data,
        layout,
    })
}

/// One row for each node that ran a command.
pub(super) fn by_node(run: &Run) -> Option<Figure> {
    let busy: Vec<&str> = run
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .filter(|name| commands(run).any(|command| command.node == *name))
        .collect();
    if busy.is_empty() {
        return None;
    }
    let shown = &busy[..busy.len().min(MOST_ROWS)];
    let mut by_job: BTreeMap<&JobKey, Vec<(String, f64, f64, String)>> = BTreeMap::new();
    for command in commands(run).filter(|command| shown.contains(&command.node)) {
        let Command { job, rank, node, from, to } = command;
        let (from_text, to_text) = (seconds(from), seconds(to));
        let label = plain(node);
        let text = format!("{label}<br>job {job}, rank {rank}<br>from {from_text} to {to_text}");
        by_job.entry(job).or_default().push((label, from, to, text));
    }
    // A colour for each job where they can be told apart; otherwise neighbours differ.
    let few = by_job.len() <= colour::LINES.len();
    let jobs = by_job.into_iter().zip(colour::LINES.iter().cycle());
    let data = jobs.map(|((job, bars), colour)| {
        let name = format!("job {job}");
        let mut trace = Bars { name: &name, colour, bars }.trace();
        trace["showlegend"] = json!(few);
        trace
    });
    let data = data.collect();
    let names: Vec<String> = shown.iter().map(|name| plain(name)).collect();
    let mut layout = layout(120 + 20 * names.len().max(3), time_axis(run), name_axis(&names));
    layout["barmode"] = json!("overlay");
    mark_faults(run, &mut layout);
    let left_out = match busy.len() - shown.len() {
        0 => String::new(),
        _ => format!(" The first {} of {} nodes are shown.", shown.len(), busy.len()),
    };
    Some(Figure {
        id: "node-gantt",
        title: "What ran on each node".to_owned(),
        caption: format!(
            "Each bar is the command of one rank, from its start to its end.{left_out}"
        ),
        data,
        layout,
    })
}

/// The command of a rank.
struct Command<'a> {
    job: &'a JobKey,
    rank: u32,
    node: &'a str,
    from: f64,
    to: f64,
}

fn commands(run: &Run) -> impl Iterator<Item = Command<'_>> {
    run.jobs.iter().flat_map(|job| {
        job.commands.iter().filter_map(move |(launch, (from, to))| {
            let node = job.ranks.get(launch)?;
            Some(Command { job: &job.id, rank: launch.1, node, from: *from, to: *to })
        })
    })
}
