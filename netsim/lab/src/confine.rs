//! The namespaces that a lab lives in: whatever happens, nothing of it survives.
//!
//! ```text
//! outer    the process that the user started: waits, forwards signals, removes the run directory
//!  └ init  process 1 of a new process namespace: collects orphans, ends with `lab`
//!     └ lab  returns from [`enter`]: builds networks, starts programs
//!        └ coordinator, agents, their shims, jobs ... (new sessions cannot escape either)
//! ```
//! When `lab` ends, for any reason, `init` ends, and the kernel kills every process that is left in
//! the namespace. `init` in turn dies with `outer`. As an ordinary user all of this happens in a new
//! user namespace in which that user is root; real root needs none.

use std::fs;
use std::io::{self, Write as _};
use std::iter;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getgid, getuid};

use crate::mark::{self, Mark};

pub(crate) mod hosts;

/// Seconds between a forwarded signal and the end by force.
///
/// Chosen: the lab kills what it started at once and removes a few megabytes of files.
const GRACE_S: libc::c_uint = 10;

/// What becomes of the run directory in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It stays.
    Always,
    /// It stays only when the lab failed; not when it was interrupted.
    OnFailure,
}

/// The lab cannot have namespaces of its own.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel or its configuration refuses user namespaces.
    #[error(
        "cannot make a user namespace: allow it with `sysctl -w kernel.unprivileged_userns_clone=1` \
         (Debian), `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu 24.04 and \
         later) and a `user.max_user_namespaces` above 0, or run as root"
    )]
    UserNamespace(#[source] io::Error),
    /// Another step failed.
    #[error("cannot {step}: {mend}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What to do about it.
        mend: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Moves the rest of this program into namespaces of its own, and returns inside.
///
/// `run_dir` is made if it does not exist (in a folder that does, unless it is to stay) and becomes
/// `TMPDIR`; what happens to it in the end is `keep`'s business, and outside of it nothing is written.
///
/// # Safety
///
/// The process must have a single thread: it forks, and the child goes on.
pub unsafe fn enter(run_dir: &Path, keep: Keep) -> Result<(), ConfineError> {
    // SAFETY: by this function's contract.
    unsafe { enter_and_then(run_dir, keep, |_| {}) }
}

/// [`enter`], where `at_end` is done when everything has ended, with the lab's exit status, while the run
/// directory is still there. It runs in the process that the user started, whatever has become of the
/// lab; only if that process is killed, it is not.
///
/// # Safety
///
/// As for [`enter`].
pub unsafe fn enter_and_then(
    run_dir: &Path,
    keep: Keep,
    at_end: impl FnOnce(i32),
) -> Result<(), ConfineError> {
    let made = !run_dir.exists();
    if keep == Keep::Always {
        fs::create_dir_all(run_dir)
            .map_err(step("make the run directory", "choose another one"))?;
    } else if made {
        // Nobody would remove the folders around it.
        let mend = "make the folder that it is in, or let TMPDIR name one that is there";
        fs::create_dir(run_dir).map_err(step("make the run directory", mend))?;
    }
    let failed = |error| {
        let _ = mark::take_off(run_dir);
        if made {
            let _ = fs::remove_dir(run_dir);
        }
        error
    };
    // Locked until this process, `init` and `lab` have all ended: programs do not inherit it.
    let mend = "free some space, or choose another directory";
    let _held = Mark::own(keep == Keep::Always)
        .and_then(|mark| mark.set(run_dir))
        .map_err(|e| failed(step("mark the run directory", mend)(e)))?;
    unshare_namespaces().map_err(failed)?;

    // SAFETY: single-threaded by this function's contract.
    match unsafe { fork() }.map_err(|e| failed(step("fork", "free some memory")(e.into())))? {
        ForkResult::Parent { child } => {
            let status = attend(child, Some(GRACE_S), Some(child));
            // The rest is short, and must not be left half done; no number of a process is remembered.
            let ignored = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGALRM];
            on_signals(SigHandler::SigIgn, &ignored);
            at_end(status);
            clean_up(run_dir, keep, status);
            process::exit(status);
        }
        ForkResult::Child => become_init()?,
    }

    hosts::mount(run_dir).map_err(step("give the lab names of its own", mend))?;

    // SAFETY: still single-threaded. Programs and libraries that want a temporary file shall have
    // it in the run directory.
    unsafe { std::env::set_var("TMPDIR", run_dir) };
    Ok(())
}

