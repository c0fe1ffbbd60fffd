//! What runs leave behind: `netsim run --out`, `netsim report`, `netsim sweep`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use netsim::wait;
use netsim_report::model::Run;
use netsim_report::{Event, PathKind, RunState, What, read};

const SOON: Duration = Duration::from_secs(40);

const PAIR: &str = r#"
title = "two volunteers behind routers"

[coordinator]
poll-interval = "250ms"

[[volunteers]]
behind = "home"
count = 2

[[job]]
nodes = 2
types = ["mesh", "spmd"]
command = "./nqueens 8 --exchange 1MiB"
files = ["nqueens"]
"#;

const ONE: &str = r#"
[coordinator]
poll-interval = "250ms"

[[volunteers]]
behind = "none"
count = 1

[[job]]
command = "echo hello"
"#;

fn netsim(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.args(args).stdin(Stdio::null());
    command
}

/// The exit status and what was said.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn events(dir: &Path) -> Vec<Event> {
    let text = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_leaves_all_that_is_needed_to_publish_it() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("pair.toml"), temp.path().join("out"));
    fs::write(&file, PAIR).unwrap();
    let (file, dir) = (file.to_str().unwrap(), out.to_str().unwrap());

    // A slip is found before the run.
    let (status, text) = said(&mut netsim(&["run", file, "--out", dir, "--pcap", "vol-9"]));
    assert!(status == Some(1) && text.contains("there is no such node"), "{text}");

    let (status, text) = said(&mut netsim(&[
        "run", file, "--out", dir, "--seed", "5", "--pcap", "vol-1", "--pcap", "vol-1-r0",
    ]));
    assert_eq!(status, Some(0), "{text}");

    let contents = read::read(&out).unwrap();
    assert_eq!(contents.missing, Vec::<String>::new());
    let info = &contents.info;
    assert_eq!((info.state, info.passed, info.seed), (RunState::Finished, Some(true), 5));
    for program in ["netsim", "agent", "coordinator", "oar"] {
        let version = &info.versions[program];
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{program}: {version}");
    }
    let run = Run::of(contents);
    assert_eq!((run.volunteers().count(), run.jobs.len(), run.pairs.len()), (2, 1, 2));
    assert_eq!(run.jobs[0].state(), "Terminated");
    for (key, pair) in &run.pairs {
        assert_eq!(pair.settled(), PathKind::Direct, "{key:?}");
        assert!(pair.bytes() >= 1 << 20, "{key:?}: {} bytes", pair.bytes());
        assert!(pair.median_rtt().is_some(), "{key:?}");
        assert_eq!(run.predicted(key), Some(PathKind::Direct));
    }
    for node in run.volunteers() {
        let grown = node.sent.last().unwrap().1 - node.sent.first().unwrap().1;
        assert!(grown > f64::from(1 << 20), "{}: {grown} bytes on the wire", node.name);
    }
    let all = events(&out);
    assert!(matches!(all.first().unwrap().what, What::RunStart { seed: 5, .. }));
    assert!(matches!(all.last().unwrap().what, What::RunEnd { passed: true, .. }));
    assert!(all.iter().any(|event| matches!(event.what, What::MeshOpen { job: 1, .. })));

    // Whole packets, of the mesh's own protocol among others.
    for node in ["vol-1", "vol-1-r0"] {
        let capture = out.join(format!("captures/{node}.pcap"));
        let read = Command::new("tcpdump").args(["-n", "-r"]).arg(&capture).output().unwrap();
        assert!(read.status.success(), "{node}: {}", String::from_utf8_lossy(&read.stderr));
        let packets = String::from_utf8_lossy(&read.stdout);
        assert!(packets.lines().count() > 500 && packets.contains("UDP"), "{node}");
    }
    for log in ["vol-1/agent.log", "coordinator/coordinator.log", "coordinator/coordinator.out"] {
        let text = fs::read_to_string(out.join("logs").join(log)).unwrap();
        assert!(!text.contains("cah-join-1."), "{log} holds a token");
    }
    assert!(!out.join("logs/vol-1/state").exists());
    let pairs = fs::read_to_string(out.join("pairs.csv")).unwrap();
    assert_eq!(pairs.lines().count(), 3, "{pairs}");

    // The same page again, and a directory that is used is not used again.
    let page = fs::read(out.join("report.html")).unwrap();
    let (status, text) = said(&mut netsim(&["report", dir]));
    assert!(status == Some(0) && text.contains("passed"), "{text}");
    assert!(fs::read(out.join("report.html")).unwrap() == page, "the page has changed");
    let (status, text) = said(&mut netsim(&["run", file, "--out", dir]));
    assert!(status == Some(1) && text.contains("is not empty"), "{text}");
}

#[test]
fn a_killed_run_can_be_reported_as_far_as_it_came() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("pair.toml"), temp.path().join("out"));
    fs::write(&file, PAIR).unwrap();
    let args = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let mut run = netsim(&args).env("TMPDIR", temp.path()).stderr(Stdio::null()).spawn().unwrap();
    wait::until("the agents", SOON, || {
        let text = fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
        text.contains(r#""kind":"up","node":"vol-2""#).then_some(())
    })
    .unwrap();
    run.kill().unwrap();
    run.wait().unwrap();

    let (status, text) = said(&mut netsim(&["report", out.to_str().unwrap()]));

    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("incomplete") && text.contains("missing: the end of the run"), "{text}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("INCOMPLETE") && page.contains("vol-2"));
}

#[test]
fn a_sweep_goes_on_after_a_broken_run_and_where_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("one.toml"), temp.path().join("sweep"));
    fs::write(&file, ONE).unwrap();
    let args = ["sweep", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    // No volunteers is no scenario: that run cannot even begin.
    let mut sweep = netsim(&args);
    sweep.args(["--set", "volunteers.count=0,1,2"]);

    let (status, text) = said(&mut sweep);

    assert_eq!(status, Some(1), "{text}");
    let outcomes = |text: &str| -> Vec<String> {
        let rows = text.lines().skip(1);
        rows.map(|row| row.split(',').nth(2).unwrap().to_owned()).collect()
    };
    let table = fs::read_to_string(out.join("sweep.csv")).unwrap();
    assert_eq!(outcomes(&table), ["broken", "passed", "passed"], "{text}");
    assert!(text.contains("2 of 3 runs passed"), "{text}");
    let log = fs::read_to_string(out.join("points/volunteers.count=0,seed=1.log")).unwrap();
    assert!(!log.is_empty());
    let summary = fs::read_to_string(out.join("summary.csv")).unwrap();
    assert!(summary.contains("\n2,volunteers,1,2,2,2,2,2\n"), "{summary}");
    let page = fs::read_to_string(out.join("sweep.html")).unwrap();
    assert!(page.contains("3 runs") && page.contains("metric-1"));

    // What is finished stays as it is; another sweep does not go there.
    let kept = out.join("points/volunteers.count=1,seed=1/run.json");
    let before = fs::read(&kept).unwrap();
    let (status, text) = said(&mut sweep);
    assert!(status == Some(1) && text.matches("was there").count() == 2, "{text}");
    assert_eq!(fs::read(&kept).unwrap(), before);
    let (status, text) = said(netsim(&args).args(["--set", "volunteers.count=1"]));
    assert!(status == Some(1) && text.contains("holds another sweep"), "{text}");
}
