//! Which path each pair had, and when.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Bars, Figure, colour, counts_over_time, layout, mark_faults, name_axis, plain};
use super::{seconds, stacked, time_axis};
use crate::event::PathKind;
use crate::model::{Pair, PairKey, Run};

/// The most rows: what fits on a page that is printed.
const MOST_ROWS: usize = 60;

/// From the bottom of the areas to the top.
const KINDS: [(PathKind, &str, &str); 3] = [
    (PathKind::Direct, "direct", colour::BLUE),
    (PathKind::Relayed, "relayed", colour::ORANGE),
    (PathKind::None, "none yet", colour::GREY),
];

/// How many pairs have which path.
pub(super) fn counts(run: &Run) -> Option<Figure> {
    if run.pairs.is_empty() {
        return None;
    }
    let of = |kind: PathKind| {
        let all = run.pairs.values().flat_map(|pair| &pair.history);
        let of = all.filter(|stretch| stretch.path == kind);
        of.flat_map(|stretch| [(stretch.from, 1), (stretch.to, -1)]).collect::<Vec<_>>()
    };
    let steps: Vec<Vec<(f64, i64)>> = KINDS.iter().map(|(kind, ..)| of(*kind)).collect();
    let counts = counts_over_time(&steps, run.end);
    let data =
        KINDS.iter().zip(&counts).map(|((_, name, colour), counts)| stacked(name, colour, counts));
    let data = data.collect();
    let mut layout = layout(
        320,
        time_axis(run),
        json!({"title": {"text": "ordered pairs"}, "rangemode": "tozero"}),
    );
    mark_faults(run, &mut layout);
    Some(Figure {
        id: "path-counts",
        title: "Paths of all pairs".to_owned(),
        caption: format!(
            "How many of the {} ordered pairs of nodes that share a job send directly, over a relay, \
             or not at all. A pair counts from its job's launch until its end.",
            run.pairs.len()
        ),
        data,
        layout,
    })
}

/// One row for each pair.
pub(super) fn timeline(run: &Run) -> Option<Figure> {
    if run.pairs.is_empty() {
        return None;
    }
    let mut chosen: Vec<(&PairKey, &Pair)> = run.pairs.iter().collect();
    let all = chosen.len();
    if all > MOST_ROWS {
        // The pairs that a reader looks for: those that did not end as predicted, those that changed
        // most, those that did without a direct path.
        let weight = |key: &PairKey, pair: &Pair| {
            let unexpected =
                run.predicted(key).is_some_and(|predicted| !predicted.allows(pair.settled()));
            let without = pair.seconds(PathKind::Relayed) + pair.seconds(PathKind::None);
            let part = without / run.end.max(1e-9);
            let first = if unexpected { 1e6 } else { 0.0 };
            first + pair.changes() as f64 + part.min(0.99)
        };
        chosen.sort_by(|(a, one), (b, other)| weight(b, other).total_cmp(&weight(a, one)));
        chosen.truncate(MOST_ROWS);
    }
    // Numbers in names are ordered as numbers.
    let place: BTreeMap<&str, usize> =
        (0..).zip(&run.nodes).map(|(at, node)| (node.name.as_str(), at)).collect();
    let at = |name: &str| place.get(name).copied().unwrap_or(usize::MAX);
    chosen.sort_by_key(|(key, _)| (&key.job, at(&key.from), at(&key.to)));
    let several = chosen.iter().any(|(key, _)| key.job != chosen[0].0.job);
    let label = |key: &PairKey| {
        let pair = format!("{} → {}", plain(&key.from), plain(&key.to));
        if several { format!("job {}: {pair}", key.job) } else { pair }
    };
    let data = KINDS.iter().map(|(kind, name, colour)| {
        let bars = chosen.iter().flat_map(|(key, pair)| {
            let of = pair.history.iter().filter(|stretch| stretch.path == *kind);
            of.map(|stretch| {
                let via = stretch
                    .via
                    .as_deref()
                    .map_or_else(String::new, |via| format!("<br>via {}", plain(via)));
                let rtt =
                    stretch.rtt_ms.map_or_else(String::new, |rtt| format!("<br>RTT {rtt:.2} ms"));
                let (from, to) = (seconds(stretch.from), seconds(stretch.to));
                let text = format!("{}<br>{name} from {from} to {to}{via}{rtt}", label(key));
                (label(key), stretch.from, stretch.to, text)
            })
        });
        Bars { name, colour, bars: bars.collect() }.trace()
    });
    let data = data.collect();
    let names: Vec<String> = chosen.iter().map(|(key, _)| label(key)).collect();
    let mut layout = layout(110 + 16 * names.len().max(6), time_axis(run), name_axis(&names));
    layout["barmode"] = json!("overlay");
    mark_faults(run, &mut layout);
    let left_out = match all - names.len() {
        0 => String::new(),
        _ => format!(
            " {} of {all} are shown: first those that did not end as RFC 4787 lets one expect, then those \
             with the most changes; paths.csv has all.",
            names.len()
        ),
    };
    Some(Figure {
        id: "path-timeline",
        title: "Path of each pair".to_owned(),
        caption: format!("What the first node sends to the second takes this path.{left_out}"),
        data,
        layout,
    })
}
