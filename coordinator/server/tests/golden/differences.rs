//! Where the coordinator answers other than OAR 2.5.9, and why: `differences.txt`.
//!
//! A line is `KIND | EXCHANGES | DIFFERENCE | REASON`. The kinds: `strictness`, OAR lets through what it should
//! refuse; `fault`, OAR breaks; `extension`, there is more here than in OAR; `setting`, the recorded machine was
//! another one (its names, its accounts, its configuration); `missing`, not built yet: the row goes when it is.

use std::collections::BTreeSet;

const KINDS: [&str; 5] = ["strictness", "fault", "extension", "setting", "missing"];

/// One difference, in one or more exchanges.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) exchanges: BTreeSet<u32>,
    /// As the comparison words it.
    pub(crate) found: String,
    pub(crate) reason: String,
}

pub(crate) fn table() -> Vec<Row> {
    let lines = include_str!("differences.txt").lines();
    lines.filter(|line| !line.starts_with('#') && !line.is_empty()).map(row).collect()
}

fn row(line: &str) -> Row {
    let fields: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let [kind, exchanges, found, reason] = fields[..] else { panic!("not four fields: {line}") };
    assert!(KINDS.contains(&kind), "{line}");
    let exchanges = exchanges.split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    });
    Row { exchanges: exchanges.collect(), found: found.to_owned(), reason: reason.to_owned() }
}
