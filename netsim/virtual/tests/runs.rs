//! Whole scenarios in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use netsim_report::{Event, What};
use netsim_scenario::ScenarioFile;
use netsim_virtual::{Outcome, run};

const NQUEENS: &str = include_str!("../../scenarios/nqueens.toml");

/// Churn, several jobs, roaming, a router and the coordinator that start again.
const BUSY: &str = r#"
title = "many things at once"
duration = "5m"

[[routers]]
name = "cafe"
nat = "symmetric"

[[volunteers]]
mix = { home = 3, symmetric = 1, none = 1 }
count = 24
link = "adsl"
churn = { on = "60s", off = "10s" }

[[volunteers]]
behind = "home"
count = 4

[[job]]
name = "early"
nodes = 4
types = ["mesh", "spmd", "idempotent"]
command = "sleep 20"
expect = { may-fail = true, pair-bytes = "20KiB" }

[[job]]
at = "10s"
nodes = 6
types = ["mesh", "idempotent"]
command = "sleep 30"
expect = { may-fail = true }

[[event]]
at = "15s"
do = "roam"
node = "vol-25"
to = "cafe"

[[event]]
at = "25s"
do = "nat-reboot"
router = "vol-26-r0"

[[event]]
at = "40s"
do = "coordinator-kill"

[[event]]
at = "45s"
do = "coordinator-start"
"#;

/// A scenario's events as lines, and how it ended.
fn events(text: &str, seed: Option<u64>) -> (String, Outcome) {
    let file = ScenarioFile::parse(Path::new("test.toml"), text.to_owned()).unwrap();
    let resolved = file.resolve(seed).unwrap_or_else(|error| panic!("{error}"));
    let mut log = String::new();
    let outcome = run(&resolved, Instant::now(), &mut |at, what| {
        let event = Event { t: at.as_secs_f64(), what };
        log.push_str(&serde_json::to_string(&event).unwrap());
        log.push('\n');
    });
    (log, outcome.unwrap())
}

/// Without a word the machine would be one that never answers.
#[test]
fn who_has_no_udp_is_refused_by_name() {
    let text = r#"
[[volunteers]]
behind = "home"
[[volunteers]]
behind = "udp-blocked"
count = 2
[[job]]
command = "true"
"#;
    let file = ScenarioFile::parse(Path::new("test.toml"), text.to_owned()).unwrap();
    let resolved = file.resolve(None).unwrap();
    let refused = run(&resolved, Instant::now(), &mut |_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("vol-2") && refused.contains("laboratory"), "{refused}");
}

#[test]
fn nqueens_ends_as_in_the_laboratory() {
    let (log, outcome) = events(NQUEENS, None);
    assert!(outcome.passed, "{outcome:#?}\n{log}");
    assert_eq!((outcome.terminated, outcome.failed), (1, 0));
    assert_eq!(outcome.direct_pairs + outcome.relayed_pairs, 15);
}

/// No program runs: what only its output could tell is said not to be looked at, also in the event log.
#[test]
fn what_nobody_looks_at_is_said() {
    let text = r#"
duration = "10m"
[[volunteers]]
behind = "home"
[[job]]
command = "exit 3"
walltime = "5s"
[job.expect]
exit = 3
queens = 8
output = "92"
[[event]]
at = "2m"
do = "nat-reboot"
router = "vol-1-r0"
[[expect]]
that = "collected-files"
exactly = 3
"#;
    let (log, outcome) = events(text, None);
    assert!(outcome.passed, "{outcome:#?}");
    let said = outcome.not_looked_at.join("\n");
    for key in ["queens, output, exit of job job-1", "collected-files"] {
        assert!(said.contains(key) && log.contains(key), "{key}: {said}");
    }
    let felt = "nobody felt it";
    assert!(outcome.warnings.iter().any(|text| text.contains(felt)), "{:?}", outcome.warnings);
    assert!(log.contains(felt));
}