/// The directory that a run uses when it is given none: a new one in the system's temporary
/// directory. Earlier runs that failed may have left theirs under the same process number.
pub fn default_run_dir() -> PathBuf {
    let base = std::env::temp_dir();
    let name = format!("netsim-{}", process::id());
    let later = (2..).map(|attempt: u32| base.join(format!("{name}-{attempt}")));
    let mut candidates = iter::once(base.join(&name)).chain(later);
    candidates.find(|path| !path.exists()).unwrap_or(base)
}

/// This user's directories that are named so, sorted.
pub(crate) fn default_run_dirs() -> io::Result<Vec<PathBuf>> {
    let own = getuid().as_raw();
    let is_own =
        |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
    let mut dirs: Vec<PathBuf> = fs::read_dir(std::env::temp_dir())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_default_name(path) && is_own(path))
        .collect();
    dirs.sort();
    Ok(dirs)
}

/// Whether [`default_run_dir`] gives such names: `netsim-` and one or two numbers.
fn is_default_name(path: &Path) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let name = path.file_name().and_then(|name| name.to_str());
    let numbers = name.and_then(|name| name.strip_prefix("netsim-")).unwrap_or_default();
    match numbers.split_once('-') {
        Some((process, attempt)) => is_number(process) && is_number(attempt),
        None => is_number(numbers),
    }
}

fn step(step: &'static str, mend: &'static str) -> impl Fn(io::Error) -> ConfineError {
    move |source| ConfineError::Step { step, mend, source }
}

/// Moves into new mount and process namespaces, as an ordinary user in a new user namespace too.
pub(crate) fn unshare_namespaces() -> Result<(), ConfineError> {
    let (uid, gid) = (getuid(), getgid());
    if !uid.is_root() {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| ConfineError::UserNamespace(e.into()))?;
        // A single id can be mapped without privileges, and group lists must be given up for it.
        fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")))
            .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")))
            .map_err(ConfineError::UserNamespace)?;
    }
    let mend = "run as root or where user namespaces give their root all capabilities (Ubuntu \
                24.04: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`)";
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .map_err(|e| step("make mount and process namespaces", mend)(e.into()))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|e| step("make the mounts private", mend)(e.into()))
}

