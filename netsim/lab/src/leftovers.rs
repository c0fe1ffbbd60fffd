//! `netsim clean`: what runs that were killed have left, and its removal.
//!
//! A run that ends by itself, by a signal or by an error removes everything, or says what it keeps; what it
//! keeps is removed when that is asked for.
//! One that is killed with `SIGKILL`, or ends with the machine, leaves its directory: the processes
//! and namespaces end with it (see [`confine`]). Only directories that carry the
//! mark of a run of this user, which is over, are touched.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::confine;
use crate::mark::{self, Held, Mark, Run};
use crate::processes::{self, Process};
use crate::wait;

/// How long processes may take to end after `SIGKILL`.
const END: Duration = Duration::from_secs(10);

/// A directory that looks like a run's by its name.
#[derive(Debug)]
pub enum Found {
    /// A killed run has left it.
    Leftover(Leftover),
    /// Its run is at work.
    InUse(PathBuf),
    /// A failed run has kept it for its logs.
    Kept(Leftover),
    /// It has no mark of this user's: it is no run's.
    Unmarked(PathBuf),
}

/// What a killed run has left, or a failed one has kept.
#[derive(Debug)]
pub struct Leftover {
    /// Its directory.
    pub dir: PathBuf,
    /// Processes that were started with this directory as their temporary one.
    pub processes: Vec<Process>,
    _held: Held,
}

/// Looks for run directories of this user in the system's temporary directory, sorted by name.
pub fn find() -> io::Result<Vec<Found>> {
    let found = confine::default_run_dirs()?.into_iter().filter_map(|dir| match mark::look(&dir) {
        None => Some(match mark::look_kept(&dir) {
            Some(held) => Found::Kept(Leftover { processes: processes_of(&dir), dir, _held: held }),
            None => Found::Unmarked(dir),
        }),
        Some(Run::Alive(_)) => Some(Found::InUse(dir)),
        // It was asked for by name.
        Some(Run::Over(Mark { keep: true, .. }, _)) => None,
        Some(Run::Over(_, held)) => {
            let processes = processes_of(&dir);
            Some(Found::Leftover(Leftover { dir, processes, _held: held }))
        }
    });
    Ok(found.collect())
}

impl Leftover {
    /// Ends the processes and removes the directory.
    pub fn remove(self) -> io::Result<()> {
        let gone = wait::until("the end of its processes", END, || {
            let left = processes_of(&self.dir);
            for process in &left {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        });
        gone.map_err(io::Error::other)?;
        confine::remove_run(&self.dir)
    }
}

/// The processes of this user whose temporary directory it is: a run gives it to all that it starts.
fn processes_of(dir: &Path) -> Vec<Process> {
    let wanted = [b"TMPDIR=", dir.as_os_str().as_encoded_bytes()].concat();
    let is_of_run = |process: &Process| {
        processes::environment(process.pid).split(|byte| *byte == 0).any(|entry| entry == wanted)
    };
    processes::all().into_iter().filter(is_of_run).collect()
}
