//! The page: figures, who meets whom, and a row for each two kinds.

use super::super::figures::Results;
use super::{Measured, Summary, must_be_direct};
use netsim_report::reached::Reached;

/// Those figures have a part of the page of their own.
const OUTAGES: &str = "lab: ";

/// What stands between the page's marks.
pub fn markdown(measured: &Measured, results: &Results) -> String {
    let head = Results {
        header: results.header.clone(),
        figures: results
            .figures
            .iter()
            .filter(|f| !f.name.contains(" × ") && !f.name.starts_with(OUTAGES))
            .cloned()
            .collect(),
    };
    format!("{}\n{}\n{}", head.markdown(), matrix(measured), rows(measured))
}

/// Kinds against kinds: the time to a direct path, or that there is none.
fn matrix(measured: &Measured) -> String {
    let kinds = &measured.kinds;
    let numbers: String = (1..=kinds.len()).map(|number| format!(" {number} |")).collect();
    let mut text = format!(
        "Median time from the netmap to a direct path, seconds; R: relayed, as the oracle says. Where only some \
         pairs were direct, how many.\n\n| |{numbers}\n|---|{}\n",
        "---:|".repeat(kinds.len())
    );
    for (index, a) in kinds.iter().enumerate() {
        let cells: String = kinds.iter().map(|b| format!(" {} |", cell(measured, a, b))).collect();
        text += &format!("| {} {a} |{cells}\n", index + 1);
    }
    text
}

fn cell(measured: &Measured, a: &str, b: &str) -> String {
    let pairs: Vec<&Reached> = measured.between(a, b).collect();
    let summary = Summary::of(&pairs);
    let time = summary.to_direct[0].map_or_else(|| "?".to_owned(), |time| format!("{time:.2}"));
    let part = 100.0 * summary.direct as f64 / summary.count.max(1) as f64;
    match (summary.count, summary.direct) {
        (0, _) => String::new(),
        (_, 0) if summary.predicted.is_some_and(must_be_direct) => "**R**".to_owned(),
        (_, 0) => "R".to_owned(),
        (count, direct) if count == direct => time,
        _ => format!("{time} ({part:.0} %)"),
    }
}

/// A row for each two kinds.
fn rows(measured: &Measured) -> String {
    let mut text = "Each two kinds, median / 95th percentile:\n\n\
         | networks | oracle | direct | first byte | direct path |\n|---|---|---:|---:|---:|\n"
        .to_owned();
    let times = |[median, p95]: [Option<f64>; 2]| match (median, p95) {
        (Some(median), Some(p95)) => format!("{median:.2} / {p95:.2} s"),
        _ => "–".to_owned(),
    };
    for (a, b) in measured.pairs_of_kinds() {
        let pairs: Vec<&Reached> = measured.between(a, b).collect();
        let summary = Summary::of(&pairs);
        let Some(predicted) = summary.predicted else { continue };
        text += &format!(
            "| {a} × {b} | {} | {} of {} | {} | {} |\n",
            predicted.name(),
            summary.direct,
            summary.count,
            times(summary.first_byte),
            times(summary.to_direct),
        );
    }
    text
}