/// Turns this process into `init`; returns in its child, the lab.
fn become_init() -> Result<(), ConfineError> {
    let mend = "give the container the right to mount proc, or run outside of it";
    set_pdeathsig(Signal::SIGKILL).map_err(|e| step("tie init to its parent", mend)(e.into()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .map_err(|e| step("mount /proc for the new process namespace", mend)(e.into()))?;
    // SAFETY: this is the only thread: the process has just been forked.
    match unsafe { fork() }.map_err(|e| step("fork", "free some memory")(e.into()))? {
        ForkResult::Parent { child } => process::exit(attend(child, None, None)),
        ForkResult::Child => Ok(()),
    }
}

/// Whom [`forward_signal`] forwards to, and after how many seconds it calls for an alarm.
static FORWARD_TO: AtomicI32 = AtomicI32::new(0);
static ALARM_AFTER_S: AtomicI32 = AtomicI32::new(0);

extern "C" fn forward_signal(signal: libc::c_int) {
    let target = FORWARD_TO.load(Ordering::Relaxed);
    // SAFETY: kill and alarm are async-signal-safe and touch no memory of ours.
    unsafe {
        if signal == libc::SIGALRM {
            libc::kill(target, libc::SIGKILL);
        } else {
            libc::kill(target, signal);
            let seconds = ALARM_AFTER_S.load(Ordering::Relaxed);
            if seconds > 0 {
                libc::alarm(seconds.cast_unsigned());
            }
        }
    }
}

/// Waits for `child` and returns its exit status; forwards signals to it meanwhile.
///
/// Collects every child (orphans become children of `init`) unless `only` names one.
fn attend(child: Pid, grace_s: Option<libc::c_uint>, only: Option<Pid>) -> i32 {
    FORWARD_TO.store(child.as_raw(), Ordering::Relaxed);
    ALARM_AFTER_S.store(grace_s.unwrap_or(0).cast_signed(), Ordering::Relaxed);
    on_signals(
        SigHandler::Handler(forward_signal),
        &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGALRM],
    );
    wait_for(child, only)
}

/// Waits for a command of the user's; ignores some signals and forwards the others meanwhile.
pub(crate) fn accompany(child: Pid, ignored: &[Signal]) -> i32 {
    FORWARD_TO.store(child.as_raw(), Ordering::Relaxed);
    let forwarded = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    on_signals(SigHandler::Handler(forward_signal), &forwarded);
    on_signals(SigHandler::SigIgn, ignored);
    wait_for(child, Some(child))
}

/// Undoes what [`accompany`] did: signals end this process again.
pub(crate) fn end_with_signals() {
    on_signals(SigHandler::SigDfl, &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
}

fn on_signals(handler: SigHandler, signals: &[Signal]) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in signals {
        // SAFETY: the handlers given only do what is allowed in one.
        let _ = unsafe { sigaction(*signal, &action) };
    }
}

fn wait_for(child: Pid, only: Option<Pid>) -> i32 {
    loop {
        match waitpid(only.unwrap_or(Pid::from_raw(-1)), None::<WaitPidFlag>) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// The signal that has ended a lab from outside, by its exit status.
pub fn interrupted_by(status: i32) -> Option<Signal> {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL];
    signals.into_iter().find(|signal| status == 128 + *signal as i32)
}

fn clean_up(run_dir: &Path, keep: Keep, status: i32) {
    let remove = keep == Keep::OnFailure && (status == 0 || interrupted_by(status).is_some());
    if remove && let Err(error) = remove_run(run_dir) {
        let _ = writeln!(io::stderr(), "cannot remove {}: {error}", run_dir.display());
    }
    if remove {
        return;
    }
    if keep == Keep::Always {
        // It is the user's now.
        let _ = mark::take_off(run_dir);
        return;
    }
    let has_more = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|e| !mark::is_mark(&e.path()));
    if !fs::read_dir(run_dir).is_ok_and(|mut entries| entries.any(has_more)) {
        // There is nothing to look at.
        let _ = remove_run(run_dir);
        return;
    }
    let _ = mark::keep(run_dir);
    let dir = run_dir.display();
    let _ = writeln!(io::stderr(), "{dir} is kept for its logs: `netsim clean --kept` removes it");
}

/// Removes a run's directory. The mark goes last: a removal that is interrupted can be taken up again.
pub(crate) fn remove_run(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !mark::is_mark(&path) {
            remove_tree(&path)?;
        }
    }
    remove_tree(dir)
}

/// Removes a file, or a tree in which jobs may have left directories that even their owner cannot
/// write to.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return fs::remove_file(path);
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    make_writable(path);
    fs::remove_dir_all(path)
}

fn make_writable(path: &Path) {
    let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if is_dir && fs::set_permissions(path, fs::Permissions::from_mode(0o700)).is_ok() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            make_writable(&entry.path());
        }
    }
}

/// From now on `SIGINT`, `SIGTERM` and `SIGHUP` end this process, and so the whole lab, at once.
pub fn end_on_signals() {
    on_signals(SigHandler::Handler(end), &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
}

/// The exit status of a lab that is held; below 0 while it works.
static HELD_WITH: AtomicI32 = AtomicI32::new(-1);

/// Keeps the lab until a signal ends it with `status`. [`end_on_signals`] must have been called.
pub fn hold(status: i32) -> ! {
    HELD_WITH.store(status, Ordering::Relaxed);
    loop {
        nix::unistd::pause();
    }
}

extern "C" fn end(signal: libc::c_int) {
    let text = b"\ninterrupted: everything that was started is being removed\n";
    // SAFETY: write and _exit are async-signal-safe; the text is static.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        let held_with = HELD_WITH.load(Ordering::Relaxed);
        libc::_exit(if held_with < 0 { 128 + signal } else { held_with });
    }
}