#[test]
fn times_only_grow_and_every_job_is_told_of() {
    let (log, outcome) = events(BUSY, None);
    let events: Vec<Event> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.is_sorted_by(|a, b| a.t <= b.t));
    for kind in ["churn", "fault", "job-submitted", "job-state", "rank-state", "mesh-open", "path"]
    {
        assert!(log.contains(&format!(r#""kind":"{kind}""#)), "no {kind}");
    }
    assert_eq!(outcome.terminated + outcome.failed, 2, "{outcome:#?}");
}

#[test]
fn same_seed_gives_the_same_events_byte_by_byte_and_another_seed_others() {
    let logs: Vec<String> = (1..=4).map(|seed| events(BUSY, Some(seed)).0).collect();
    for (seed, log) in (1..).zip(&logs) {
        assert!(events(BUSY, Some(seed)).0 == *log, "seed {seed} gives two logs");
    }
    for (index, log) in logs.iter().enumerate() {
        assert!(logs[..index].iter().all(|other| other != log), "two seeds give one log");
    }
}

/// The name of the variable that makes this test program print a log instead.
const PRINT: &str = "NETSIM_VIRTUAL_TEST_PRINTS_SEED";

/// Addresses of memory and the hashes of the standard library differ from process to process.
#[test]
fn other_processes_give_the_same_events() {
    if let Ok(seed) = std::env::var(PRINT) {
        print!("<log>{}</log>", events(BUSY, Some(seed.parse().unwrap())).0);
        return;
    }
    let expected = format!("<log>{}</log>", events(BUSY, Some(7)).0);
    for _ in 0..2 {
        let this = std::env::current_exe().unwrap();
        let output = Command::new(this)
            .args(["--exact", "other_processes_give_the_same_events", "--nocapture"])
            .env(PRINT, "7")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(&expected));
    }
}

/// Both number their jobs from 1, and call their first volunteer `vol-1`.
#[test]
fn two_coordinators_have_jobs_and_nodes_of_their_own_and_only_one_is_away() {
    let text = include_str!("../../scenarios/two-clusters.toml");
    let (log, outcome) = events(text, None);
    assert!(outcome.passed, "{outcome:#?}\n{log}");
    assert_eq!((outcome.terminated, outcome.failed), (2, 0));
    assert_eq!((outcome.direct_pairs, outcome.relayed_pairs), (4, 2));
    let events: Vec<Event> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own = ["vol-1", "vol-2", "vol-3"];
    let jobs = events.iter().filter_map(|event| {
        let What::MeshOpen { job, members, .. } = &event.what else { return None };
        Some((job.to_string(), members.clone()))
    });
    let jobs: BTreeMap<String, Vec<String>> = jobs.collect();
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["1", "west/1"]);
    assert!(jobs["1"].iter().all(|name| own.contains(&name.as_str())), "{jobs:?}");
    assert!(jobs["west/1"].iter().all(|name| !own.contains(&name.as_str())), "{jobs:?}");
    // Every rank and every path is that of a member of its job.
    for event in &events {
        let (job, nodes) = if let What::RankState { job, node, .. } = &event.what {
            (job, vec![node])
        } else if let What::Path { job, from, to, .. } = &event.what {
            (job, vec![from, to])
        } else {
            continue;
        };
        let members = &jobs[&job.to_string()];
        assert!(nodes.into_iter().all(|node| members.contains(node)), "{event:?}");
    }
    // While one was away, the other's mesh stood.
    let at = |wanted: &str| {
        let named =
            |event: &&Event| matches!(&event.what, What::Fault { name, .. } if name == wanted);
        events.iter().find(named).unwrap().t
    };
    let away = at("coordinator-kill")..at("coordinator-start");
    let felt = events.iter().filter(|event| away.contains(&event.t)).find(|event| {
        matches!(&event.what, What::Path { job, .. } if job.coordinator == "west")
            || matches!(&event.what, What::NodeState { .. })
    });
    assert_eq!(felt, None);
}
