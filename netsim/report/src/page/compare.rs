//! The pages over several runs: comparisons and sweeps.

use maud::{Markup, html};

use super::tables::table;
use super::{page, place};
use crate::figures::compare::{Points, mesh_times, over_parameter};
use crate::metrics;
use crate::model::Run;

/// The page that shows runs side by side: name and run.
pub fn render(runs: &[(String, Run)]) -> String {
    let figures: Vec<_> = mesh_times(runs).into_iter().collect();
    let numbers: Vec<_> = runs.iter().map(|(_, run)| metrics::of(run)).collect();
    let titles = numbers.first().map(Vec::as_slice).unwrap_or_default();
    let rows = titles.iter().enumerate().map(|(at, metric)| {
        let of = |run: &Vec<metrics::Metric>| number(run.get(at).and_then(|metric| metric.value));
        std::iter::once(metric.title.to_owned()).chain(numbers.iter().map(of)).collect()
    });
    let about = runs.iter().map(|(name, run)| {
        let verdict = match run.info.passed {
            Some(true) => "passed",
            Some(false) => "FAILED",
            None => "incomplete",
        };
        vec![
            name.clone(),
            verdict.to_owned(),
            run.info.scenario.clone(),
            run.info.overrides.join(", "),
            run.info.seed.to_string(),
            run.info.backend.name().to_owned(),
            run.missing.join("; "),
        ]
    });
    let header: Vec<String> = runs.iter().map(|(name, _)| format!("#{name}")).collect();
    let header: Vec<&str> = std::iter::once("").chain(header.iter().map(String::as_str)).collect();
    let title = format!("{} runs side by side", runs.len());
    let content = html! {
        h1 { (title) }
        (table("runs", &["run", "", "scenario", "set", "#seed", "back end", "missing"], about.collect()))
        @for figure in &figures { (place(figure)) }
        h2 { "Numbers" }
        (table("numbers", &header, rows.collect()))
    };
    page(&title, &content, &figures)
}

/// The identifiers of a sweep's figures.
const IDS: [&str; 19] = [
    "metric-1",
    "metric-2",
    "metric-3",
    "metric-4",
    "metric-5",
    "metric-6",
    "metric-7",
    "metric-8",
    "metric-9",
    "metric-10",
    "metric-11",
    "metric-12",
    "metric-13",
    "metric-14",
    "metric-15",
    "metric-16",
    "metric-17",
    "metric-18",
    "metric-19",
];

/// The page of a sweep: one figure for each number over the parameter.
pub fn render_sweep(
    title: &str,
    parameter: &str,
    points: &[Points],
    header: &[&str],
    rows: Vec<Vec<String>>,
) -> String {
    // What is the same everywhere is said in the table, and needs no figure.
    let varies = |points: &&Points| {
        let mut values = points.at.iter().flat_map(|(_, values)| values);
        let first = values.next();
        first.is_some_and(|first| values.any(|value| value != first))
    };
    let figures: Vec<_> = points
        .iter()
        .filter(varies)
        .zip(IDS)
        .filter_map(|(points, id)| over_parameter(id, parameter, points))
        .collect();
    let content: Markup = html! {
        h1 { (title) }
        p.caption { "Points: each run. Line: the median over the seeds; bars: the quartiles. Numbers \
                     that are the same in all runs have no figure." }
        @for figure in &figures { (place(figure)) }
        h2 { "All runs" }
        (table("points", header, rows))
    };
    page(title, &content, &figures)
}

/// A number for people.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.fract() == 0.0 && value.abs() < 1e9 => format!("{value:.0}"),
        Some(value) if value.abs() < 10.0 => format!("{value:.3}"),
        Some(value) => format!("{value:.1}"),
    }
}
