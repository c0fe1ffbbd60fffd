//! Every scenario that is shipped, run with the real programs: all that it expects holds, and nothing
//! is left. As many at a time as there are processors, since most of them wait for their slow lines; those
//! that start dozens of programs or compute are alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock};

use netsim_report::model::{PairKey, Run};
use netsim_report::{JobKey, PathKind, read};
use serde_json::Value;

/// The folder that they are shipped in.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// Runs a scenario; returns its report.
fn run(name: &str) -> Value {
    run_with(name, &[])
}

/// Those that two processors bear nothing beside.
const HEAVY: [&str; 3] = ["mpi", "nat-matrix", "povray-campaign"];

fn run_with(name: &str, more: &[&str]) -> Value {
    static MACHINE: RwLock<()> = RwLock::new(());
    let is_heavy = HEAVY.contains(&name);
    let _alone = is_heavy.then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let _shared = (!is_heavy).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    let temporary = tempfile::tempdir().unwrap();
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.env("TMPDIR", temporary.path()).stdin(Stdio::null());
    let scenario = folder().join(name).with_extension("toml");
    command.arg("run").arg(scenario).arg("--json").arg(report.path()).args(more);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = [text(&output.stdout), text(&output.stderr)].concat();
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{name} has left {left:?}");
    let report: Value = serde_json::from_slice(&fs::read(report.path()).unwrap()).unwrap();
    assert_eq!(report["passed"], true, "{name}");
    report
}

/// While a coordinator is away, nothing of the other's gets worse: both have a job 1, and a node `vol-1`.
#[test]
fn two_coordinators_share_nothing_but_the_internet() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let report = run_with("two-clusters", &["--out", out.to_str().unwrap()]);

    let jobs = report["jobs"].as_array().unwrap().iter();
    let jobs: BTreeMap<&str, &Value> =
        jobs.map(|job| (job["coordinator"].as_str().unwrap(), job)).collect();
    assert_eq!(jobs.keys().copied().collect::<Vec<_>>(), ["coordinator", "west"]);
    assert!(jobs.values().all(|job| job["id"] == 1), "{report:#}");
    let hosts = |of: &str| -> BTreeSet<&str> {
        let nodes = jobs[of]["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["host"].as_str().unwrap()).collect()
    };
    assert_eq!(hosts("coordinator"), BTreeSet::from(["vol-1", "vol-2", "vol-3"]));
    assert_eq!(hosts("west"), BTreeSet::from(["vol-4", "vol-5", "vol-6"]));
    assert_eq!(jobs["coordinator"]["solutions"], 724);
    assert_eq!(jobs["west"]["solutions"], 2680);

    let run = Run::of(read::read(&out).unwrap());
    let fault = |name: &str| run.faults.iter().find(|it| it.text.starts_with(name)).unwrap().at;
    let (from, to) = (fault("coordinator-kill"), fault("coordinator-start"));
    let own = |key: &&PairKey| key.job == JobKey::new("west", 1);
    assert_eq!(run.pairs.keys().filter(own).count(), 6);
    for (key, pair) in run.pairs.iter().filter(|(key, _)| own(key)) {
        let mut best = PathKind::None;
        for stretch in pair.history.iter().filter(|it| it.from < to && it.to > from) {
            assert!(stretch.path >= best, "{key:?} got worse: {:?}", pair.history);
            best = stretch.path;
        }
    }
    let told = fs::read_to_string(out.join("events.jsonl")).unwrap();
    let suspected = told.lines().find(|line| line.contains("Suspected"));
    assert_eq!(suspected, None);
    for program in ["coordinator/coordinator.log", "west/coordinator.log", "vol-4/agent.log"] {
        assert!(out.join("logs").join(program).is_file(), "there is no {program}");
    }
}

/// It says how many it would start, and what runs it.
#[test]
fn ten_thousand_volunteers_are_refused_by_the_laboratory() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.arg("run").arg(folder().join("sim-10k.toml")).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("10000 volunteers") && said.contains("--backend sim"), "{said}");
}

/// `check` tells it, and `run` does not begin.
#[test]
fn a_job_that_names_a_program_which_is_not_there_costs_no_run() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("typo.toml");
    let text = "[[volunteers]]\nbehind = \"home\"\n[[job]]\ncommand = \"./nquens 8\"\nfiles = [\"nquens\"]\n";
    fs::write(&file, text).unwrap();
    let netsim = |verb| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
        command.env("TMPDIR", temporary.path()).stdin(Stdio::null());
        command.arg(verb).arg(&file).output().unwrap()
    };

    let (checked, run) = (netsim("check"), netsim("run"));

    let sentence = "there is no program `nquens` beside netsim";
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && told.contains(sentence), "{told}");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains(sentence), "{said}");
    assert!(!said.contains("building the networks"), "{said}");
}

/// One test for each scenario.
macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($name);
            }
        )*

        /// A scenario that nobody runs is one that nobody knows to work.
        #[test]
        fn every_scenario_that_is_shipped_has_a_test() {
            let shipped: BTreeSet<String> = fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == "toml"))
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            // The main job is the demonstration's own: `.ci/run demo` runs it, twice; sim-10k is for
            // virtual time (netsim/virtual/tests/large.rs).
            let elsewhere =
                ["nqueens", "nqueens-small", "sim-10k", "two-symmetric", "two-clusters"];
            let tested = [$($name),*].into_iter().chain(elsewhere).map(str::to_owned).collect();
            assert_eq!(shipped, tested);
        }
    };
}

scenarios! {
    every_kind_of_nat_meets_every_other: "nat-matrix",
    work_without_a_mesh_needs_no_udp: "udp-blocked",
    what_is_on_the_lan_stays_there: "campus",
    a_laptop_moves_in_the_middle_of_a_job: "roaming",
    lines_fail_and_routers_start_again: "flaky-dsl",
    homes_meet_behind_one_carrier: "carrier-nat",
    guests_of_a_hotel: "hotel-wifi",
    the_relay_dies: "relay-death",
    the_coordinator_is_away: "coordinator-outage",
    volunteers_come_and_go: "churn-seti",
    a_campaign_becomes_a_film: "povray-campaign",
    unmodified_mpi_runs_over_a_jobs_network: "mpi",
}
