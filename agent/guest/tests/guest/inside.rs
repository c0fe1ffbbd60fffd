//! The limits, inside the virtual machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use agent::confine::cage::{Cage, Cages, Group};
use agent::confine::limits::JobLimits;

const MIB: u64 = 1 << 20;

const LIMITS: JobLimits = JobLimits { cores: 1, memory_bytes: 32 * MIB, tasks: 16, disk_bytes: 0 };

/// Long enough for an emulated machine on a busy one; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run() {
    let cages = Cages::find();
    for (what, told) in cages.told() {
        println!("{what}: {told:?}");
        assert_eq!(told, Ok("cgroup v2".to_owned()), "{what}");
    }
    let tries: [(&str, fn(&Job)); 5] = [
        ("memory", memory),
        ("processes", processes),
        ("processors", processors),
        ("pause", pause),
        ("weights", weights),
    ];
    for (name, held) in tries {
        let job = Job::new(&cages, name);
        held(&job);
        job.cage.remove().unwrap();
        assert!(!job.group().exists(), "{}", job.group().display());
        println!("{name}: held");
    }
}

/// A cage, and programs in it.
struct Job {
    cage: Cage,
}

impl Job {
    fn new(cages: &Cages, name: &str) -> Self {
        let cage = cages.of(&Path::new("/jobs").join(name));
        cage.make(&LIMITS).unwrap();
        Self { cage }
    }

    fn group(&self) -> &Path {
        let Group { v2, path } = self.cage.memory.as_ref().unwrap();
        assert!(v2);
        path
    }

    /// A file of the group.
    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.group().join(name)).unwrap()
    }

    /// A line of such a file: a word and a number.
    fn number(&self, file: &str, word: &str) -> u64 {
        let text = self.file(file);
        let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{file} has no {word}: {text}")).parse().unwrap()
    }

    /// Starts a script in the cage: not before it is in there.
    fn start(&self, script: &str) -> (Child, ChildStdin) {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        self.cage.admit(child.id().try_into().unwrap()).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "go").unwrap();
        (child, stdin)
    }

    fn kill(&self, mut child: Child) {
        fs::write(self.group().join("cgroup.kill"), "1").unwrap();
        child.wait().unwrap();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "it takes too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Who wants more memory than the job has is ended, and it is told.
fn memory(job: &Job) {
    assert_eq!(job.cage.out_of_memory(), 0);
    let (mut child, _stdin) = job.start("exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    assert!(job.cage.out_of_memory() >= 1);
    // The owner gives more.
    job.cage.set(&JobLimits { memory_bytes: 128 * MIB, ..LIMITS }).unwrap();
    let (mut child, _stdin) = job.start("exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// A job that makes process after process is refused the seventeenth.
fn processes(job: &Job) {
    let (mut child, _stdin) =
        job.start("i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all; wait");
    until("a process was refused", || job.number("pids.events", "max") > 0);
    assert!(job.file("pids.current").trim().parse::<u64>().unwrap() <= LIMITS.tasks);
    let mut said = String::new();
    fs::write(job.group().join("cgroup.kill"), "1").unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "", "it must not have come to its end");
    child.wait().unwrap();
}

/// Two that compute on two processors have the time of one.
fn processors(job: &Job) {
    let (child, _stdin) = job.start("while :; do :; done & while :; do :; done");
    until("it has computed for a while", || job.number("cpu.stat", "nr_periods") >= 20);
    let throttled = job.number("cpu.stat", "nr_throttled");
    let (used, periods) =
        (job.number("cpu.stat", "usage_usec"), job.number("cpu.stat", "nr_periods"));
    println!("  {used} us of {periods} periods of 100 ms, held back in {throttled}");
    assert!(throttled > 5, "{throttled}");
    // By accounting, not by the clock; a tick more than the quota passes in each period.
    assert!(used < (periods + 2) * 115_000, "{used} us in {periods} periods");
    job.kill(child);
}

/// A paused job does nothing, and goes on from there.
fn pause(job: &Job) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (child, _stdin) = job.start("i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done");
    let count = || fs::read_to_string("/tmp/count").ok()?.trim().parse::<u64>().ok();
    until("it counts", || count().is_some());
    runtime.block_on(job.cage.freeze(true)).unwrap();
    assert!(job.file("cgroup.events").contains("frozen 1"));
    let (before, used) = (count(), job.number("cpu.stat", "usage_usec"));
    // The machine goes on meanwhile.
    let mut other = Command::new("/bin/sh");
    other.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]);
    assert!(other.status().unwrap().success());
    assert_eq!((count(), job.number("cpu.stat", "usage_usec")), (before, used));
    runtime.block_on(job.cage.freeze(false)).unwrap();
    until("it counts again", || count() > before);
    // And what is paused can be killed.
    runtime.block_on(job.cage.freeze(true)).unwrap();
    job.kill(child);
}

/// The volunteer's own programs go first, on processors and disks.
fn weights(job: &Job) {
    assert_eq!(job.file("cpu.weight").trim(), "20");
    assert_eq!(job.file("io.weight").trim(), "default 20");
}
