//! What is in a run directory when all goes well, and when the disk is full.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use netsim_report::{
    Backend, Budget, Event, RecordError, Recorder, RunInfo, RunState, Sample, What, settle,
};

fn info() -> RunInfo {
    RunInfo::begin("two machines", "two.toml", 7, Backend::Sim)
}

fn start(dir: &Path, budget: Budget) -> Recorder {
    Recorder::create(dir, info(), &serde_json::json!({"seed": 7}), "seed = 7\n", budget).unwrap()
}

fn events(dir: &Path) -> Vec<Event> {
    let text = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a line is cut off");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn run_json(dir: &Path) -> RunInfo {
    serde_json::from_slice(&fs::read(dir.join("run.json")).unwrap()).unwrap()
}

fn note(text: &str) -> What {
    What::Note { text: text.to_owned() }
}

#[test]
fn a_run_says_that_it_is_whole_only_when_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = start(dir.path(), Budget::default());
    recorder.record_at(1.0, note("hello"));
    let sample =
        Sample::PairBytes { job: 1.into(), from: "vol,1".into(), to: "vol-2".into(), sent: 10 };
    recorder.clone().record_at(2.5, What::Sample(sample));
    assert_eq!(run_json(dir.path()).state, RunState::Running);

    recorder.finish(3.0, true, None).unwrap();

    let info = run_json(dir.path());
    assert_eq!((info.state, info.passed), (RunState::Finished, Some(true)));
    assert_eq!((info.written.events, info.written.samples, info.written.lost), (3, 1, 0));
    let events = events(dir.path());
    assert!(matches!(events[0].what, What::RunStart { seed: 7, .. }));
    assert_eq!(events[1], Event { t: 1.0, what: note("hello") });
    assert!(matches!(events[2].what, What::RunEnd { passed: true, error: None }));
    let samples = fs::read_to_string(dir.path().join("samples.csv")).unwrap();
    assert_eq!(
        samples,
        "t_s,metric,job,from,to,value,coordinator\n2.5,pair-bytes,1,\"vol,1\",vol-2,10,\n"
    );
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();

    let refused = Recorder::create(dir.path(), info(), &(), "", Budget::default());

    assert!(matches!(refused, Err(RecordError::NotEmpty(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_used_up_budget_ends_the_log_and_not_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = start(dir.path(), Budget { bytes: 2000 });
    for number in 0..100 {
        recorder.record_at(f64::from(number), note("a line of some length, again and again"));
    }
    recorder.finish(100.0, true, None).unwrap();

    assert_full(dir.path());
}

/// On a real full disk: a tmpfs of one megabyte in a mount namespace of this test's own.
#[test]
fn a_full_disk_ends_the_log_and_not_the_run() {
    const DISK: &str = "NETSIM_REPORT_SMALL_DISK";
    if let Some(disk) = std::env::var_os(DISK) {
        let dir = Path::new(&disk).join("run");
        let recorder = start(&dir, Budget::default());
        let long = "x".repeat(1000);
        for number in 0..2000 {
            recorder.record_at(f64::from(number), note(&long));
            let sample = Sample::Gauge { name: "a".into(), node: "b".into(), value: 1.0 };
            recorder.record_at(f64::from(number), What::Sample(sample));
        }
        recorder.finish(2000.0, true, None).unwrap();
        assert_full(&dir);
        // What is held free for the last words of a run does not fit any more: nothing is begun.
        let another = Path::new(&disk).join("another");
        let refused = Recorder::create(&another, info(), &(), "", Budget::default());
        assert!(matches!(refused, Err(RecordError::Write { .. })), "{refused:?}");
        assert!(!another.exists(), "{:?}", fs::read_dir(&another).map(Iterator::count));
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=1m tmpfs "$0" && exec "$1" --exact "$2""#;
    let this = "a_full_disk_ends_the_log_and_not_the_run";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .arg(this)
        .env(DISK, disk.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0, "it wrote outside of its disk");
}

fn assert_full(dir: &Path) {
    let info = run_json(dir);
    assert_eq!(info.state, RunState::Finished);
    assert!(info.written.lost > 0, "{info:?}");
    let events = events(dir);
    assert!(events.len() as u64 >= info.written.events, "{} {info:?}", events.len());
    let [.., failure, end] = events.as_slice() else { panic!("{events:?}") };
    let What::Failure { text } = &failure.what else { panic!("{failure:?}") };
    assert!(text.starts_with("nothing is recorded from here on"), "{text}");
    assert!(matches!(end.what, What::RunEnd { passed: true, .. }), "{end:?}");
}

/// Its process is gone in the middle of a line; an agent has said more.
#[test]
fn an_interrupted_run_is_completed_on_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = start(dir.path(), Budget::default());
    recorder.amend(|info| info.started_mono_us = Some(5_000_000));
    recorder.record_at(1.0, note("first"));
    recorder.record_at(3.0, note("third"));
    let bytes =
        |sent| Sample::PairBytes { job: 1.into(), from: "vol-1".into(), to: "vol-2".into(), sent };
    recorder.record_at(4.0, What::Sample(bytes(9)));
    recorder.flush();
    let append = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, [fs::read(&path).unwrap(), text.as_bytes().to_vec()].concat()).unwrap();
    };
    append("events.jsonl", r#"{"t":3.5,"kind":"no"#);
    append("samples.csv", "5.0,pair-by");
    let machine = dir.path().join("logs/vol-1");
    fs::create_dir(&machine).unwrap();
    let lines = [
        r#"{"mono_us":7000000,"unix_us":1,"event":"path","job":1,"generation":1,"peer":"vol-2","path":"direct","reason":"it answered"}"#,
        r#"{"mono_us":7500000,"unix_us":1,"event":"pair","job":1,"generation":1,"peer":"vol-2","sent_bytes":4,"received_bytes":0}"#,
    ];
    fs::write(machine.join("agent.events"), lines.join("\n") + "\n").unwrap();

    assert!(settle::interrupted(dir.path(), "interrupted by SIGTERM").unwrap());

    let info = run_json(dir.path());
    assert_eq!((info.state, info.passed), (RunState::Interrupted, None));
    assert_eq!((info.written.events, info.written.samples), (5, 2));
    let told = events(dir.path());
    assert_eq!([&told[1].what, &told[3].what], [&note("first"), &note("third")]);
    assert!(matches!(told[2], Event { t: 2.0, what: What::Path { .. } }), "{told:?}");
    let What::RunEnd { error: Some(error), .. } = &told[4].what else { panic!("{told:?}") };
    assert_eq!(error, "interrupted by SIGTERM");
    let samples = fs::read_to_string(dir.path().join("samples.csv")).unwrap();
    let rows = "2.5,pair-bytes,1,vol-1,vol-2,4,\n4,pair-bytes,1,vol-1,vol-2,9,\n";
    assert_eq!(samples, format!("t_s,metric,job,from,to,value,coordinator\n{rows}"));
    // Once is enough.
    assert!(!settle::interrupted(dir.path(), "again").unwrap());
    assert!(netsim_report::read::read(dir.path()).unwrap().missing.len() == 1);
}
