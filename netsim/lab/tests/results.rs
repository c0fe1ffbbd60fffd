//! What runs leave behind: `netsim run --out`, `netsim report`, `netsim sweep`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netsim::wait;
use netsim_report::model::Run;
use netsim_report::{Event, PathKind, RunState, What, read};
use nix::sys::signal::Signal;
use program::{end, netsim, said};

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

fn events(dir: &Path) -> Vec<Event> {
    let text = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of the interfaces of a pcapng file: the first option of each interface's block.
fn interfaces(mut bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while bytes.len() >= 12 {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if number(0) == 1 {
            let length = number(16) & 0xffff;
            names.push(String::from_utf8(bytes[20..20 + length].to_vec()).unwrap());
        }
        bytes = &bytes[number(4)..];
    }
    names
}

#[test]
fn a_run_leaves_all_that_is_needed_to_publish_it() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("pair.toml"), temp.path().join("out"));
    fs::write(&file, PAIR).unwrap();
    let (file, dir) = (file.to_str().unwrap(), out.to_str().unwrap());

    // A slip is found before the run.
    let (status, text) =
        said(&mut netsim(temp.path(), &["run", file, "--out", dir, "--pcap", "vol-9"]));
    assert!(status == Some(1) && text.contains("there is no such node"), "{text}");

    let (status, text) = said(&mut netsim(
        temp.path(),
        &["run", file, "--out", dir, "--seed", "5", "--pcap", "vol-1", "--pcap", "vol-1-r0"],
    ));
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
        assert_eq!(run.predicted(key).map(|predicted| predicted.path), Some(PathKind::Direct));
    }
    for node in run.volunteers() {
        let grown = node.sent.last().unwrap().1 - node.sent.first().unwrap().1;
        assert!(grown > f64::from(1 << 20), "{}: {grown} bytes on the wire", node.name);
    }
    let all = events(&out);
    assert!(matches!(all.first().unwrap().what, What::RunStart { seed: 5, .. }));
    assert!(matches!(all.last().unwrap().what, What::RunEnd { passed: true, .. }));
    let opened = all.iter().find(|event| matches!(event.what, What::MeshOpen { .. })).unwrap();
    assert!(all.windows(2).all(|two| two[0].t <= two[1].t), "not in the order of time");
    // The agents' own word: a mesh opens when every pair has a path, and not before.
    for (key, pair) in &run.pairs {
        let first = pair.first(None).unwrap();
        assert!(
            first <= opened.t,
            "{key:?} had a path at {first}, the mesh opened at {}",
            opened.t
        );
    }
    let ranks = |wanted: &str| -> Vec<u32> {
        let of = |event: &Event| {
            let What::RankState { rank, state, .. } = &event.what else { return None };
            (state == wanted).then_some(*rank)
        };
        let mut ranks: Vec<u32> = all.iter().filter_map(of).collect();
        ranks.sort_unstable();
        ranks
    };
    assert_eq!((ranks("Running"), ranks("Terminated")), (vec![0, 1], vec![0, 1]));
    let own = fs::read_to_string(out.join("logs/vol-1/agent.events")).unwrap();
    assert!(own.contains(r#""event":"mesh-open""#) && own.contains(r#""reason":"#), "{own}");
    let held = "ends well, with exit status 0";
    let is_held = |what: &What| matches!(what, What::Expectation { text, met: true, .. } if text.contains(held));
    assert!(all.iter().any(|event| is_held(&event.what)), "what holds is not told");

    // Whole packets, of the mesh's own protocol among others, with the names of the node's own interfaces.
    for node in ["vol-1", "vol-1-r0"] {
        let capture = out.join(format!("captures/{node}.pcapng"));
        let named = interfaces(&fs::read(&capture).unwrap());
        assert_eq!(named.iter().any(|name| name == "eth0"), node == "vol-1", "{node}: {named:?}");
        assert!(!named.is_empty() && !named.iter().any(|name| name == "ifb0"), "{node}: {named:?}");
        let read = Command::new("tcpdump").args(["-n", "-r"]).arg(&capture).output().unwrap();
        assert!(read.status.success(), "{node}: {}", String::from_utf8_lossy(&read.stderr));
        let packets = String::from_utf8_lossy(&read.stdout);
        // A mebibyte takes few packets where the kernel puts segments together.
        let count = packets.lines().count();
        assert!(count > 100 && packets.contains("UDP"), "{node}: {count} packets");
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
    let (status, text) = said(&mut netsim(temp.path(), &["report", dir]));
    assert!(status == Some(0) && text.contains("passed"), "{text}");
    assert!(fs::read(out.join("report.html")).unwrap() == page, "the page has changed");
    let (status, text) = said(&mut netsim(temp.path(), &["run", file, "--out", dir]));
    assert!(status == Some(1) && text.contains("is not empty"), "{text}");
}

/// A run whose agents are at work, and have said something.
fn start_pair(temp: &Path, out: &Path) -> Child {
    let file = temp.join("pair.toml");
    fs::write(&file, PAIR).unwrap();
    let args = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let run = netsim(temp, &args).stderr(Stdio::null()).spawn().unwrap();
    wait::until("the agents and their logs", SOON, || {
        let text = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
        let is_up = text("events.jsonl").contains(r#""kind":"up","node":"vol-2""#);
        (is_up && text("logs/vol-1/agent.log").contains("the agent starts")).then_some(())
    })
    .unwrap();
    run
}

#[test]
fn an_interrupted_run_ends_its_directory_as_far_as_it_came() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("out");
        let mut run = start_pair(temp.path(), &out);

        end(&run, signal);

        assert_eq!(run.wait().unwrap().code(), Some(128 + signal as i32));
        let contents = read::read(&out).unwrap();
        let info = &contents.info;
        assert_eq!((info.state, info.passed), (RunState::Interrupted, None));
        assert!(info.ended_ms.is_some_and(|ended| ended >= info.started_ms));
        assert_eq!(contents.missing.len(), 1, "{:?}", contents.missing);
        let all = events(&out);
        let What::RunEnd { passed: false, error: Some(error) } = &all.last().unwrap().what else {
            panic!("{:?}", all.last());
        };
        assert!(error.contains(signal.as_str()), "{error}");
        let page = fs::read_to_string(out.join("report.html")).unwrap();
        assert!(page.contains("INTERRUPTED") && page.contains("vol-2"));
        let nodes = fs::read_to_string(out.join("nodes.csv")).unwrap();
        assert!(nodes.contains("vol-2"), "{nodes}");
        let left = fs::read_dir(temp.path()).unwrap().count();
        assert_eq!(left, 2, "something was left beside the scenario and the run directory");
    }
}

#[test]
fn an_interrupted_simulation_ends_its_directory_too() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let args = ["run", "sim-10k", "--backend", "sim", "--out", out.to_str().unwrap()];
    let mut run =
        netsim(temp.path(), &args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait::until("the first events", SOON, || {
        let text = fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
        (text.lines().count() > 1000).then_some(())
    })
    .unwrap();

    end(&run, Signal::SIGTERM);

    assert_eq!(run.wait().unwrap().code(), Some(128 + Signal::SIGTERM as i32));
    let info = read::info(&out).unwrap();
    assert_eq!((info.state, info.passed), (RunState::Interrupted, None));
    assert!(out.join("report.html").is_file());
}

#[test]
fn a_killed_run_can_be_reported_as_far_as_it_came() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let mut run = start_pair(temp.path(), &out);
    end(&run, Signal::SIGKILL);
    run.wait().unwrap();

    let (status, text) = said(&mut netsim(temp.path(), &["report", out.to_str().unwrap()]));

    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("incomplete") && text.contains("missing: the end of the run"), "{text}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("INCOMPLETE") && page.contains("vol-2"));
}

