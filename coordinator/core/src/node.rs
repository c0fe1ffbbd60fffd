//! A volunteer's machine as the scheduler sees it.

use std::collections::{BTreeMap, BTreeSet};

use coordinator_api::resource::ResourceState;
use serde::{Deserialize, Serialize};

use crate::cluster::Policy;
use crate::ids::{JobId, NodeNumber, UnixMillis};

/// A node: one agent, one OAR host name, one resource per core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number and host name.
    pub number: NodeNumber,
    /// Cores that the volunteer gives, at least 1.
    pub cores: u16,
    /// Memory that the volunteer gives, MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// What the operator says of it, by names in lower case: conditions of jobs look at these too.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The operator has taken it away: Absent or Dead, whatever is heard of it.
    #[serde(default)]
    pub taken_away: Option<ResourceState>,
    /// The number of its first resource; the others follow.
    pub first_resource: u64,
    /// Alive, Suspected, ...
    pub state: ResourceState,
    /// When it was last given a job.
    pub last_job: UnixMillis,
    /// The jobs whose launches it takes part in, until its part is over. No core is in two shares.
    pub shares: Vec<Share>,
    /// Parts of launches that are over while the node has not said so. It takes no job before.
    pub leftovers: Vec<Leftover>,
    /// Since when it is silent, once it is believed lost.
    #[serde(default)]
    pub silent_since: Option<UnixMillis>,
    /// When it was last heard. Kept in memory only: after a restart every node has a fresh start.
    #[serde(skip)]
    pub last_seen: UnixMillis,
}

/// The cores of a node that belong to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The job.
    pub job: JobId,
    /// The cores, counted from 0 within the node; never empty.
    pub cores: Vec<u16>,
}

/// A part of a launch that the node must still end: an entry of its `toKill` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The job.
    pub job: JobId,
    /// The launch.
    pub generation: u32,
    /// Since when the node, being alive, could have answered.
    pub since: UnixMillis,
}

impl Node {
    /// The cores that a new job can get, in rising order: none while the node cannot take a job.
    pub fn free_cores(&self) -> Vec<u16> {
        if self.state != ResourceState::Alive || !self.leftovers.is_empty() {
            return Vec::new();
        }
        let taken: BTreeSet<u16> =
            self.shares.iter().flat_map(|share| share.cores.iter().copied()).collect();
        (0..self.cores).filter(|core| !taken.contains(core)).collect()
    }

    /// The operator lets it run dry: no new jobs.
    pub fn is_draining(&self) -> bool {
        self.properties.get("drain").is_some_and(|value| value == "YES")
    }

    /// What its silence makes of it next, and when.
    pub(crate) fn next_silent_state(&self, policy: &Policy) -> Option<(UnixMillis, ResourceState)> {
        let since = self.silent_since?;
        match self.state {
            ResourceState::Suspected => Some((since + policy.absent_after, ResourceState::Absent)),
            ResourceState::Absent => Some((since + policy.dead_after, ResourceState::Dead)),
            ResourceState::Alive | ResourceState::Dead => None,
        }
    }

    /// The job that one of its resources works for.
    pub fn job_of(&self, resource: u64) -> Option<JobId> {
        let core = u16::try_from(resource.checked_sub(self.first_resource)?).ok()?;
        self.shares.iter().find(|share| share.cores.contains(&core)).map(|share| share.job)
    }

    /// The numbers of its resources.
    pub fn resources(&self) -> std::ops::Range<u64> {
        self.first_resource..self.first_resource + u64::from(self.cores)
    }
}
