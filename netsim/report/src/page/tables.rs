//! The tables of a run's page.

use maud::{Markup, html};

use crate::event::PathKind;
use crate::model::Run;

/// The most rows that a table shows: the CSV files have all.
const MOST_ROWS: usize = 200;

/// The longest text that stays on one line, bytes: names of nodes.
const SHORT: usize = 24;

/// A table. Columns whose header ends in a unit in parentheses, or begins with `#`, are numbers.
pub(crate) fn table(id: &str, header: &[&str], rows: Vec<Vec<String>>) -> Markup {
    let is_number =
        |at: usize| header.get(at).is_some_and(|h| h.starts_with('#') || h.ends_with(')'));
    let class = |at: usize| if is_number(at) { "number" } else { "" };
    let class_of = |at: usize, cell: &str| match class(at) {
        "" if cell.len() <= SHORT => "short",
        class => class,
    };
    let all = rows.len();
    html! {
        div.scroll {
            table id=(id) {
                @if header.iter().any(|name| !name.is_empty()) {
                    thead { tr {
                        @for (at, name) in header.iter().enumerate() {
                            th class=(class(at)) { (name.trim_start_matches('#')) }
                        }
                    } }
                }
                tbody {
                    @for row in rows.iter().take(MOST_ROWS) {
                        tr { @for (at, cell) in row.iter().enumerate() { td class=(class_of(at, cell)) { (cell) } } }
                    }
                }
            }
        }
        @if all > MOST_ROWS {
            p.quiet { "The first " (MOST_ROWS) " of " (all) " rows; the CSV files have all." }
        }
    }
}

pub(super) fn expectations(run: &Run) -> Markup {
    let row = |expectation: &crate::model::Expectation| {
        let verdict = if expectation.met { "holds" } else { "DOES NOT HOLD" };
        vec![verdict.to_owned(), expectation.text.clone(), expectation.found.clone()]
    };
    // What does not hold comes first.
    let (met, unmet): (Vec<_>, Vec<_>) = run.expectations.iter().partition(|e| e.met);
    let rows: Vec<Vec<String>> = unmet.into_iter().chain(met).map(row).collect();
    let failures = run.failures.iter().map(|(at, text)| vec![format!("{at:.2}"), text.clone()]);
    html! {
        @if !run.failures.is_empty() {
            h2 { "Failures" }
            (table("failures", &["at (s)", "what"], failures.collect()))
        }
        @if !rows.is_empty() {
            h2 { "Expectations" }
            (table("expectations", &["", "expected", "found"], rows))
        }
    }
}

pub(super) fn faults(run: &Run) -> Markup {
    let rows = (1..).zip(&run.faults).map(|(number, fault)| {
        vec![format!("{number}"), format!("{:.2}", fault.at), fault.text.clone()]
    });
    html! {
        h2 { "Events" }
        p.caption { "Figures over time mark them with these numbers." }
        (table("events", &["#", "at (s)", "what"], rows.collect()))
    }
}

pub(super) fn jobs(run: &Run) -> Markup {
    let optional = |value: Option<f64>| value.map_or_else(String::new, |t| format!("{t:.2}"));
    let rows = run.jobs.iter().map(|job| {
        vec![
            job.id.to_string(),
            job.command.clone(),
            job.nodes.to_string(),
            job.state().to_owned(),
            job.exit.map_or_else(String::new, |exit| exit.to_string()),
            format!("{:.2}", job.submitted),
            optional(job.started()),
            optional(job.ended()),
            optional(job.opened.last().map(|opened| opened.after)),
        ]
    });
    let header = [
        "#job",
        "command",
        "#nodes",
        "state",
        "#exit",
        "submitted (s)",
        "started (s)",
        "ended (s)",
        "assigned to mesh open (s)",
    ];
    table("jobs", &header, rows.collect())
}

