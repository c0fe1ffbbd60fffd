//! A job's control groups: version 2 where its controllers are delegated to this process, version 1 where it may
//! make groups, each controller for itself. What neither has is missing in the [`Cage`].
//!
//! The agent finds the places once; the shim makes a job's groups and puts the sandbox's first process into them
//! before it runs anything; whoever clears the launch away removes them. Names follow from the launch's folder, so
//! that a restarted agent finds what another has left.

mod found;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::limits::JobLimits;

pub use found::Cages;

/// The period of processor time, microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// The weight of jobs beside the volunteer's own programs, whose weight is 100 (version 2) or 1024 (version 1).
const WEIGHT: [u64; 2] = [200, 20];

/// How often, and with what pauses, the kernel is asked whether all have stopped, or gone.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// The beginning of all groups' names.
const NAME: &str = "clouds-job-";

/// One directory of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Of version 2.
    pub v2: bool,
    /// Where it is.
    pub path: PathBuf,
}

impl Group {
    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value).map_err(|error| {
            io::Error::new(error.kind(), format!("{}/{file}: {error}", self.path.display()))
        })
    }

    /// The same, where the file exists.
    fn write_if_there(&self, file: &str, value: &str) -> io::Result<()> {
        if self.path.join(file).exists() { self.write(file, value) } else { Ok(()) }
    }

    fn by_version<'a>(&self, names: [&'a str; 2]) -> &'a str {
        names[usize::from(self.v2)]
    }
}

/// The groups of one job; several of them may be the same directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cage {
    /// Limits memory.
    pub memory: Option<Group>,
    /// Limits processors' time.
    pub cpu: Option<Group>,
    /// Limits processes and threads.
    pub tasks: Option<Group>,
    /// Stops and continues.
    pub freezer: Option<Group>,
}

impl Cage {
    fn groups(&self) -> Vec<&Group> {
        let mut all: Vec<_> =
            [&self.memory, &self.cpu, &self.tasks, &self.freezer].into_iter().flatten().collect();
        all.sort_by_key(|group| &group.path);
        all.dedup_by_key(|group| &group.path);
        all
    }

    /// Makes the groups and sets their limits.
    ///
    /// # Errors
    /// When the kernel refuses; names the file.
    pub fn make(&self, limits: &JobLimits) -> io::Result<()> {
        for group in self.groups() {
            match fs::create_dir(&group.path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.set(limits)
    }

    /// Sets other limits.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn set(&self, limits: &JobLimits) -> io::Result<()> {
        if let Some(group) = self.memory.as_ref().filter(|_| limits.memory_bytes > 0) {
            let bytes = limits.memory_bytes.to_string();
            group.write(group.by_version(["memory.limit_in_bytes", "memory.max"]), &bytes)?;
            // Version 1 counts memory and swap together, and takes no less than memory alone.
            let swap = if group.v2 { "0" } else { &bytes };
            group.write_if_there(
                group.by_version(["memory.memsw.limit_in_bytes", "memory.swap.max"]),
                swap,
            )?;
        }
        if let Some(group) = &self.cpu {
            let quota = u64::from(limits.cores) * PERIOD_US;
            match (limits.cores, group.v2) {
                (0, _) => {}
                (_, true) => group.write("cpu.max", &format!("{quota} {PERIOD_US}"))?,
                (_, false) => {
                    group.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                    group.write("cpu.cfs_quota_us", &quota.to_string())?;
                }
            }
            let weight = WEIGHT[usize::from(group.v2)].to_string();
            group.write(group.by_version(["cpu.shares", "cpu.weight"]), &weight)?;
            group.write_if_there("io.weight", &weight)?;
        }
        if let Some(group) = self.tasks.as_ref().filter(|_| limits.tasks > 0) {
            group.write("pids.max", &limits.tasks.to_string())?;
        }
        Ok(())
    }

    /// Puts a process into all of them; what it starts later is there, too.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn admit(&self, process: i32) -> io::Result<()> {
        self.groups().iter().try_for_each(|group| group.write("cgroup.procs", &process.to_string()))
    }

    /// Whether processes can be stopped by [`Self::freeze`].
    pub fn can_freeze(&self) -> bool {
        self.freezer.is_some()
    }

    /// Stops everything in it, or lets it go on, and returns when that is so.
    ///
    /// # Errors
    /// When the kernel refuses, or a process does not stop within a second.
    pub async fn freeze(&self, frozen: bool) -> io::Result<()> {
        let Some(group) = &self.freezer else { return Ok(()) };
        let (file, order, events, wanted) = match (group.v2, frozen) {
            (true, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (true, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
            (false, true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
        };
        for _ in 0..TRIES {
            // Again and again: version 1 forgets those who were just being made.
            group.write(file, order)?;
            if fs::read_to_string(group.path.join(events))?.lines().any(|line| line == wanted) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// How many processes the kernel has ended because the memory was used up.
    pub fn out_of_memory(&self) -> u64 {
        let count = |group: &Group| {
            let file = group.by_version(["memory.oom_control", "memory.events"]);
            let text = fs::read_to_string(group.path.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
        };
        self.memory.as_ref().and_then(count).unwrap_or(0)
    }

    /// Removes the groups, which must be empty of processes, or about to be.
    ///
    /// # Errors
    /// When a process stays in one.
    pub fn remove(&self) -> io::Result<()> {
        if let Some(group) = self.freezer.as_ref().filter(|group| !group.v2) {
            // What is frozen does not even die.
            let _ = group.write_if_there("freezer.state", "THAWED");
        }
        for group in self.groups() {
            let mut tries = 0;
            loop {
                match fs::remove_dir(&group.path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                        tries += 1;
                        std::thread::sleep(PAUSE);
                    }
                    removed => break removed?,
                }
            }
        }
        Ok(())
    }
}

/// The groups' name: other agents may make theirs in the same place.
fn name_of(folder: &Path) -> String {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    format!("{NAME}{}", data_encoding::HEXLOWER.encode(&digest[..8]))
}
