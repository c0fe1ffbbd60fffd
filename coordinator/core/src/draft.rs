//! A decision in the making: a command on a copy of the cluster.

mod launch;
mod order;
mod report;
mod submission;
mod tick;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::{Change, Cluster, Policy};
use crate::event::{Event, EventKind};
use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::job::{Job, PartState};
use crate::node::{Leftover, Node};
use crate::plan::{Depth, plan};
use crate::usage::{UsageKey, Used};

pub use launch::{MAX_FAILED_LAUNCHES, MAX_REQUEUES};
pub use order::{HoldRefusal, ResumeRefusal, SetNodeRefusal};
pub use report::{Report, ReportRefusal, judge_late_report};
pub use submission::{DeleteRefusal, ResubmitRefusal, SubmitRefusal};
pub use tick::MeshBlock;

/// The most events that a job keeps; the oldest go. Chosen: an idempotent job may start again for ever.
const MAX_EVENTS: usize = 100;

/// A copy of the [`Cluster`] that commands change.
///
/// Commands of one moment may follow each other: with [`Draft::attempt`] a refused one leaves no trace.
/// [`Draft::finish`] gives free nodes to waiting jobs and says which rows to store.
#[derive(Debug)]
pub struct Draft<'p> {
    cluster: Cluster,
    now: UnixMillis,
    policy: &'p Policy,
    jobs: BTreeSet<JobId>,
    nodes: BTreeSet<NodeNumber>,
    usage: BTreeMap<UsageKey, Used>,
    /// Something happened after which another job may start.
    schedule: bool,
    /// What the command that is tried has changed.
    journal: Option<Journal>,
}

/// Rows as they were before a command; none: it made them.
#[derive(Debug, Default)]
struct Journal {
    jobs: BTreeMap<JobId, Option<Arc<Job>>>,
    nodes: BTreeMap<NodeNumber, Option<Arc<Node>>>,
}

/// The most rounds of planning in one decision: best-effort jobs that had not begun make room at once, and
/// may find another place.
const MAX_ROUNDS: usize = 8;

impl<'p> Draft<'p> {
    /// Begins a decision at the time `now`.
    pub fn new(cluster: &Cluster, now: UnixMillis, policy: &'p Policy) -> Self {
        let cluster = cluster.clone();
        Self {
            cluster,
            now,
            policy,
            jobs: BTreeSet::new(),
            nodes: BTreeSet::new(),
            usage: BTreeMap::new(),
            schedule: false,
            journal: None,
        }
    }

    /// Tries a command, and undoes what it did when it is refused.
    pub fn attempt<T, E>(
        &mut self,
        command: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let (counters, usage) = (self.cluster.counters, self.cluster.usage.clone());
        let (rows, schedule) = (self.usage.clone(), self.schedule);
        self.journal = Some(Journal::default());
        let outcome = command(self);
        let journal = self.journal.take().unwrap_or_default();
        if outcome.is_err() {
            self.cluster.counters = counters;
            self.cluster.usage = usage;
            (self.usage, self.schedule) = (rows, schedule);
            for (id, before) in journal.jobs {
                restore(&mut self.cluster.jobs, id, before);
            }
            for (number, before) in journal.nodes {
                restore(&mut self.cluster.nodes, number, before);
            }
        }
        outcome
    }

    /// Schedules, and returns the new state with the rows that differ from the old one.
    pub fn finish(mut self, old: &Cluster) -> (Cluster, Vec<Change>) {
        for _ in 0..MAX_ROUNDS {
            if !std::mem::take(&mut self.schedule) {
                break;
            }
            let plan = plan(&self.cluster, self.now, self.policy, Depth::Launches);
            let evicted = !plan.evictions.is_empty();
            for launch in plan.launches {
                self.assign(launch);
            }
            for eviction in plan.evictions {
                self.evict(eviction);
            }
            self.schedule = evicted;
        }
        let mut changes = Vec::new();
        for number in &self.nodes {
            changes.extend(self.cluster.nodes.get(number).cloned().map(Change::Node));
        }
        for id in &self.jobs {
            let Some(job) = self.cluster.jobs.get(id).cloned() else { continue };
            if job.state.is_final() {
                self.cluster.jobs.remove(id);
            }
            changes.push(Change::Job(job));
        }
        changes.extend(self.usage.into_iter().map(|(key, used)| Change::Usage(key, used)));
        if self.cluster.counters != old.counters {
            changes.push(Change::Counters(self.cluster.counters));
        }
        (self.cluster, changes)
    }

    /// A job that has not ended, for change.
    fn job_mut(&mut self, id: JobId) -> Option<&mut Job> {
        let job = self.cluster.jobs.get_mut(&id)?;
        if let Some(journal) = &mut self.journal {
            journal.jobs.entry(id).or_insert_with(|| Some(job.clone()));
        }
        self.jobs.insert(id);
        Some(Arc::make_mut(job))
    }

    /// A node, for change.
    fn node_mut(&mut self, number: NodeNumber) -> Option<&mut Node> {
        let node = self.cluster.nodes.get_mut(&number)?;
        if let Some(journal) = &mut self.journal {
            journal.nodes.entry(number).or_insert_with(|| Some(node.clone()));
        }
        self.nodes.insert(number);
        self.schedule = true;
        Some(Arc::make_mut(node))
    }

    /// A new job.
    fn insert_job(&mut self, job: Job) {
        let id = job.id;
        self.cluster.jobs.insert(id, Arc::new(job));
        if let Some(journal) = &mut self.journal {
            journal.jobs.entry(id).or_insert(None);
        }
        self.jobs.insert(id);
    }

    /// A new node.
    fn insert_node(&mut self, node: Node) {
        let number = node.number;
        self.cluster.nodes.insert(number, Arc::new(node));
        if let Some(journal) = &mut self.journal {
            journal.nodes.entry(number).or_insert(None);
        }
        self.nodes.insert(number);
    }

    /// A node as the commands so far have left it.
    pub fn node(&self, number: NodeNumber) -> Option<&Node> {
        self.cluster.node(number).map(|node| &**node)
    }

    /// Writes an event down.
    fn log(&mut self, job: JobId, kind: EventKind, description: String) {
        let event =
            Event { id: self.cluster.counters.event, job, kind, date: self.now, description };
        self.cluster.counters.event += 1;
        if let Some(job) = self.job_mut(job) {
            if job.events.len() >= MAX_EVENTS {
                job.events.remove(0);
            }
            job.events.push(event);
        }
    }

    /// Brings a part to an end and frees its node. With `leftover` the node still has to end it.
    fn end_part(&mut self, job: JobId, rank: usize, state: PartState, leftover: bool) {
        let now = self.now;
        let Some(launch) = self.job_mut(job).and_then(|job| job.launch.as_mut()) else { return };
        let generation = launch.generation;
        let Some(part) = launch.parts.get_mut(rank) else { return };
        part.state = state;
        part.killed = None;
        let number = part.node;
        if let Some(node) = self.node_mut(number) {
            node.shares.retain(|share| share.job != job);
            if leftover {
                node.leftovers.push(Leftover { job, generation, since: now });
            }
        }
    }
}

fn restore<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, before: Option<V>) {
    match before {
        Some(row) => drop(rows.insert(key, row)),
        None => drop(rows.remove(&key)),
    }
}

#[cfg(test)]
mod tests;
