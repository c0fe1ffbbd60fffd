//! What the owner gives to jobs, and when. Changed while the agent runs, and kept on the disk.

mod hours;
mod traffic;
mod wishes;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coordinator_api::agent::Assignment;
use coordinator_client::transfer::Pace;
use jiff::civil::Date;
use nix::sys::statvfs::statvfs;
use overlay_core::Activity;
use overlay_driver::RateLimit;
use tokio::sync::watch;

use self::traffic::{ArchivePace, Traffic};
use crate::confine::limits::{JobLimits, MAX_TASKS};
use crate::enrol::Offer;
use crate::state_dir::{read_json, write_private};

pub use hours::{BadHours, Hours};
pub use traffic::{NetworkGrant, NetworkUse};
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
    /// Granted at the start.
    network: NetworkGrant,
    traffic: Arc<Traffic>,
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
    /// Something is left of what the network may carry today.
    pub has_volume: bool,
}

impl Will {
    /// New jobs are taken.
    pub fn takes_jobs(&self) -> bool {
        self.is_time && self.has_volume && !self.wishes.draining && !self.wishes.paused
    }

    /// What the jobs' peers are told.
    pub fn activity(&self) -> Activity {
        match (self.is_paused(), self.has_volume) {
            (true, _) => Activity::Paused,
            (false, false) => Activity::Throttled,
            (false, true) => Activity::Working,
        }
    }

    /// Jobs stand still.
    pub fn is_paused(&self) -> bool {
        self.wishes.paused || !self.is_time
    }
}

/// What was said in this state directory, whether or not an agent runs.
///
/// # Errors
/// When the file is damaged.
pub fn said(state: &Path) -> io::Result<Wishes> {
    Ok(read_json(&state.join(FILE))?.unwrap_or_default())
}

impl Owner {
    /// What was said, and how much the network has carried today, before, in this state directory.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn load(state: &Path, offer: Offer, network: NetworkGrant) -> io::Result<Self> {
        let wishes = said(state)?;
        let (today, minute) = hours::now();
        let is_time = wishes.is_time(minute);
        let (will, _) = watch::channel(Will { wishes, is_time, has_volume: true });
        let owner = Self {
            state: state.to_owned(),
            offer,
            network,
            traffic: Arc::new(Traffic::load(state, today)),
            will: Arc::new(will),
            used: Arc::new(watch::channel(0).0),
        };
        owner.look(today, minute);
        Ok(owner)
    }

    /// What holds now.
    pub fn will(&self) -> Will {
        Will { has_volume: !self.traffic.is_used_up(), ..self.will.borrow().clone() }
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
        self.will.send_modify(|will| will.wishes = wishes.clone());
        let (today, minute) = hours::now();
        self.look(today, minute);
        Ok(wishes)
    }

    /// Looks at the clock, which may have been set, again and again.
    pub async fn watch_the_clock(&self) {
        loop {
            tokio::time::sleep(hours::LOOK).await;
            let (today, minute) = hours::now();
            self.look(today, minute);
        }
    }

    /// What the clock, and the day's traffic, make of the wishes.
    fn look(&self, today: Date, minute: u16) {
        let grant = self.will.borrow().wishes.network(self.network);
        if let Err(error) = self.traffic.look(today, grant) {
            tracing::warn!(%error, "today's traffic could not be written down");
        }
        let has_volume = !self.traffic.is_used_up();
        let has_changed = self.will.send_if_modified(|will| {
            let before = (will.is_time, will.has_volume);
            (will.is_time, will.has_volume) = (will.wishes.is_time(minute), has_volume);
            before != (will.is_time, will.has_volume)
        });
        if has_changed && !has_volume {
            tracing::warn!(network = %self.network_use(), "no more jobs today");
        }
    }

    /// Writes today's traffic down; to be called at the end.
    pub fn close(&self) {
        if let Err(error) = self.traffic.close(hours::now().0) {
            tracing::warn!(%error, "today's traffic could not be written down");
        }
    }

    /// What the network may carry, and has.
    pub fn network_use(&self) -> NetworkUse {
        self.traffic.used()
    }

    /// From which the jobs' networks take their bytes.
    pub fn limit(&self) -> Arc<RateLimit> {
        self.traffic.limit()
    }

    /// From which archives take theirs: the same.
    pub fn pace(&self) -> Arc<dyn Pace> {
        Arc::new(ArchivePace(self.traffic.limit()))
    }

    /// How many all jobs together have.
    pub fn cores(&self) -> u16 {
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
