//! The page in a browser that has no network: what it draws, and what it does not let happen.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::Shape;

/// What a browser has made of a page.
struct Seen {
    dom: String,
    /// What the browser's console says.
    console: String,
}

/// Opens a page in headless Chromium, in a network namespace of its own where there is nothing.
fn open(page: &Path, more: &[&str]) -> Seen {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--",
            "chromium",
            "--headless",
            "--no-sandbox",
        ])
        .args(["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"])
        .args(["--virtual-time-budget=60000", "--enable-logging=stderr", "--window-size=1150,5000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .env("HOME", profile.path())
        .output()
        .expect("chromium is missing: scripts/prepare test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Seen {
        dom: String::from_utf8(output.stdout).unwrap(),
        console: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Seen {
    /// The part of the page that a figure takes.
    fn figure(&self, id: &str) -> &str {
        let begin = self.dom.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
        let rest = &self.dom[begin..];
        &rest[..rest.find("</figure>").unwrap()]
    }

    /// How many marks of a class a figure has.
    fn marks(&self, id: &str, class: &str) -> usize {
        self.figure(id).matches(&format!("class=\"{class}\"")).count()
    }

    /// How many figures the page's script has drawn.
    fn drawn(&self) -> usize {
        let (_, rest) = self.dom.split_once("data-drawn=\"").expect("the script has not ended");
        rest.split('"').next().unwrap().parse().unwrap()
    }

    fn has_no_complaints(&self) {
        // The browser's own pages complain about the network that is not there.
        let is_ours = |line: &&str| line.contains("CONSOLE") && line.contains("source: file:");
        let complaint = self.console.lines().find(is_ours);
        assert_eq!(complaint, None, "the browser complains");
    }
}

fn rows_of(dir: &Path, name: &str) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(dir.join(name)).unwrap().records().map(Result::unwrap).collect()
}

#[test]
fn every_figure_is_drawn_with_as_many_marks_as_the_run_has() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &Shape::SMALL, false);
    netsim_report::report(dir.path()).unwrap();

    let picture = dir.path().join("page.png");
    let seen = open(&dir.path().join("report.html"), &[]);

    seen.has_no_complaints();
    assert_eq!(seen.drawn(), 10);
    // One bar for each stretch of paths.csv.
    let stretches = rows_of(dir.path(), "paths.csv");
    assert_eq!(seen.marks("path-timeline", "point"), stretches.len());
    let kinds: BTreeMap<&str, usize> = stretches.iter().fold(BTreeMap::new(), |mut kinds, row| {
        *kinds.entry(row.get(5).unwrap()).or_default() += 1;
        kinds
    });
    assert_eq!(kinds.keys().copied().collect::<Vec<_>>(), ["direct", "none", "relayed"]);
    // One number in each cell of the matrix but the diagonal.
    let matrix = seen.figure("rtt-matrix");
    assert_eq!(matrix.matches("class=\"heatmap-label\"").count(), 30);
    assert_eq!(matrix.matches("<image").count(), 1);
    // Six nodes behind five kinds of networks: every two kinds, and of one kind both nodes.
    let kinds = seen.figure("kind-matrix");
    assert_eq!(kinds.matches("class=\"heatmap-label\"").count(), 5 * 4 + 1);
    // The command of each of six ranks.
    assert_eq!(seen.marks("node-gantt", "point"), 6);
    // Three phases, the mesh's opening, the end.
    assert_eq!(seen.marks("job-gantt", "point"), 3 + 2);
    for (id, curves) in
        [("mesh-time", 3), ("pair-throughput", 8), ("path-counts", 3), ("throughput", 3)]
    {
        assert_eq!(seen.figure(id).matches("class=\"trace scatter").count(), curves, "{id}");
    }
    // Six machines of which two were away once: eight stretches on, eight at work.
    assert_eq!(seen.marks("availability", "point"), 16);
    // The one event is marked in each figure over time.
    for id in ["path-counts", "path-timeline", "throughput", "job-gantt", "availability"] {
        assert_eq!(seen.figure(id).matches("class=\"shape-group\"").count(), 1, "{id}");
        assert_eq!(seen.figure(id).matches("class=\"annotation-text-g\"").count(), 1, "{id}");
    }
    assert!(seen.dom.contains("nat-reboot vol-1-r0"));
    assert!(seen.dom.contains("DOES NOT HOLD") && seen.dom.contains("61 %"));

    let shot = format!("--screenshot={}", picture.display());
    open(&dir.path().join("report.html"), &[&shot]);
    assert!(colours(&picture) > 100, "the picture is blank");
}

