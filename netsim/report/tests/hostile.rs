//! Directories that are no runs, or harmful ones.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::Shape;
use netsim_report::{ReportError, compare, report};

fn error(dir: &Path) -> String {
    let error: ReportError = report(dir).unwrap_err();
    let source = std::error::Error::source(&error);
    format!("{error}: {}", source.map(ToString::to_string).unwrap_or_default())
}

#[test]
fn what_is_no_run_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    assert!(error(dir.path()).contains("is no run directory"), "{}", error(dir.path()));
    assert!(error(&dir.path().join("nowhere")).contains("is no run directory"));

    let run = dir.path().join("run.json");
    fs::write(&run, "{\"format\": 1, \"state\":").unwrap();
    assert!(error(dir.path()).contains("is damaged"), "{}", error(dir.path()));

    fs::write(&run, "{\"format\": 99, \"everything\": \"else\"}").unwrap();
    assert!(error(dir.path()).contains("has format 99"), "{}", error(dir.path()));

    fs::remove_file(&run).unwrap();
    fs::create_dir(&run).unwrap();
    assert!(error(dir.path()).contains("cannot read"), "{}", error(dir.path()));

    // A device that never ends is no file.
    fs::remove_dir(&run).unwrap();
    symlink("/dev/zero", &run).unwrap();
    assert!(error(dir.path()).contains("cannot read"), "{}", error(dir.path()));
}

#[test]
fn damaged_lines_are_counted_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &Shape::SMALL, false);
    let events = dir.path().join("events.jsonl");
    let mut text = fs::read(&events).unwrap();
    text.extend(
        b"{\"t\":1,\"kind\":\"of-the-future\"}\n{\"t\":-1,\"kind\":\"note\",\"text\":\"\"}\n",
    );
    text.extend(b"{\"t\":1e999,\"kind\":\"note\",\"text\":\"\"}\n\xff\xfe\n");
    text.extend(vec![b'x'; 3 << 20]);
    fs::write(&events, text).unwrap();
    let samples = dir.path().join("samples.csv");
    let mut text = fs::read(&samples).unwrap();
    text.extend(b"1,pair-bytes,one,a,b,3\nNaN,rtt-ms,1,a,b,inf\n1,2\n");
    fs::write(&samples, text).unwrap();

    let run = report(dir.path()).unwrap();

    let missing = run.missing.join("\n");
    assert!(missing.contains("lines of events.jsonl that cannot be read"), "{missing}");
    assert!(missing.contains("3 rows of samples.csv"), "{missing}");
    assert_eq!(run.pairs.len(), 30);
}

#[test]
fn several_runs_are_one_page() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    common::write(&one, &Shape::SMALL, false);
    common::write(&other, &Shape { seed: 2, ..Shape::SMALL }, true);
    let page = dir.path().join("compare.html");

    compare(&[&one, &other], &page).unwrap();

    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("2 runs side by side") && page.contains("incomplete"));
    let rows = page.split("id=\"numbers\"").nth(1).unwrap();
    assert!(rows.contains("pairs that ended direct (%)"));
}
