//! A job and its launch.
//!
//! ```text
//! Waiting ──plan──► toLaunch ──first ack──► Launching ──all acks, mesh open──► Running
//!    ▲                  │                       │                                │
//!    └── launch failed ─┴───────────────────────┘                                │
//!    └── node lost, idempotent ──────────────────────────────────────────────────┤
//!                                                                            verdict
//!             Terminated / Error ◄── all parts have ended ◄── Finishing ◄────────┘
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_api::agent::Fault;
use coordinator_api::job::JobState;
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind};
use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::plan::PlannedShare;
use crate::request::Request;

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Who submitted it.
    pub owner: String,
    /// What was asked for.
    pub request: Request,
    /// Its state.
    pub state: JobState,
    /// When it was submitted.
    pub submitted: UnixMillis,
    /// When its last launch began.
    pub started: Option<UnixMillis>,
    /// When its command began to run; the walltime counts from here.
    pub running_since: Option<UnixMillis>,
    /// When it ended.
    pub stopped: Option<UnixMillis>,
    /// The raw wait status of its command.
    pub exit_code: Option<i32>,
    /// The number of its last launch; 0 before the first.
    pub generation: u32,
    /// How many launches failed.
    pub failed_launches: u32,
    /// How often it went back to the queue because a node was lost.
    #[serde(default)]
    pub requeues: u32,
    /// Which of its request's alternatives the last launch got.
    #[serde(default)]
    pub alternative: usize,
    /// The resources that an advance reservation keeps for it.
    #[serde(default)]
    pub reserved: Option<Vec<PlannedShare>>,
    /// The job that it repeats.
    #[serde(default)]
    pub resubmit_of: Option<JobId>,
    /// Its place in its array; none for a single job.
    #[serde(default)]
    pub array: Option<ArrayPlace>,
    /// Nodes whose fault that was.
    pub avoid: BTreeSet<NodeNumber>,
    /// How it will end, once that is settled and the nodes are still busy with it.
    pub verdict: Option<Verdict>,
    /// The current launch, or the last one of a job that has ended.
    pub launch: Option<Launch>,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
}

/// A job's place in its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayPlace {
    /// The array's number, which is that of its first job.
    pub id: JobId,
    /// From 1.
    pub index: u32,
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The command ended by itself: Terminated.
    Ended {
        /// Its raw wait status.
        exit_code: Option<i32>,
    },
    /// The user or the walltime ended it: Error.
    Killed,
    /// It could not be run to its end: Error.
    Broken,
}

/// One launch: the nodes of one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Its number, from 1.
    pub generation: u32,
    /// When the nodes were assigned.
    pub assigned: UnixMillis,
    /// When it fails unless the job runs.
    pub deadline: UnixMillis,
    /// When every pair of the mesh had a path.
    pub opened: Option<UnixMillis>,
    /// One part for each node, in the order of their ranks.
    pub parts: Vec<Part>,
}

/// A node's part of a launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The node.
    pub node: NodeNumber,
    /// Its cores that belong to the job, counted from 0 within the node.
    pub cores: Vec<u16>,
    /// How far it is.
    pub state: PartState,
    /// Since when the node is told to end it: an entry of its `toKill` list.
    pub killed: Option<UnixMillis>,
}

/// How far a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartState {
    /// On the node's `toLaunch` list.
    Assigned,
    /// The node has taken it.
    Acknowledged,
    /// The command ended by itself, or the node had none to run.
    Ended {
        /// The raw wait status, where a command ran.
        exit_code: Option<i32>,
    },
    /// The node could not run it, or was told to end it.
    Failed {
        /// Whose fault it is.
        fault: Fault,
        /// What happened.
        message: String,
    },
    /// The node fell silent, or never answered the order to end.
    Lost,
    /// Taken back before the node had taken it.
    Released,
}

impl Part {
    /// The node has nothing more to do or to say.
    pub fn is_over(&self) -> bool {
        !matches!(self.state, PartState::Assigned | PartState::Acknowledged)
    }
}

impl Launch {
    /// The part of a node, with its rank.
    pub fn part(&self, node: NodeNumber) -> Option<(usize, &Part)> {
        self.parts.iter().enumerate().find(|(_, part)| part.node == node)
    }

    /// Some node still holds its part.
    pub fn is_live(&self) -> bool {
        self.parts.iter().any(|part| !part.is_over())
    }
}

impl Job {
    /// The number of its array; a single job is an array of one.
    pub fn array_id(&self) -> JobId {
        self.array.map_or(self.id, |array| array.id)
    }

    /// Its index in its array, from 1.
    pub fn array_index(&self) -> u32 {
        self.array.map_or(1, |array| array.index)
    }

    /// The nodes share a network.
    pub fn is_mesh(&self) -> bool {
        self.request.types.mesh
    }

    /// The launch that is on its way or running; none while waiting and after the end.
    pub fn live_launch(&self) -> Option<&Launch> {
        self.launch.as_ref().filter(|_| !self.state.is_final())
    }

    /// The walltime of the alternative that it got, or will get first; seconds.
    pub fn walltime_s(&self) -> u64 {
        let alternatives = &self.request.resources.alternatives;
        let chosen = alternatives.get(self.alternative).or(alternatives.first());
        chosen.map_or(0, |alternative| alternative.walltime_s)
    }

    /// How many resources its launch has or had.
    pub fn resources(&self) -> usize {
        let parts = self.launch.iter().flat_map(|launch| &launch.parts);
        parts.map(|part| part.cores.len()).sum()
    }

    /// When the walltime is over.
    pub(crate) fn walltime_end(&self) -> Option<UnixMillis> {
        let walltime = Duration::from_secs(self.walltime_s());
        self.running_since.map(|since| since + walltime)
    }

    /// When its resources are free at the latest; a launch has until its deadline to come to run.
    pub(crate) fn expected_end(&self, now: UnixMillis) -> UnixMillis {
        let launching = || {
            let deadline = self.launch.as_ref().map_or(now, |launch| launch.deadline);
            deadline.max(now) + Duration::from_secs(self.walltime_s())
        };
        self.walltime_end().unwrap_or_else(launching)
    }

    /// The job's launch is not yet running.
    pub(crate) fn is_launching(&self) -> bool {
        matches!(self.state, JobState::ToLaunch | JobState::Launching)
    }

    /// OAR's `message`: the request's summary, and what happened last.
    pub fn message(&self) -> String {
        match self.last_word() {
            None => self.request.to_string(),
            Some(event) => format!("{} ({})", self.request, event.description),
        }
    }

    /// The last event that says why: the orders to the nodes only follow from it.
    pub fn last_word(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.kind != EventKind::SendKillJob)
    }
}
