//! Commands that try to get at what is not theirs.

use std::fs::{self, File};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use agent::shim::protocol::Ending;

use crate::fixture::{Job, exited, processes_with, until, within};

/// As root, a job is the machine's root to the file system: these would hand it the machine.
#[tokio::test]
async fn the_kernels_settings_are_out_of_reach() {
    // Opened to append, nothing written.
    let job = Job::new(
        "find /proc/sys /proc/sysrq-trigger -type f -writable 2>/dev/null | head -n 5; \
         for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches \
         /proc/sys/net/ipv4/ping_group_range; do (exec 3>>$f) 2>/dev/null && echo opened $f; done; \
         echo looked",
    );
    job.run().await;
    assert_eq!(job.stdout(), "looked\n");
}

#[tokio::test]
async fn descriptors_that_the_agent_inherited_stay_outside() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("inherited-marker")).unwrap();
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    // The control: a plain child has it.
    let list = "ls -l /proc/self/fd | grep -c inherited-marker";
    let outside = std::process::Command::new("sh").args(["-c", list]).output().unwrap();
    assert_eq!(outside.stdout, b"1\n");

    let job = Job::new(list);
    job.run().await;
    assert_eq!(job.stdout(), "0\n");
}

#[tokio::test]
async fn nothing_lives_on_when_the_end_is_told() {
    // Many, so that their end takes its time.
    let job = Job::new(
        "i=0; while [ $i -lt 300 ]; do setsid sleep 98766 </dev/null >/dev/null 2>&1 & \
         i=$((i+1)); done; exit 0",
    );
    let (shim, mut process) = job.shim().await;
    shim.run().await.unwrap();
    let report = shim.wait().await.unwrap();
    let left = processes_with("98766").len();
    assert_eq!((report.ending, left), (exited(0), 0));
    let _ = shim.release().await;
    process.wait().await.unwrap();
}

/// Where no control group can be made, as in the fixture: by signals.
#[tokio::test]
async fn a_job_without_a_freezer_stands_still_as_well_and_its_walltime_waits() {
    let job = Job::with(
        "(setsid sh -c 'while :; do sleep 0.01; done' 98767 &); while :; do date +%N > t; mv t tick; done",
        |spec| spec.walltime_s = 2,
    );
    let (shim, mut process) = job.shim().await;
    shim.run().await.unwrap();
    let tick = || fs::read_to_string(job.path().join("work/tick")).unwrap_or_default();
    until(|| !tick().is_empty()).await;
    shim.pause(true).await.unwrap();
    let stopped = tick();
    // Longer than the walltime: what happens to the job in it does not happen in time.
    let mut wait = std::pin::pin!(shim.wait());
    let waited = tokio::time::timeout(Duration::from_millis(2500), &mut wait).await;
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(tick(), stopped);
    shim.pause(false).await.unwrap();
    until(|| tick() != stopped).await;
    assert_eq!(within(wait).await.unwrap().ending, Ending::Walltime);
    until(|| processes_with("98767").is_empty()).await;
    let _ = shim.release().await;
    within(process.wait()).await.unwrap();
}

/// Where no control group can be made, as in the fixture: each process by itself, and the file systems in memory.
#[tokio::test]
async fn a_job_without_control_groups_is_held_by_limits_of_its_own() {
    let job = Job::with(
        "perl -e '$x = \"x\" x 1e9; print \"HAS IT\\n\"' 2>/dev/null; \
         for d in /tmp /var/tmp /dev/shm; do head -c 200000000 /dev/zero > $d/f && echo FILLED; done 2>/dev/null; \
         head -c 100000000 /dev/zero > large; wc -c < large; ulimit -c; ulimit -p",
        |spec| {
            spec.limits.memory_bytes = 256 << 20;
            spec.limits.disk_bytes = 64 << 20;
            spec.limits.tasks = 500;
        },
    );
    assert_eq!(job.run().await.ending, exited(0), "{}", job.stderr());
    assert_eq!(job.stdout(), format!("{}\n0\n500\n", 64 << 20));
}
