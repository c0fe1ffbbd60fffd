//! Runs that are interrupted, killed or out of disk at some moment leave nothing behind.
//!
//! The moments are drawn from the seeds below: a step of the run, and a time after it has begun.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/program.rs"]
mod program;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use netsim::processes;
use netsim::wait;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use program::{end, netsim, said};
use tempfile::TempDir;

/// How long a step of a small run may take to begin, or anything to end.
const SOON: Duration = Duration::from_secs(60);

/// The steps of a run, by the words that it says when it begins them.
const STEPS: [&str; 8] = [
    "building the networks",
    "starting the coordinator",
    "enrolling",
    "starting the agents",
    "working",
    "launching on 2 nodes",
    "running",
    "ending everything",
];

/// The longest time between the beginning of a step and the end of the run. Chosen: longer than
/// most steps take.
const AFTER: Duration = Duration::from_millis(400);

const SCENARIO: &str = r#"
[coordinator]
poll-interval = "200ms"

[[volunteers]]
behind = "home"
count = 2

[[job]]
command = "sleep 2"
nodes = 2
types = ["mesh", "spmd"]
"#;

/// A folder with a scenario; whatever a run leaves is in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("runs")).unwrap();
        fs::write(temp.path().join("scenario.toml"), SCENARIO).unwrap();
        Self(temp)
    }

    /// Where runs make their directories.
    fn runs(&self) -> PathBuf {
        self.0.path().join("runs")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap()
    }

    fn start(&self, more: &[&str]) -> Child {
        let scenario = self.0.path().join("scenario.toml").display().to_string();
        let log = File::create(self.0.path().join("log")).unwrap();
        let mut command = netsim(&self.runs(), &[&["run", &scenario], more].concat());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn assert_nothing_left(&self, when: &str) {
        let files: Vec<_> =
            fs::read_dir(self.runs()).unwrap().flatten().map(|f| f.path()).collect();
        assert!(files.is_empty(), "{when}: {files:?} were left behind\n{}", self.log());
        let left = self.processes();
        assert!(left.is_empty(), "{when}: {left:?} were left behind\n{}", self.log());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let own = self.runs().display().to_string();
        assert!(!mounts.contains(&own), "{when}: mounts were left behind\n{mounts}");
    }

    /// The processes that were started with a temporary directory in here.
    fn processes(&self) -> Vec<String> {
        let own = self.runs().display().to_string();
        let knows = |pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&own)
        };
        let all = processes::all().into_iter();
        all.filter(|p| knows(p.pid)).map(|p| format!("{} {}", p.pid, p.command)).collect()
    }
}

/// Numbers below `bound`, one after the other, by splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Lets a run go on until `step` has begun `after` ago, or until its end if that comes first.
fn let_run(desk: &Desk, run: &mut Child, step: &str, after: Duration) -> Option<ExitStatus> {
    let begun = wait::until(format!("the step {step}"), SOON, || {
        let ended = run.try_wait().unwrap();
        (ended.is_some() || desk.log().contains(step)).then_some(Instant::now())
    });
    let begun = begun.unwrap_or_else(|late| panic!("{late}\n{}", desk.log()));
    wait::until("the moment", SOON, || {
        let ended = run.try_wait().unwrap();
        (ended.is_some() || begun.elapsed() >= after).then_some(ended)
    })
    .unwrap()
}

#[test]
fn an_interrupted_run_leaves_nothing_at_whatever_moment() {
    // Every step once, so that none is left out; the moment in it and the signal by the seed.
    for (seed, step) in STEPS.iter().enumerate() {
        let mut dice = Dice(seed as u64);
        let after = AFTER.mul_f64(dice.below(1_000) as f64 / 1e3);
        let signal = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP][dice.below(3) as usize];
        let when = format!("seed {seed}: {signal} {} ms after \"{step}\"", after.as_millis());
        let desk = Desk::new();
        let mut run = desk.start(&[]);

        let ended = let_run(&desk, &mut run, step, after);

        if ended.is_none() {
            end(&run, signal);
        }
        let status = wait::until("the run's end", SOON, || run.try_wait().unwrap()).unwrap();
        // It may have come to its own end in the meantime, which then has to be a good one.
        let right = [0, 128 + signal as i32];
        assert!(
            status.code().is_some_and(|c| right.contains(&c)),
            "{when}: {status}\n{}",
            desk.log()
        );
        desk.assert_nothing_left(&when);
    }
}

#[test]
fn what_a_killed_run_leaves_is_removed_by_clean_at_whatever_moment() {
    for (seed, step) in STEPS.iter().enumerate() {
        let after = AFTER.mul_f64(Dice(1_000 + seed as u64).below(1_000) as f64 / 1e3);
        let when = format!("seed {seed}: SIGKILL {} ms after \"{step}\"", after.as_millis());
        let desk = Desk::new();
        let mut run = desk.start(&[]);

        let ended = let_run(&desk, &mut run, step, after);

        if ended.is_none() {
            end(&run, Signal::SIGKILL);
        }
        let status = wait::until("the run's end", SOON, || run.try_wait().unwrap()).unwrap();
        let is_right = status.success() || status.signal() == Some(Signal::SIGKILL as i32);
        assert!(is_right, "{when}: {status}\n{}", desk.log());
        // The kernel ends the namespace's processes one after the other.
        let gone = wait::until("the end of all processes", SOON, || {
            desk.processes().is_empty().then_some(())
        });
        gone.unwrap_or_else(|late| panic!("{when}: {late}: {:?}", desk.processes()));
        let (status, text) = said(&mut netsim(&desk.runs(), &["clean"]));
        assert_eq!(status, Some(0), "{when}: {text}");
        desk.assert_nothing_left(&when);
        let (_, again) = said(&mut netsim(&desk.runs(), &["clean", "--dry-run"]));
        assert_eq!(again, "no killed run has left anything\n");
    }
}

