//! What the owner gives to jobs, and when. Changed while the agent runs, and kept on the disk.

mod hours;
mod wishes;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coordinator_api::agent::Assignment;
use nix::sys::statvfs::statvfs;
use tokio::sync::watch;

use crate::confine::limits::{JobLimits, MAX_TASKS};
use crate::enrol::Offer;
use crate::state_dir::{read_json, write_private};

pub use hours::{BadHours, Hours};
pub use wishes::{Change, Wishes};

/// The file of the wishes.
const FILE: &str = "owner.json";

/// The part of the free disk that jobs get when the owner has said nothing.
const DISK_SHARE: u64 = 2;

/// The owner's word. Cheap to clone.
#[derive(Clone)]
pub struct Owner {
    state: PathBuf,
    offer: Offer,
    will: Arc<watch::Sender<Will>>,
    /// Cores of the launches that have begun.
    used: Arc<watch::Sender<u32>>,
}

/// The wishes, and what the clock makes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// What was said.
    pub wishes: Wishes,
    /// It is one of the hours for jobs.
    pub is_time: bool,
}

impl Will {
    /// New jobs are taken.
    pub fn takes_jobs(&self) -> bool {
        self.is_time && !self.wishes.draining && !self.wishes.paused
    }

    /// Jobs stand still.
    pub fn is_paused(&self) -> bool {
        self.wishes.paused || !self.is_time
    }
}

impl Owner {
    /// What was said before, in this state directory.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn load(state: &Path, offer: Offer) -> io::Result<Self> {
        let wishes: Wishes = read_json(&state.join(FILE))?.unwrap_or_default();
        let is_time = wishes.is_time(hours::now());
        let (will, _) = watch::channel(Will { wishes, is_time });
        let (used, _) = watch::channel(0);
        Ok(Self { state: state.to_owned(), offer, will: Arc::new(will), used: Arc::new(used) })
    }

    /// What holds now.
    pub fn will(&self) -> Will {
        self.will.borrow().clone()
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<Will> {
        self.will.subscribe()
    }

    /// Says something new. On the disk before it counts.
    ///
    /// # Errors
    /// When the disk does not take it; the old word stays.
    pub fn change(&self, change: &Change) -> io::Result<Wishes> {
        let wishes = change.applied(self.will().wishes);
        write_private(&self.state.join(FILE), &serde_json::to_vec(&wishes)?)?;
        let is_time = wishes.is_time(hours::now());
        self.will.send_replace(Will { wishes: wishes.clone(), is_time });
        Ok(wishes)
    }

    /// Looks at the clock, which may have been set, again and again.
    pub async fn watch_the_clock(&self) {
        loop {
            tokio::time::sleep(hours::LOOK).await;
            let now = hours::now();
            self.will.send_if_modified(|will| {
                let before = will.is_time;
                will.is_time = will.wishes.is_time(now);
                before != will.is_time
            });
        }
    }

    fn cores(&self) -> u16 {
        self.will.borrow().wishes.cores.unwrap_or(self.offer.cores).max(1)
    }

    /// What a launch may use: of everything as large a part as of the cores.
    pub fn limits_of(&self, assignment: &Assignment) -> JobLimits {
        let wishes = self.will().wishes;
        let cores = self.cores();
        let own = cores_of(assignment).clamp(1, cores);
        let part = |all: u64| all / u64::from(cores) * u64::from(own);
        let memory = wishes.memory_mib.unwrap_or(self.offer.memory_mib);
        let disk = wishes.disk_mib.map_or_else(|| self.free_disk() / DISK_SHARE, |mib| mib << 20);
        JobLimits {
            cores: own,
            memory_bytes: part(memory << 20),
            tasks: MAX_TASKS,
            disk_bytes: part(disk),
        }
    }

    fn free_disk(&self) -> u64 {
        statvfs(&self.state).map_or(0, |found| found.blocks_available() * found.fragment_size())
    }

    /// Waits until there are as many cores as the launch wants; with all of them free it never waits.
    pub async fn admit(&self, assignment: &Assignment) -> Place {
        let cores = u32::from(cores_of(assignment));
        let (mut used, mut will) = (self.used.subscribe(), self.will.subscribe());
        loop {
            let all = u32::from(self.cores());
            let has_room = self.used.send_if_modified(|used| {
                let fits = *used == 0 || *used + cores <= all;
                *used += if fits { cores } else { 0 };
                fits
            });
            if has_room {
                return Place { cores, used: Arc::clone(&self.used) };
            }
            tokio::select! {
                _ = used.changed() => {}
                _ = will.changed() => {}
            }
        }
    }

    /// The place of a launch that runs already.
    pub fn readmit(&self, assignment: &Assignment) -> Place {
        let cores = u32::from(cores_of(assignment));
        self.used.send_modify(|used| *used += cores);
        Place { cores, used: Arc::clone(&self.used) }
    }
}

fn cores_of(assignment: &Assignment) -> u16 {
    assignment.nodes.get(usize::from(assignment.rank)).map_or(1, |node| node.cores).max(1)
}

/// Cores that a launch has. Dropping it frees them.
pub struct Place {
    cores: u32,
    used: Arc<watch::Sender<u32>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.used.send_modify(|used| *used -= self.cores);
    }
}

#[cfg(test)]
mod tests;
