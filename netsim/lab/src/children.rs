//! `netsim run` as a child of this process: for whoever wants several runs, each in a process of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use netsim_report::model::Run;
use netsim_report::{RunState, read};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::confine;

/// Runs a scenario with its run directory at `dir`, which is made anew, and waits for its end. What it says
/// goes to [`log_of`] that directory. Whether it passed stands in the directory; whether it did not even begin,
/// in its log.
///
/// # Errors
/// When it cannot be started, or was interrupted together with this process.
pub(crate) fn run(
    scenario: &str,
    seed: u64,
    settings: &[String],
    dir: &Path,
    more: &[String],
) -> anyhow::Result<()> {
    // What an interrupted one has left of it.
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let mut args: Vec<OsString> =
        ["run", scenario, "--seed", &seed.to_string()].map(Into::into).to_vec();
    for setting in settings {
        args.extend(["--set".into(), setting.into()]);
    }
    args.extend(["--out".into(), dir.into()]);
    args.extend(more.iter().map(Into::into));
    itself(args, &log_of(dir)).map(drop)
}

/// Runs this program with these arguments, and waits for its end; what it says goes to `log`. Its exit status.
///
/// # Errors
/// When it cannot be started, or was interrupted together with this process.
pub(crate) fn itself(args: impl IntoIterator<Item = OsString>, log: &Path) -> anyhow::Result<i32> {
    let failed = || format!("cannot write {}", log.display());
    let output = File::create(log).with_context(failed)?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(own);
    command.args(args);
    command.stdin(Stdio::null()).stdout(output.try_clone().with_context(failed)?).stderr(output);
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?)) };
    let child = command.spawn().context("cannot start netsim once more")?;
    // A signal to this process is the run's, which takes everything down before it ends.
    let status = confine::accompany(Pid::from_raw(child.id().cast_signed()), &[]);
    confine::end_with_signals();
    match confine::interrupted_by(status) {
        // Somebody else's doing, as the kernel's when there is no memory: a run that broke.
        None | Some(Signal::SIGKILL) => Ok(status),
        Some(signal) => {
            bail!("interrupted by {signal}: runs that have ended are kept in its folder")
        }
    }
}

/// Where the output of the run in that directory is: beside it.
pub(crate) fn log_of(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".log");
    dir.with_file_name(name)
}

/// The run in a directory, if it came to its end.
pub(crate) fn finished(dir: &Path) -> Option<Run> {
    let contents = read::read(dir).ok()?;
    (contents.info.state == RunState::Finished).then(|| Run::of(contents))
}
