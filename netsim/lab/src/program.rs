//! The system's programs, running in network namespaces with their output in files.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::wait;

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 15;

/// A program could not be started, or did not do what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there.
    #[error("{} is missing: build it with `cargo build --workspace --bins`", .0.display())]
    Missing(PathBuf),
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended, and should not have.
    #[error("{program} ended ({status}) before {what}{tail}")]
    Ended {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
        /// What was waited for.
        what: String,
        /// The end of its log.
        tail: Tail,
    },
    /// It did not do it in time.
    #[error("{program}: {what} did not happen within {} s{tail}", .limit.as_secs())]
    Late {
        /// Which.
        program: String,
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The end of its log.
        tail: Tail,
    },
    /// It ended with another status than expected.
    #[error("{program} failed ({status}){tail}")]
    Failed {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        tail: Tail,
    },
}

/// The last lines of a log, for an error.
#[derive(Debug)]
pub struct Tail(String);

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.lines().try_for_each(|line| write!(f, "\n    | {line}"))
    }
}

/// Where and as what programs run: a machine's namespace, its files and its environment.
#[derive(Clone, Debug)]
pub struct Place {
    /// The namespace.
    pub netns: Netns,
    /// The machine's directory: `HOME` and the logs are there.
    pub dir: PathBuf,
    /// Environment variables beside the usual ones.
    pub env: Vec<(OsString, OsString)>,
}

/// A running program. Dropping it kills its process group.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Place {
    /// Starts a program. `name` names its log files: `NAME.out` and `NAME.log`.
    pub fn start<S: AsRef<OsStr>>(
        &self,
        name: &str,
        path: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Program, ProgramError> {
        if !path.is_file() {
            return Err(ProgramError::Missing(path.to_owned()));
        }
        let failed = |source| ProgramError::Start { program: name.to_owned(), source };
        let (out, log) =
            (self.dir.join(format!("{name}.out")), self.dir.join(format!("{name}.log")));
        let mut command = self.netns.command(path);
        command.args(args).env_clear().current_dir(&self.dir).stdin(Stdio::null());
        command.stdout(File::create(&out).map_err(failed)?);
        command.stderr(File::options().create(true).append(true).open(&log).map_err(failed)?);
        for name in ["PATH", "RUST_LOG", "RUST_BACKTRACE", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", &self.dir).env("LANG", "C.UTF-8").envs(self.env.iter().cloned());
        let child = command.spawn().map_err(failed)?;
        Ok(Program { name: name.to_owned(), child, out, log })
    }

    /// Runs a program to its end; it is killed when it takes longer than `limit`.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        name: &str,
        path: &Path,
        args: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Finished, ProgramError> {
        let log = self.dir.join(format!("{name}.log"));
        let _ = fs::remove_file(&log);
        let mut program = self.start(name, path, args)?;
        let status = program.wait_for_end(limit)?;
        Ok(Finished { status, stdout: program.stdout(), stderr: read(&log) })
    }

    /// [`run`](Self::run), where anything but success is an error.
    pub fn expect<S: AsRef<OsStr>>(
        &self,
        name: &str,
        path: &Path,
        args: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Finished, ProgramError> {
        let finished = self.run(name, path, args, limit)?;
        if finished.status.success() {
            return Ok(finished);
        }
        Err(ProgramError::Failed {
            program: name.to_owned(),
            status: finished.status,
            tail: tail(&format!("{}\n{}", finished.stdout.trim_end(), finished.stderr)),
        })
    }
}

impl Program {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it has written to its log so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// The end of its log.
    pub fn tail(&self) -> Tail {
        tail(&self.log())
    }

    /// Waits until `look` finds something; fails early when the program ends.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, ProgramError> {
        let found = wait::until(what, limit, || {
            // Looked at in this order: what it wrote before it ended still counts.
            let ended = self.child.try_wait().ok().flatten();
            look(self).map(Ok).or_else(|| ended.map(Err))
        });
        let program = self.name.clone();
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => {
                let what = what.to_owned();
                Err(ProgramError::Ended { program, status, what, tail: self.tail() })
            }
            Err(late) => {
                Err(ProgramError::Late { program, what: late.what, limit, tail: self.tail() })
            }
        }
    }

    /// Waits until the program ends.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus, ProgramError> {
        let ended = wait::until("its end", limit, || self.child.try_wait().ok().flatten());
        ended.map_err(|late| ProgramError::Late {
            program: self.name.clone(),
            what: late.what,
            limit,
            tail: self.tail(),
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        let _ = nix::sys::signal::kill(self.pid(), signal);
    }

    /// Asks the program to end and waits for it; anything but a clean end is an error.
    pub fn stop(mut self, limit: Duration) -> Result<(), ProgramError> {
        self.signal(Signal::SIGTERM);
        let status = self.wait_for_end(limit)?;
        if status.success() || status.signal() == Some(Signal::SIGTERM as i32) {
            return Ok(());
        }
        Err(ProgramError::Failed { program: self.name.clone(), status, tail: self.tail() })
    }

    /// Kills the program alone, at once, as a crash would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn tail(text: &str) -> Tail {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Tail(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