pub(super) fn nodes(run: &Run) -> Markup {
    let last = |series: &[(f64, f64)]| {
        let grown =
            series.last().map_or(0.0, |(_, v)| *v) - series.first().map_or(0.0, |(_, v)| *v);
        format!("{:.2}", grown.max(0.0) / 1e6)
    };
    let several = run.volunteers().any(|node| !node.coordinator.is_empty());
    let rows = run.volunteers().map(|node| {
        let up: f64 = node.up.iter().map(|(from, to)| to - from).sum();
        let whose = several.then(|| node.coordinator.clone());
        let first = [node.name.clone(), node.behind.clone(), node.region.clone()];
        let rest = [
            format!("{:.1}", 100.0 * up / run.end.max(1e-9)),
            node.up.len().to_string(),
            node.crashes.to_string(),
            last(&node.sent),
            last(&node.received),
        ];
        first.into_iter().chain(whose).chain(rest).collect()
    });
    let rest = ["agent at work (%)", "#starts", "#crashes", "sent (MB)", "received (MB)"];
    let header: Vec<&str> = ["node", "behind", "region"]
        .into_iter()
        .chain(several.then_some("coordinator"))
        .chain(rest)
        .collect();
    let rows: Vec<Vec<String>> = rows.collect();
    html! {
        details open[rows.len() <= 20] {
            summary { "Each volunteer" }
            (table("nodes", &header, rows))
        }
    }
}

/// Pairs whose path is not the best that there can be.
pub(super) fn mispredicted(run: &Run) -> Markup {
    if run.predicted.is_empty() {
        return html! {};
    }
    let mut rows = Vec::new();
    let mut looked_at = 0;
    for (key, pair) in &run.pairs {
        let Some(predicted) = run.predicted(key) else { continue };
        looked_at += 1;
        if !predicted.allows(pair.settled()) {
            rows.push(vec![
                key.job.to_string(),
                key.from.clone(),
                key.to.clone(),
                predicted.name().to_owned(),
                pair.settled().name().to_owned(),
                pair.explain().to_owned(),
            ]);
        }
    }
    html! {
        h3 { "Prediction and outcome" }
        @if rows.is_empty() {
            p { "All " (looked_at) " ordered pairs ended on the path that RFC 4787 lets one expect." }
        } @else {
            p { (rows.len()) " of " (looked_at) " ordered pairs did not end on the path that RFC 4787 \
                 lets one expect:" }
            (table("mispredicted", &["#job", "from", "to", "predicted", "ended", "reported reason"], rows))
        }
    }
}

/// Why pairs are relayed.
pub(super) fn relayed(run: &Run) -> Markup {
    let relayed = run.pairs.iter().filter(|(_, pair)| pair.settled() == PathKind::Relayed);
    let rows: Vec<Vec<String>> = relayed
        .map(|(key, pair)| {
            let via = pair.history.iter().rev().find_map(|stretch| stretch.via.clone());
            vec![
                key.job.to_string(),
                key.from.clone(),
                key.to.clone(),
                via.unwrap_or_default(),
                pair.median_rtt().map_or_else(String::new, |rtt| format!("{rtt:.2}")),
                pair.explain().to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        details open[rows.len() <= 20] {
            summary { (rows.len()) " ordered pairs ended relayed" }
            (table("relayed", &["#job", "from", "to", "via", "RTT (ms)", "why"], rows))
        }
    }
}

pub(super) fn steps(run: &Run) -> Markup {
    if run.steps.is_empty() {
        return html! {};
    }
    let ends = run.steps.iter().skip(1).map(|(at, _)| *at).chain([run.end]);
    let rows = run.steps.iter().zip(ends).map(|((at, name), end)| {
        vec![format!("{at:.2}"), format!("{:.2}", (end - at).max(0.0)), name.clone()]
    });
    html! {
        details {
            summary { "Steps of the run" }
            (table("steps", &["at (s)", "took (s)", "step"], rows.collect()))
        }
    }
}

/// A moment for people.
pub(super) fn utc(unix_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', " UTC")
}
