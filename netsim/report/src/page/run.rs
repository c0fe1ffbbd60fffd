//! The page of one run.

use maud::{Markup, html};

use super::tables::{self, table};
use super::{page, place};
use crate::event::PathKind;
use crate::figures;
use crate::info::RunState;
use crate::model::Run;

/// The longest scenario that the page shows in full.
const MOST_SCENARIO: usize = 100_000;

/// The page of a run.
pub fn render(run: &Run) -> String {
    let figures = figures::of(run);
    let title = title(run);
    let drawn = |id: &[&str]| -> Markup {
        let of = figures.iter().filter(|figure| id.contains(&figure.id));
        html! { @for figure in of { (place(figure)) } }
    };
    let content = html! {
        h1 { (title) }
        (verdict(run))
        (missing(run))
        (numbers(run))
        (tables::expectations(run))
        @if !run.notes.is_empty() {
            ul #notes { @for note in &run.notes { li { (note) } } }
        }
        @if !run.faults.is_empty() { (tables::faults(run)) }
        @if !run.jobs.is_empty() {
            h2 { "Jobs" }
            (drawn(&["job-counts", "job-gantt", "node-gantt"]))
            (tables::jobs(run))
        }
        @if !run.pairs.is_empty() {
            h2 { "Paths" }
            (drawn(&["kind-matrix", "path-counts", "path-timeline", "mesh-time", "rtt-matrix"]))
            (tables::mispredicted(run))
            (tables::relayed(run))
        }
        h2 { "Throughput" }
        @if figures.iter().any(|figure| matches!(figure.id, "throughput" | "pair-throughput")) {
            (drawn(&["throughput", "pair-throughput"]))
        } @else {
            p.quiet { "No bytes were recorded." }
        }
        @if run.volunteers().next().is_some() {
            h2 { "Volunteers" }
            (drawn(&["volunteer-count", "availability"]))
            (tables::nodes(run))
        }
        h2 { "How this was made" }
        (origin(run))
        @if !run.scenario.is_empty() {
            details open[run.scenario.len() < 3000] {
                summary { "The scenario" }
                pre { (cut(&run.scenario)) }
            }
        }
        (tables::steps(run))
    };
    page(&title, &content, &figures)
}

fn title(run: &Run) -> String {
    let info = &run.info;
    if info.title.is_empty() { info.scenario.clone() } else { info.title.clone() }
}

fn verdict(run: &Run) -> Markup {
    let (class, word) = match run.info.passed {
        Some(true) => ("verdict passed", "PASSED"),
        Some(false) => ("verdict failed", "FAILED"),
        None if run.info.state == RunState::Interrupted => ("verdict", "INTERRUPTED"),
        None => ("verdict", "INCOMPLETE"),
    };
    let backend = match run.info.backend {
        crate::event::Backend::Lab => "the real programs in kernel namespaces",
        crate::event::Backend::Sim => "the overlay's core in the simulator, in virtual time",
    };
    html! {
        p { span class=(class) { (word) } " " span.quiet {
            (run.info.scenario) ", seed " (run.info.seed) ": " (backend) ", "
            (tables::utc(run.info.started_ms))
        } }
    }
}

fn missing(run: &Run) -> Markup {
    html! {
        @if !run.missing.is_empty() {
            div.warning id="missing" {
                b { "Not all of this run is here. Missing:" }
                ul { @for what in &run.missing { li { (what) } } }
            }
        }
    }
}

/// What a reader wants to know first.
fn numbers(run: &Run) -> Markup {
    let settled = |kind| run.pairs.values().filter(|pair| pair.settled() == kind).count();
    let metrics = crate::metrics::of(run);
    let value = |name: &str| metrics.iter().find(|m| m.name == name).and_then(|m| m.value);
    let met = run.expectations.iter().filter(|expectation| expectation.met).count();
    let mut shown: Vec<(String, &str)> = vec![
        (format!("{:.1} s", run.end), "from start to end"),
        (run.volunteers().count().to_string(), "volunteers"),
        (run.jobs.len().to_string(), "jobs"),
    ];
    if !run.expectations.is_empty() {
        shown.push((format!("{met} of {}", run.expectations.len()), "expectations hold"));
    }
    if !run.pairs.is_empty() {
        let direct = settled(PathKind::Direct);
        shown.push((format!("{direct} of {}", run.pairs.len()), "ordered pairs ended direct"));
    }
    if let Some(open) = value("mesh_open_median_s") {
        shown.push((format!("{open:.2} s"), "assignment to open mesh (median)"));
    }
    if let Some(rtt) = value("rtt_median_ms") {
        shown.push((format!("{rtt:.2} ms"), "round trip (median)"));
    }
    html! {
        div.numbers {
            @for (number, what) in &shown { div { b { (number) } span.quiet { (what) } } }
        }
    }
}

fn origin(run: &Run) -> Markup {
    let info = &run.info;
    let machine = &info.machine;
    let mut rows: Vec<Vec<String>> = vec![
        vec!["scenario".into(), info.scenario.clone()],
        vec!["seed".into(), info.seed.to_string()],
        vec!["back end".into(), info.backend.name().to_owned()],
        vec!["command".into(), info.command_line.join(" ")],
        vec!["began".into(), tables::utc(info.started_ms)],
    ];
    if !info.overrides.is_empty() {
        rows.insert(2, vec!["set".into(), info.overrides.join(", ")]);
    }
    rows.extend(info.versions.iter().map(|(name, version)| vec![name.clone(), version.clone()]));
    rows.push(vec!["kernel".into(), info.kernel.clone()]);
    rows.push(vec![
        "machine".into(),
        format!(
            "{}, {} cores of {}, {} MiB",
            machine.architecture, machine.cores, machine.processor, machine.memory_mib
        ),
    ]);
    table("origin", &["", ""], rows)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_SCENARIO) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}\n[the rest is in scenario.toml]", &text[..at]),
    }
}