/// A small disk of its own. Dropping it takes it away.
struct Disk(PathBuf);

impl Disk {
    fn of(path: &Path, kib: u32) -> Self {
        let options = format!("size={kib}k");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        Self(path.to_owned())
    }
}

/// A run's directory on a disk of its own takes the run's files, but not its page.
#[test]
fn a_full_disk_under_the_page_does_not_hide_the_verdict() {
    let _alone = common::alone();
    for (command, verdict, status) in [("true", "PASSED", 0), ("false", "FAILED", 1)] {
        let desk = Desk::new();
        let scenario =
            format!("[[volunteers]]\nbehind = \"none\"\n[[job]]\ncommand = \"{command}\"\n");
        fs::write(desk.0.path().join("scenario.toml"), scenario).unwrap();
        let out = desk.0.path().join("out");
        fs::create_dir(&out).unwrap();
        let disk = Disk::of(&out, 2048);

        let mut run = desk.start(&["--out", out.to_str().unwrap()]);

        let ended = wait::until("the run's end", SOON, || run.try_wait().unwrap()).unwrap();
        let log = desk.log();
        assert_eq!(ended.code(), Some(status), "{log}");
        assert!(log.contains(verdict), "{log}");
        assert!(
            log.contains("the run's page is missing") && log.contains("No space left"),
            "{log}"
        );
        let info = netsim_report::read::info(&out).unwrap();
        assert_eq!(info.passed, Some(status == 0));
        drop(disk);
    }
}

#[test]
fn a_place_that_cannot_be_written_to_costs_no_run_and_leaves_nothing() {
    let _alone = common::alone();
    let desk = Desk::new();
    let out = desk.0.path().join("out");
    fs::create_dir(&out).unwrap();
    let disk = Disk::of(&out, 64);
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &out, None::<&str>, again, None::<&str>).unwrap();

    let mut run = desk.start(&["--out", out.to_str().unwrap()]);

    let ended = wait::until("the run's end", SOON, || run.try_wait().unwrap()).unwrap();
    let log = desk.log();
    assert_eq!(ended.code(), Some(1), "{log}");
    assert!(log.contains("choose another --out") && !log.contains("building"), "{log}");
    desk.assert_nothing_left("read-only");
    drop(disk);
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_ends_a_run_with_a_word_and_leaves_nothing() {
    let _alone = common::alone();
    // No room for the run's first file, for the database, for its content; and none any more from
    // the moment when the job runs.
    for (kib, fills_later) in [(4, false), (64, false), (400, false), (16_384, true)] {
        let desk = Desk::new();
        let disk = Disk::of(&desk.runs(), kib);
        let mut run = desk.start(&[]);

        if fills_later {
            let ended = let_run(&desk, &mut run, "running", Duration::ZERO);
            assert_eq!(ended, None, "{kib} KiB: {}", desk.log());
            let full = fs::write(desk.runs().join("other"), vec![1; kib as usize * 1024]);
            assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
        }
        let status = wait::until("the run's end", SOON, || run.try_wait().unwrap());
        let status = status.unwrap_or_else(|late| panic!("{kib} KiB: {late}\n{}", desk.log()));

        let log = desk.log();
        assert_eq!(status.code(), Some(1), "{kib} KiB: {status}\n{log}");
        // The system's words, or SQLite's.
        let is_said = log.contains("No space left on device") || log.contains("disk is full");
        assert!(is_said, "{kib} KiB: {log}");
        assert_eq!(desk.processes(), [""; 0], "{kib} KiB: {log}");
        // A failed run keeps its logs, as far as they could be written; there is nothing to clean.
        let (status, text) = said(&mut netsim(&desk.runs(), &["clean"]));
        assert_eq!(status, Some(0), "{kib} KiB: {text}");
        drop(disk);
        desk.assert_nothing_left(&format!("{kib} KiB"));
    }
}

/// The signal reaches the sweep alone, as from a batch system.
#[test]
fn a_sweep_that_is_interrupted_ends_its_run_first() {
    let desk = Desk::new();
    let [scenario, out] =
        ["scenario.toml", "sweep"].map(|name| desk.0.path().join(name).display().to_string());
    let args = ["sweep", &scenario, "--out", &out, "--set", "volunteers.count=2,3"];
    let log = File::create(desk.0.path().join("log")).unwrap();
    let mut command = netsim(&desk.runs(), &args);
    let mut sweep = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let of_run = Path::new(&out).join("points/volunteers.count=2,seed=1.log");
    let begun = wait::until("enrolment", SOON, || {
        assert!(sweep.try_wait().unwrap().is_none(), "{}", desk.log());
        let said = fs::read_to_string(&of_run).unwrap_or_default();
        said.contains("enrolling").then_some(())
    });
    begun.unwrap();

    end(&sweep, Signal::SIGINT);
    let status = wait::until("the sweep's end", SOON, || sweep.try_wait().unwrap()).unwrap();

    desk.assert_nothing_left("after the sweep");
    assert!(!status.success() && desk.log().contains("interrupted by SIGINT"), "{}", desk.log());
}
