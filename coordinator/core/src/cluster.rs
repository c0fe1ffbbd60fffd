//! The whole state that decisions are made on: all nodes, all jobs that have not ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator_api::resource::ResourceState;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::job::{Job, Part, PartState};
use crate::node::Node;
use crate::plan::Quota;
use crate::usage::{Usage, UsageKey, Used};

/// All nodes and all jobs that have not ended. Cheap to clone: rows are shared until they change.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub(crate) nodes: BTreeMap<NodeNumber, Arc<Node>>,
    /// In the order of submission, which is the order of the queue.
    pub(crate) jobs: BTreeMap<JobId, Arc<Job>>,
    pub(crate) counters: Counters,
    pub(crate) usage: Arc<Usage>,
    /// No walltime ends before: agents may have been without a coordinator.
    pub(crate) grace_until: UnixMillis,
}

/// The next numbers to give out. They only grow, so that no number is ever used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The next job's.
    pub job: u64,
    /// The next node's.
    pub node: u64,
    /// The next resource's.
    pub resource: u64,
    /// The next event's.
    pub event: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { job: 1, node: 1, resource: 1, event: 1 }
    }
}

/// The times that an operator may set.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Silence after which a node is Suspected.
    pub node_timeout: Duration,
    /// Time from the assignment in which a launch must come to run.
    pub launch_deadline: Duration,
    /// Time in which a node that is heard must answer the order to end a job, stage-out included.
    pub kill_grace: Duration,
    /// Silence after which a Suspected node is Absent.
    pub absent_after: Duration,
    /// Silence after which an Absent node is Dead: it no longer counts among the enrolled ones.
    pub dead_after: Duration,
    /// Limits on what runs at the same time.
    pub quotas: Vec<Quota>,
}

impl Default for Policy {
    /// 60 s, 60 s, 10 min, 1 h, 30 days. The third is chosen: a stage-out of 1 GiB over a 15 Mbit/s uplink.
    /// The last two as well: a machine that sleeps, and a holiday.
    fn default() -> Self {
        Self {
            node_timeout: Duration::from_secs(60),
            launch_deadline: Duration::from_secs(60),
            kill_grace: Duration::from_secs(600),
            absent_after: Duration::from_secs(3_600),
            dead_after: Duration::from_secs(30 * 24 * 3_600),
            quotas: Vec::new(),
        }
    }
}

/// A row that a decision changed. Writing the same row again replaces it.
#[derive(Clone, Debug)]
pub enum Change {
    /// A node was added or changed.
    Node(Arc<Node>),
    /// A job was added or changed; a final one leaves the [`Cluster`] with this change.
    Job(Arc<Job>),
    /// Numbers were given out.
    Counters(Counters),
    /// A user's work of a day was counted.
    Usage(UsageKey, Used),
}

impl Cluster {
    /// Puts the state together from stored rows; `jobs` are those that have not ended.
    ///
    /// Time stood still for the nodes while the coordinator was away: liveness and launch deadlines
    /// start again at `now`, and no walltime ends within the first `node_timeout`.
    pub fn load(
        nodes: impl IntoIterator<Item = Node>,
        jobs: impl IntoIterator<Item = Job>,
        counters: Counters,
        usage: Usage,
        now: UnixMillis,
        policy: &Policy,
    ) -> Self {
        let fresh_node = |mut node: Node| {
            node.last_seen = now;
            // A row of an older version does not say.
            if node.state == ResourceState::Suspected {
                node.silent_since.get_or_insert(now);
            }
            node.leftovers.iter_mut().for_each(|leftover| leftover.since = now);
            (node.number, Arc::new(node))
        };
        let fresh_job = |mut job: Job| {
            if let Some(launch) = &mut job.launch {
                launch.deadline = launch.deadline.max(now + policy.launch_deadline);
                launch.parts.iter_mut().filter_map(|part| part.killed.as_mut()).for_each(|since| {
                    *since = now;
                });
            }
            (job.id, Arc::new(job))
        };
        Self {
            nodes: nodes.into_iter().map(fresh_node).collect(),
            jobs: jobs.into_iter().map(fresh_job).collect(),
            counters,
            usage: Arc::new(usage),
            grace_until: now + policy.node_timeout,
        }
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// One node.
    pub fn node(&self, number: NodeNumber) -> Option<&Arc<Node>> {
        self.nodes.get(&number)
    }

    /// All jobs that have not ended, in the order of the queue.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// One job that has not ended.
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }

    /// What was used in the last days.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The nodes that exist, whether they are heard or not.
    pub(crate) fn enrolled(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node).filter(|node| node.state != ResourceState::Dead)
    }

    /// The launches that a node must take.
    pub fn to_launch(&self, node: NodeNumber) -> Vec<(JobId, u32)> {
        self.live_parts(node, |part| part.state == PartState::Assigned)
    }

    /// The launches in which a node has such a part.
    fn live_parts(&self, number: NodeNumber, wanted: fn(&Part) -> bool) -> Vec<(JobId, u32)> {
        let shares = self.nodes.get(&number).into_iter().flat_map(|node| &node.shares);
        let launches = shares.filter_map(|share| {
            let launch = self.jobs.get(&share.job)?.live_launch()?;
            let (_, part) = launch.part(number)?;
            wanted(part).then_some((share.job, launch.generation))
        });
        launches.collect()
    }

    /// The launches that a node must end.
    pub fn to_kill(&self, node: NodeNumber) -> Vec<(JobId, u32)> {
        let mut orders = self.live_parts(node, |part| !part.is_over() && part.killed.is_some());
        let leftovers = self.nodes.get(&node).into_iter().flat_map(|node| &node.leftovers);
        orders.extend(leftovers.map(|left| (left.job, left.generation)));
        orders
    }

    /// When the state of a node or of a launch changes by itself, through [`Draft::tick`](crate::Draft::tick). May be in the past.
    pub fn next_deadline(&self, policy: &Policy) -> Option<UnixMillis> {
        let heard = self.nodes.values().filter(|node| node.state == ResourceState::Alive);
        let nodes = heard.flat_map(|node| {
            let leftovers = node.leftovers.iter().map(|left| left.since + policy.kill_grace);
            std::iter::once(node.last_seen + policy.node_timeout).chain(leftovers)
        });
        let jobs = self.jobs.values().flat_map(|job| {
            let launch = job.live_launch();
            let launching = launch.filter(|_| job.verdict.is_none() && job.is_launching());
            let walltime = job.walltime_end().filter(|_| job.verdict.is_none());
            let kills = launch.into_iter().flat_map(|launch| &launch.parts);
            let kills = kills.filter(|part| !part.is_over()).filter_map(|part| part.killed);
            (launching.map(|launch| launch.deadline).into_iter())
                .chain(walltime.map(|end| end.max(self.grace_until)))
                .chain(kills.map(|since| since + policy.kill_grace))
        });
        let silent = self.nodes.values().filter_map(|node| node.next_silent_state(policy));
        nodes.chain(jobs).chain(silent.map(|(at, _)| at)).min()
    }
}
