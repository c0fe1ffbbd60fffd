//! A volunteer's machine as the scheduler sees it.

use coordinator_api::resource::ResourceState;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, NodeNumber, UnixMillis};

/// A node: one agent, one OAR host name, one resource per core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number and host name.
    pub number: NodeNumber,
    /// Cores that the volunteer gives, at least 1.
    pub cores: u16,
    /// The number of its first resource; the others follow.
    pub first_resource: u64,
    /// Alive, Suspected, ...
    pub state: ResourceState,
    /// When it was last given a job.
    pub last_job: UnixMillis,
    /// The job whose launch it takes part in, until its part is over.
    pub assignment: Option<JobId>,
    /// Parts of launches that are over while the node has not said so. It is not free before.
    pub leftovers: Vec<Leftover>,
    /// When it was last heard. Kept in memory only: after a restart every node has a fresh start.
    #[serde(skip)]
    pub last_seen: UnixMillis,
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
    /// The node can take a job.
    pub fn is_free(&self) -> bool {
        self.state == ResourceState::Alive && self.assignment.is_none() && self.leftovers.is_empty()
    }

    /// The numbers of its resources.
    pub fn resources(&self) -> std::ops::Range<u64> {
        self.first_resource..self.first_resource + u64::from(self.cores)
    }
}
