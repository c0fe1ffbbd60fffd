//! The mark of a run in its directory: whose it is, and whether anybody is still at work there.
//!
//! The mark is a file that the run holds locked. The kernel gives the lock up when the last process
//! that holds it ends, however it ends, and no other process can have taken it meanwhile: so a lock
//! that is free is the proof that the run is over, across restarts and process namespaces alike.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// The file's name.
const NAME: &str = ".netsim-run";
/// Its name in the directory of a run that failed, and is kept for its logs. A renaming needs no room on a
/// full disk.
const KEPT: &str = ".netsim-run.kept";
/// Its name until it is complete and locked.
const UNFINISHED: &str = ".netsim-run.new";

/// What the mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The user wants the directory in any case.
    pub keep: bool,
    /// The process that the user started.
    pub owner: u32,
    /// The process namespace in which that is its number.
    pub namespace: String,
}

/// The mark of this run. The lock is held until every process that has inherited this has ended.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "held open for its lock")] File);

/// Whether a marked directory's run is at work.
#[derive(Debug)]
pub enum Run {
    /// Some process of it lives.
    Alive(Mark),
    /// No process of it lives, and none takes the directory while this is held.
    Over(Mark, Held),
}

impl Mark {
    /// The mark of this process.
    pub fn own(keep: bool) -> io::Result<Self> {
        Ok(Self { keep, owner: std::process::id(), namespace: process_namespace()? })
    }

    /// Marks a directory as this process's.
    pub fn set(&self, dir: &Path) -> io::Result<Held> {
        // Complete and locked before it has its name: nobody sees a mark that is neither.
        let unfinished = dir.join(UNFINISHED);
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.try_lock()?;
        serde_json::to_writer(&file, self)?;
        fs::rename(&unfinished, dir.join(NAME))?;
        Ok(Held(file))
    }
}

/// Reads the mark of a directory; none if it has no mark that this user has set.
pub fn look(dir: &Path) -> Option<Run> {
    look_at(dir, NAME)
}

/// Whether a failed run of this user has kept the directory for its logs; nobody removes it while this is
/// held.
pub fn look_kept(dir: &Path) -> Option<Held> {
    match look_at(dir, KEPT)? {
        Run::Over(_, held) => Some(held),
        Run::Alive(_) => None,
    }
}

/// Says in the mark that the run has failed and keeps its directory for its logs.
pub fn keep(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(NAME), dir.join(KEPT))
}

fn look_at(dir: &Path, name: &str) -> Option<Run> {
    let own = geteuid().as_raw();
    // Others may make anything in the system's temporary directory, links to this user's files too.
    let is_own_dir = dir.symlink_metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(dir.join(name)).ok()?;
    let is_own_file = file.metadata().is_ok_and(|meta| meta.is_file() && meta.uid() == own);
    if !is_own_dir || !is_own_file {
        return None;
    }
    let mark = serde_json::from_reader(&file).ok()?;
    match file.try_lock() {
        Ok(()) => Some(Run::Over(mark, Held(file))),
        Err(TryLockError::WouldBlock) => Some(Run::Alive(mark)),
        Err(TryLockError::Error(_)) => None,
    }
}

/// Takes the mark off a directory, which then is whatever its owner makes of it.
pub fn take_off(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What tells the process namespace of this process from others.
pub(crate) fn process_namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

/// Whether that is the mark's own file.
pub(crate) fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == NAME || name == KEPT)
}
