//! One run of the job's command inside its sandbox.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::pause::{self, Pauses};
use super::protocol::{Ending, ExitReport, LaunchSpec};
use super::{drain, sandbox};
use crate::confine::{disk, syscalls};

/// Why a command is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The agent's order.
    Ordered,
    /// It has run for its walltime.
    Walltime,
    /// There is no agent any more.
    Alone,
}

impl Stop {
    pub(super) fn ending(self) -> Ending {
        match self {
            Self::Ordered => Ending::Killed,
            Self::Walltime => Ending::Walltime,
            Self::Alone => Ending::Alone,
        }
    }
}

/// How long the outputs may stay open after every process of the job has ended. They cannot: this bounds
/// a bug, not a wait.
const OUTPUT_CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// How long the job's processes may take to die after their final signal. They are many at worst, or wait
/// for a disk that does not answer.
const NAMESPACE_END_LIMIT: Duration = Duration::from_secs(30);

/// What the SSH server of a node without a command says, in the job's directory.
const SESSIONS_LOG: &str = "sessions.log";

/// How much sooner the job's processes are ended than others when the machine's memory is used up, of 1000.
const OOM_SCORE: &str = "500";

/// How often to look.
const NAMESPACE_END_INTERVAL: Duration = Duration::from_millis(2);

/// What bubblewrap tells about the sandbox (`--json-status-fd`), one object a line.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    child_pid: Option<i32>,
    exit_code: Option<i32>,
}

/// Runs the command of `spec` in the sandbox of the job directory, and its SSH server on `sessions`, and waits
/// for their end.
///
/// Must be called on the shim's one thread: the sandbox dies with the thread that started it.
pub async fn run(
    directory: PathBuf,
    spec: LaunchSpec,
    sessions: Option<TcpListener>,
    stop: watch::Receiver<Option<Stop>>,
    pauses: Pauses,
) -> ExitReport {
    let report = match attempt(&directory, &spec, sessions, stop, pauses).await {
        Ok(report) => report,
        Err(reason) => ExitReport::not_started(Ending::Unusable { reason }),
    };
    if let Err(error) = spec.cage.remove() {
        tracing::warn!(%error, "a control group of the job is left");
    }
    report
}

async fn attempt(
    directory: &Path,
    spec: &LaunchSpec,
    sessions: Option<TcpListener>,
    mut stop: watch::Receiver<Option<Stop>>,
    mut pauses: Pauses,
) -> Result<ExitReport, String> {
    let program = sandbox::bubblewrap().map_err(|error| error.to_string())?;
    let agent = own_program().map_err(|error| error.to_string())?;
    let work = directory.join("work");
    let create = |name: &str| match spec.role.has_command() {
        true => create_output(&work.join(name)).map_err(|error| format!("{name}: {error}")),
        false => create_output(&directory.join(SESSIONS_LOG)).map_err(|error| error.to_string()),
    };
    let stdout = create(&spec.stdout)?;
    let stderr = create(&spec.stderr)?;
    let complaint = stderr.try_clone().map_err(|e| format!("stderr: {e}"))?;
    let (status_read, status_write) = inherited_output().map_err(|e| e.to_string())?;
    let (gate_read, gate) = inherited_input().map_err(|e| e.to_string())?;
    let mut filters = Vec::new();
    for filter in syscalls::filters().map_err(|error| error.to_string())? {
        let (read, write) = inherited_input().map_err(|e| e.to_string())?;
        // It fits the pipe, see there.
        fs::File::from(write).write_all(&filter).map_err(|e| e.to_string())?;
        filters.push(read);
    }
    spec.cage.make(&spec.limits).map_err(|error| format!("limiting the job failed: {error}"))?;

    let descriptors = sandbox::Descriptors {
        status: status_write.as_raw_fd(),
        gate: gate_read.as_raw_fd(),
        filters: filters.iter().map(AsRawFd::as_raw_fd).collect(),
    };
    let mut child = Command::new(program)
        .args(sandbox::arguments(directory, spec, &agent, &descriptors))
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .stdin(sessions.map_or_else(Stdio::null, |socket| OwnedFd::from(socket).into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("starting bubblewrap failed: {error}"))?;
    drop((status_write, gate_read, filters));
    let outputs = [
        tokio::spawn(copy(child.stdout.take(), stdout, spec.max_output_bytes)),
        tokio::spawn(copy(child.stderr.take(), stderr, spec.max_output_bytes)),
    ];
    let (inside, mut inside_pid) = watch::channel(None);
    let status = tokio::task::spawn_blocking(move || read_status(status_read, &inside));

    // Bubblewrap waits before it runs anything. When it has failed instead, there is nobody to let in.
    if let Ok(Some(init)) = inside_pid.wait_for(Option::is_some).await.map(|init| *init) {
        spec.cage.admit(init).map_err(|error| format!("limiting the job failed: {error}"))?;
        // Before the volunteer's own programs, when the machine's memory is used up.
        let _ = fs::write(format!("/proc/{init}/oom_score_adj"), OOM_SCORE);
        let _ = fs::File::from(gate).write_all(b"!");
    }

    let init = *inside_pid.borrow_and_update();
    let ordered = async {
        let stop = stop.wait_for(Option::is_some).await.map(|stop| *stop);
        stop.ok().flatten().unwrap_or(Stop::Ordered).ending()
    };
    let stopped = tokio::select! {
        ended = child.wait() => { ended.map_err(|e| e.to_string())?; None }
        () = pauses.carry_out(&spec.cage, init, Duration::from_secs(spec.walltime_s)) => {
            Some(Ending::Walltime)
        }
        reason = disk::exceeded(work.clone(), spec.limits.disk_bytes) => {
            Some(Ending::OverLimit { reason })
        }
        ending = ordered => Some(ending),
    };
    if stopped.is_some() {
        if let Err(error) = pause::set(&spec.cage, init, false).await {
            tracing::warn!(%error, "a paused job is killed as it is");
        }
        let grace = Duration::from_millis(spec.kill_grace_ms);
        end(&mut child, init, grace).await;
    }
    let ended = child.wait().await.map_err(|error| error.to_string())?;
    let exit_code = status.await.ok().flatten();
    // Whoever reads the results must be alone with them.
    if let Some(init) = init {
        gone(Pid::from_raw(init)).await;
    }

    let mut output_cut = false;
    for output in outputs {
        if let Ok(Ok(Ok(cut))) = timeout(OUTPUT_CLOSE_LIMIT, output).await {
            output_cut |= cut;
        }
    }
    if stopped.is_none() && spec.mesh_mtu.is_some() {
        drain::drained().await;
    }
    let ending = match (stopped, exit_code) {
        (Some(ending), _) => ending,
        (None, Some(code)) => Ending::Exited { wait_status: (code & 0xff) << 8 },
        (None, None) => Ending::Unusable { reason: sandbox_failed(&complaint, ended) },
    };
    let out_of_memory = spec.cage.out_of_memory() > 0;
    Ok(ExitReport { ending, started: true, output_cut, out_of_memory })
}

/// This very program, also when an upgrade has replaced its file.
fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let is_there = path.is_file();
    Ok(if is_there { path } else { format!("/proc/{}/exe", std::process::id()).into() })
}

