//! How much of the machine one job may use.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// The most processes and threads of a job. Chosen: a rank and some threads for every core of a large machine; a
/// fork bomb of that size leaves the machine usable.
pub const MAX_TASKS: u64 = 4096;

/// The part of a job's memory that each of its `/tmp`, `/var/tmp` and `/dev/shm` may take, as tmpfs: what the
/// kernel gives a tmpfs of the whole machine.
const TMPFS_SHARE: u64 = 2;

/// The limits of one job. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobLimits {
    /// Processors' time, in cores.
    pub cores: u16,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// The work directory, bytes.
    pub disk_bytes: u64,
}

impl JobLimits {
    /// The size of each of the job's file systems in memory.
    pub fn tmpfs_bytes(&self) -> Option<u64> {
        (self.memory_bytes > 0).then_some((self.memory_bytes / TMPFS_SHARE).max(1 << 20))
    }
}

/// What the first program of a sandbox limits itself to: the cage's place where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// Address space of each process, bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads of the job's user. The kernel does not hold root to it.
    pub tasks: Option<u64>,
    /// The size of each file, bytes.
    pub file_bytes: Option<u64>,
}

impl OwnLimits {
    /// Takes them, for this process and all that it starts. Limits that are lower already stay.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self) -> io::Result<()> {
        // A program that crashes leaves no image of its memory beside the results.
        lower(Resource::Core, Some(0))?;
        lower(Resource::As, self.memory_bytes)?;
        lower(Resource::Nproc, self.tasks)?;
        lower(Resource::Fsize, self.file_bytes)
    }
}

fn lower(resource: Resource, limit: Option<u64>) -> io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let Rlimit { current, maximum } = getrlimit(resource);
    let least = |known: Option<u64>| Some(known.map_or(limit, |known| known.min(limit)));
    setrlimit(resource, Rlimit { current: least(current), maximum: least(maximum) })?;
    Ok(())
}
