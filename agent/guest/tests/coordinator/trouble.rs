//! What happens to machines at home: the coordinator is away for an hour, the clock is set, the machine sleeps, the
//! disk turns read-only. No job is lost, and none is reported that was not.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// Ends when somebody makes the file, with what it has seen until then.
const WAITS: &str = "echo up; until test -e go; do sleep 0.05; done; echo done";

fn output(state: &Path) -> String {
    fs::read_to_string(state.join("jobs/7.1/work/OAR.7.stdout")).unwrap_or_default()
}

fn release(state: &Path) {
    fs::write(state.join("jobs/7.1/work/go"), "").unwrap();
}

/// The results and the end, whole and in order.
fn assert_done(fake: &Fake) {
    let said = fake.said(7);
    let [Said::State(1, _), Said::Stageout { files, .. }, Said::State(1, last)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(files[0], ("OAR.7.stdout".to_owned(), "up\ndone\n".to_owned()));
    assert_eq!((last.state, last.exit_code), (ReportedState::Terminated, Some(0)));
}

/// An agent, and all that it starts but the job, with a clock that can be set (libfaketime).
struct Clock {
    file: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Clock {
    /// The clock on the wall alone, or all clocks: as if time passed.
    fn new(state: &Path, wall_alone: bool) -> Self {
        let libraries = fs::read_dir("/usr/lib").unwrap().flatten();
        let preload = libraries
            .map(|item| item.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists())
            .expect("libfaketime is missing: scripts/prepare test");
        let file = state.join("clock");
        let clock = Self {
            environment: vec![
                ("LD_PRELOAD", preload.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
                ("FAKETIME_NO_CACHE", "1".into()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", u8::from(wall_alone).to_string()),
            ],
            file,
        };
        clock.shift(0);
        clock
    }

    /// So many seconds later than it is, or earlier.
    fn shift(&self, seconds: i64) {
        // Whole, or not at all: it is read at any moment.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn agent(&self, state: &Path, fake: &Fake) -> Child {
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        agent_with_environment(state, fake, &[], &environment)
    }
}

const HOUR: i64 = 3600;

async fn polled(fake: &Fake) {
    let polls = fake.polls();
    until("it was asked again", || fake.polls() > polls + 2).await;
}

#[tokio::test]
async fn a_coordinator_that_is_away_for_an_hour_gets_the_results_afterwards() {
    let fake = Fake::start().await;
    let state = state();
    fake.submit(7, 1, WAITS, None);
    fake.lie(7, |job| job["assignment"]["walltime"] = (10 * HOUR).into());
    let clock = Clock::new(state.path(), false);
    let _agent = clock.agent(state.path(), &fake);
    until("it runs", || output(state.path()) == "up\n").await;

    fake.go_away(true);
    for part in 1..=4 {
        let refused = fake.refused();
        until("it tries", || fake.refused() > refused).await;
        clock.shift(part * HOUR / 4);
    }
    release(state.path());
    until("the report is on the disk", || state.path().join("jobs/7.1/final.json").exists()).await;
    let refused = fake.refused();
    until("it tries", || fake.refused() > refused).await;
    fake.go_away(false);
    until("it is told", || final_state(&fake.said(7)).is_some()).await;
    assert_done(&fake);
}

#[tokio::test]
async fn a_clock_that_is_set_changes_nothing_for_a_job() {
    let fake = Fake::start().await;
    let state = state();
    fake.submit(7, 1, WAITS, None);
    let clock = Clock::new(state.path(), true);
    let _agent = clock.agent(state.path(), &fake);
    until("it runs", || output(state.path()) == "up\n").await;
    // Far beyond its walltime of an hour, and before it began.
    for shift in [30 * 24 * HOUR, -30 * 24 * HOUR, 2 * HOUR] {
        clock.shift(shift);
        polled(&fake).await;
        assert_eq!(output(state.path()), "up\n");
    }
    release(state.path());
    until("it is told", || final_state(&fake.said(7)).is_some()).await;
    assert_done(&fake);
}

/// Every process that belongs to that state: the agent, shims, sandboxes, and what runs in these.
fn family(state: &Path) -> Vec<i32> {
    let mut all = processes_with(state.to_str().unwrap());
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let everybody = processes_with("");
    loop {
        let is_child =
            |pid: &&i32| !all.contains(pid) && parent(**pid).is_some_and(|it| all.contains(&it));
        let children: Vec<_> = everybody.iter().filter(is_child).copied().collect();
        if children.is_empty() {
            return all;
        }
        all.extend(children);
    }
}

#[tokio::test]
async fn a_machine_that_sleeps_goes_on_where_it_was() {
    let fake = Fake::start().await;
    let state = state();
    fake.submit(7, 1, WAITS, None);
    // A machine's own time does not pass while it sleeps, the clock on the wall does.
    let clock = Clock::new(state.path(), true);
    let _agent = clock.agent(state.path(), &fake);
    until("it runs", || output(state.path()) == "up\n").await;
    let asleep = family(state.path());
    assert!(asleep.len() >= 4, "agent, shim, sandbox and job: {asleep:?}");
    let signal = |signal| {
        for pid in &asleep {
            // The job's `sleep` may have ended.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    };
    signal(Signal::SIGSTOP);
    let polls = fake.polls();
    clock.shift(8 * HOUR);
    release(state.path());
    // Nobody says anything; what was on its way may still come.
    assert!(final_state(&fake.said(7)).is_none());
    assert!(fake.polls() <= polls + 2);
    signal(Signal::SIGCONT);
    until("it is told", || final_state(&fake.said(7)).is_some()).await;
    assert_done(&fake);
    polled(&fake).await;
}

/// An agent whose state is on a disk of its own, in a mount namespace of its own.
struct OwnDisk {
    agent: Child,
    disk: PathBuf,
}

impl OwnDisk {
    fn new(state: &Path, fake: &Fake) -> Self {
        let disk = state.join("disk");
        fs::create_dir(&disk).unwrap();
        let log = fs::File::create(state.join("log")).unwrap();
        let agent = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg("mount -t tmpfs -o size=64m disk \"$0\" && exec \"$@\"")
            .arg(&disk)
            .args([env!("CARGO_BIN_EXE_agent"), "run", "--bind", "127.0.0.1:0", "--cores", "2"])
            .args(["--join", &fake.token(), "--state"])
            .arg(&disk)
            .env("RUST_LOG", "info")
            .stderr(log)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { agent, disk }
    }

    /// The disk as its agent sees it.
    fn path(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.agent.id().unwrap());
        Path::new(&root).join(self.disk.strip_prefix("/").unwrap())
    }

    /// Nothing can be written by the path any more, or all again. As a disk with errors does it, and other than a plain
    /// remount, this does not ask whether files are open for writing.
    async fn set_read_only(&self, read_only: bool) {
        let script = if read_only {
            "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\""
        } else {
            "umount -l \"$0\""
        };
        let done = Command::new("nsenter")
            .args(["--user", "--mount", "--preserve-credentials", "--target"])
            .arg(self.agent.id().unwrap().to_string())
            .args(["sh", "-c", script])
            .arg(&self.disk)
            .status();
        assert!(done.await.unwrap().success());
    }
}

#[tokio::test]
async fn a_disk_that_turns_read_only_delays_results_and_loses_none() {
    let fake = Fake::start().await;
    let state = state();
    fake.submit(7, 1, WAITS, None);
    let disk = OwnDisk::new(state.path(), &fake);
    until("it runs", || output(&disk.path()) == "up\n").await;
    let work = fs::File::open(disk.path().join("jobs/7.1/work")).unwrap();
    disk.set_read_only(true).await;
    assert!(fs::write(disk.path().join("jobs/7.1/work/go"), "").is_err());
    // Opened before, as the job's own outputs are.
    fs::write(format!("/proc/self/fd/{}/go", work.as_raw_fd()), "").unwrap();
    let log = || fs::read_to_string(state.path().join("log")).unwrap();
    until("the agent says so", || log().contains("is read-only")).await;
    assert!(final_state(&fake.said(7)).is_none());
    // What comes meanwhile is given back with the reason.
    fake.submit(8, 1, "true", None);
    until("the other is given back", || final_state(&fake.said(8)).is_some()).await;
    let said = fake.said(8);
    let last = final_state(&said).unwrap();
    assert_eq!((last.state, last.fault), (ReportedState::Error, Some(Fault::Node)));
    assert!(last.message.as_deref().unwrap().contains("Read-only file system"), "{last:?}");
    polled(&fake).await;
    assert!(final_state(&fake.said(7)).is_none());

    disk.set_read_only(false).await;
    until("it is told", || final_state(&fake.said(7)).is_some()).await;
    assert_done(&fake);
    fake.submit(9, 1, "true", None);
    until("the next runs", || final_state(&fake.said(9)).is_some()).await;
    assert_eq!(final_state(&fake.said(9)).unwrap().exit_code, Some(0));
}
