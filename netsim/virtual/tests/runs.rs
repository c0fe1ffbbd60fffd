//! Whole scenarios in virtual time.

use std::path::Path;
use std::time::Instant;

use netsim_report::{Event, What};
use netsim_scenario::ScenarioFile;
use netsim_virtual::{Outcome, run};

const NQUEENS: &str = include_str!("../../scenarios/nqueens.toml");

/// A scenario's events as lines, and how it ended.
fn events(text: &str, seed: Option<u64>) -> (String, Outcome) {
    let file = ScenarioFile::parse(Path::new("test.toml"), text.to_owned()).unwrap();
    let resolved = file.resolve(seed).unwrap();
    let mut log = String::new();
    let outcome = run(&resolved, Instant::now(), &mut |at, what| {
        let event = Event { t: at.as_secs_f64(), what };
        log.push_str(&serde_json::to_string(&event).unwrap());
        log.push('\n');
    });
    (log, outcome.unwrap())
}

#[test]
fn nqueens_ends_as_in_the_laboratory() {
    let (log, outcome) = events(NQUEENS, None);
    assert!(outcome.passed, "{outcome:#?}\n{log}");
    assert_eq!((outcome.terminated, outcome.failed), (1, 0));
    assert_eq!(outcome.direct_pairs + outcome.relayed_pairs, 15);
}