/// How many different pieces the compressed picture's bytes have: a blank one compresses to nearly
/// nothing, and this needs no decoder.
fn colours(picture: &Path) -> usize {
    let bytes = fs::read(picture).unwrap();
    let pieces: std::collections::BTreeSet<&[u8]> = bytes.chunks_exact(64).collect();
    pieces.len()
}

#[test]
fn a_hundred_volunteers_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { volunteers: 100, jobs: 40, others: &[], nodes: 12, seed: 3, suffix: "" };
    common::write(dir.path(), &shape, false);
    netsim_report::report(dir.path()).unwrap();

    let size = fs::metadata(dir.path().join("report.html")).unwrap().len();
    assert!(size < 8 << 20, "{size} bytes");
    let seen = open(&dir.path().join("report.html"), &[]);

    seen.has_no_complaints();
    assert_eq!(seen.drawn(), 12);
    assert_eq!(rows_of(dir.path(), "pairs.csv").len(), 40 * 12 * 11);
    let labels = seen.figure("path-timeline").matches("class=\"ytick\"").count();
    assert_eq!(labels, 60, "rows of pairs");
    assert_eq!(seen.figure("job-gantt").matches("class=\"ytick\"").count(), 40);
    assert!(seen.dom.contains("60 of 5280 are shown"));
}

/// Both have a first job. They are two everywhere.
#[test]
fn jobs_of_two_coordinators_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { jobs: 2, others: &["north"], ..Shape::SMALL };
    common::write(dir.path(), &shape, false);
    netsim_report::report(dir.path()).unwrap();

    let of = |name: &str| {
        let rows = rows_of(dir.path(), name);
        let whose = |row: &csv::StringRecord| row.get(row.len() - 1).unwrap().to_owned();
        let count = |name: &str| rows.iter().filter(|row| whose(row) == name).count();
        (count("coordinator"), count("north"))
    };
    assert_eq!(of("jobs.csv"), (1, 1));
    assert_eq!(of("pairs.csv"), (30, 30));
    assert!(of("paths.csv").0 > 30 && of("paths.csv").1 > 30);
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    let shown = [
        "1 ./nqueens",
        "north/1 ./nqueens",
        "job north/1: vol-1 → vol-2",
        "<td class=\"number\">north/1",
    ];
    for text in shown {
        assert!(page.contains(text), "{text}");
    }
    // Read back, they are who they were.
    let run = netsim_report::model::Run::of(netsim_report::read::read(dir.path()).unwrap());
    let bytes: Vec<u64> = run
        .jobs
        .iter()
        .map(|job| {
            run.pairs
                .iter()
                .filter(|(key, _)| key.job == job.id)
                .map(|(_, pair)| pair.bytes())
                .sum()
        })
        .collect();
    assert!(bytes.len() == 2 && bytes.iter().all(|bytes| *bytes > 0), "{bytes:?}");
}

#[test]
fn names_and_texts_never_become_script() {
    const EVIL: &str = "</script><script>document.title='owned'</script>\
                        <img src=x onerror=\"document.title='owned'\"><!--";
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &Shape { suffix: EVIL, ..Shape::SMALL }, false);
    netsim_report::report(dir.path()).unwrap();

    let seen = open(&dir.path().join("report.html"), &[]);

    seen.has_no_complaints();
    assert_eq!(seen.drawn(), 10, "the names break no figure either");
    let (_, head) = seen.dom.split_once("<title>").unwrap();
    assert!(head.starts_with("a synthetic run&lt;/script&gt;"), "{}", &head[..80]);
    assert_eq!(seen.dom.matches("<script").count(), 3);
    assert!(!seen.dom.contains("<img"), "an element has come out of a name");
}

#[test]
fn a_killed_run_says_so_and_shows_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &Shape::SMALL, true);
    // As a kill in the middle of a write leaves it.
    let events = dir.path().join("events.jsonl");
    let text = fs::read(&events).unwrap();
    fs::write(&events, &text[..text.len() - 20]).unwrap();
    fs::remove_file(dir.path().join("resolved.json")).unwrap();

    let run = netsim_report::report(dir.path()).unwrap();

    assert_eq!(run.info.passed, None);
    let missing = run.missing.join("\n");
    for what in ["the end of the run", "1 lines of events.jsonl", "resolved.json"] {
        assert!(missing.contains(what), "{what}: {missing}");
    }
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("INCOMPLETE") && page.contains("Not all of this run is here"));
}