/// Bubblewrap ended without having run the command: its complaint is all that the output holds.
fn sandbox_failed(stderr: &fs::File, ended: std::process::ExitStatus) -> String {
    if let Some(signal) = ended.signal() {
        return format!("the sandbox was killed by signal {signal}");
    }
    let mut start = [0u8; 2000];
    let length = stderr.read_at(&mut start, 0).unwrap_or_default();
    let text = String::from_utf8_lossy(&start[..length]);
    let line = text.lines().next().unwrap_or("it said nothing").chars().take(500);
    format!("the sandbox could not be made: {}", line.collect::<String>())
}

/// A new file, whatever the stage-in put in its place.
fn create_output(path: &Path) -> io::Result<fs::File> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// A pipe whose write end bubblewrap inherits. The shim starts nothing else.
fn inherited_output() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok((read, write))
}

/// A pipe whose read end bubblewrap inherits.
fn inherited_input() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok((read, write))
}

/// Reads what bubblewrap tells until it ends; the exit code is there only when the command was run.
fn read_status(pipe: OwnedFd, inside: &watch::Sender<Option<i32>>) -> Option<i32> {
    let mut code = None;
    for line in BufReader::new(fs::File::from(pipe)).lines() {
        let status: Status = serde_json::from_str(&line.ok()?).unwrap_or_default();
        if status.child_pid.is_some() {
            inside.send_replace(status.child_pid);
        }
        code = status.exit_code.or(code);
    }
    code
}

/// Copies an output into its file, and reads on without writing when the file or the disk is full, so that
/// the program neither stalls nor dies of it. True when something was dropped.
async fn copy(from: Option<impl AsyncRead + Unpin>, to: fs::File, limit: u64) -> io::Result<bool> {
    let Some(mut from) = from else { return Ok(false) };
    let mut to = tokio::fs::File::from_std(to);
    let mut room = limit;
    let mut buffer = vec![0u8; 64 << 10];
    let mut cut = false;
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(cut);
        }
        let kept = count.min(usize::try_from(room).unwrap_or(usize::MAX));
        room -= kept as u64;
        cut |= kept < count;
        if write_through(&mut to, &buffer[..kept]).await.is_err() {
            room = 0;
            cut = true;
        }
    }
}

async fn write_through(to: &mut tokio::fs::File, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Waits until the init process of the job's process namespace is gone: it goes last. It is this
/// process's child since bubblewrap has left it behind (see [`adopt_orphans`]).
async fn gone(init: Pid) {
    let waited = timeout(NAMESPACE_END_LIMIT, async {
        while let Ok(WaitStatus::StillAlive) = waitpid(init, Some(WaitPidFlag::WNOHANG)) {
            sleep(NAMESPACE_END_INTERVAL).await;
        }
    });
    if waited.await.is_err() {
        tracing::error!("processes of the job do not end");
    }
}

/// Makes what bubblewrap leaves behind this process's children, so that [`run`] can wait for their end.
///
/// # Errors
/// When the kernel does not know how (before Linux 3.4).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Asks every process of the job to end, then ends them.
async fn end(child: &mut Child, init: Option<i32>, grace: Duration) {
    if let Some(init) = init {
        for pid in descendants(init) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = timeout(grace, child.wait()).await;
    }
    // Bubblewrap takes its process namespace with it.
    let _ = child.start_kill();
}

/// The processes below `root`. The job's processes cannot leave that tree: its root is the init process of
/// their namespace, which inherits orphans.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let pid: i32 = item.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name, in parentheses, may hold anything; the parent is the second field after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_cuts_the_output_and_not_the_program() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (from, mut program) = tokio::io::duplex(1000);
        let copied = tokio::spawn(copy(Some(from), full, u64::MAX));
        for _ in 0..100 {
            program.write_all(&[b'x'; 1000]).await.unwrap();
        }
        drop(program);
        assert!(copied.await.unwrap().unwrap());
    }
}