#[test]
fn a_job_that_ends_between_two_looks_has_been_seen_running() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("one.toml"), temp.path().join("out"));
    fs::write(&file, ONE).unwrap();
    let args = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()];

    let (status, text) = said(&mut netsim(temp.path(), &args));

    assert_eq!(status, Some(0), "{text}");
    let run = Run::of(read::read(&out).unwrap());
    let job = &run.jobs[0];
    let (from, to) = job.commands[&(1, 0)];
    assert_eq!(job.started(), Some(from), "{:?}", job.states);
    assert!(from < to && Some(to) <= job.ended(), "{:?}", job.states);
}

#[test]
fn a_sweep_goes_on_after_a_broken_run_and_where_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("one.toml"), temp.path().join("sweep"));
    fs::write(&file, ONE).unwrap();
    let args = ["sweep", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    // No volunteers is no scenario: that run cannot even begin.
    let mut sweep = netsim(temp.path(), &args);
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

    // A key that is spelt wrong is refused before anything runs.
    let elsewhere = temp.path().join("elsewhere");
    let wrong = ["sweep", file.to_str().unwrap(), "--out", elsewhere.to_str().unwrap()];
    let (status, text) = said(netsim(temp.path(), &wrong).args(["--set", "volunteers.cuont=1,2"]));
    assert!(status == Some(1) && text.contains("no run of this sweep can begin"), "{text}");
    assert!(text.contains("cuont") && !elsewhere.exists(), "{text}");

    // What is finished stays as it is; another sweep does not go there.
    let kept = out.join("points/volunteers.count=1,seed=1/run.json");
    let before = fs::read(&kept).unwrap();
    let (status, text) = said(&mut sweep);
    assert!(status == Some(1) && text.matches("was there").count() == 2, "{text}");
    assert_eq!(fs::read(&kept).unwrap(), before);
    let (status, text) = said(netsim(temp.path(), &args).args(["--set", "volunteers.count=1"]));
    assert!(status == Some(1) && text.contains("holds another sweep"), "{text}");
}

/// Large ones take their time: they say from the start what they are at.
#[test]
fn a_simulation_tells_how_far_it_is() {
    let temp = tempfile::tempdir().unwrap();

    let (status, text) =
        said(&mut netsim(temp.path(), &["run", "nqueens-small", "--backend", "sim"]));

    assert_eq!(status, Some(0), "{text}");
    for line in ["] building the networks of 6 volunteers\n", "] in virtual time\n", "]   0 s\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
