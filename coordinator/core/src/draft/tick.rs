//! What the passing of time does.

use std::time::Duration;

use coordinator_api::resource::ResourceState;

use super::Draft;
use crate::event::EventKind;
use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::job::{Launch, PartState, Verdict};
use crate::node::Leftover;

/// Why a launch's mesh is not open, as the rendezvous sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshBlock {
    /// The job.
    pub job: JobId,
    /// What is missing, for people.
    pub reason: String,
    /// The nodes that are certainly to blame, as one that never joined.
    pub faulty: Vec<NodeNumber>,
}

impl Draft<'_> {
    /// A node that was silent is heard again.
    pub fn heard(&mut self, number: NodeNumber) {
        let now = self.now;
        if self.cluster.node(number).is_some_and(|node| node.taken_away.is_some()) {
            return;
        }
        if let Some(node) = self.node_mut(number) {
            node.last_seen = now;
            node.silent_since = None;
            node.state = ResourceState::Alive;
            node.leftovers.iter_mut().for_each(|left| left.since = now);
        }
    }

    /// Fires all deadlines that have passed.
    ///
    /// `heard` are the last polls of the nodes since the last tick; `blocks` say what keeps meshes whose
    /// launch deadline has passed from opening.
    pub fn tick(&mut self, heard: &[(NodeNumber, UnixMillis)], blocks: &[MeshBlock]) {
        for &(number, at) in heard {
            // Not a change worth storing: liveness is kept in memory only.
            if let Some(node) = self.cluster.nodes.get_mut(&number).filter(|n| n.last_seen < at) {
                std::sync::Arc::make_mut(node).last_seen = at;
            }
        }
        let (now, timeout) = (self.now, self.policy.node_timeout);
        let alive = self.cluster.nodes().filter(|node| node.state == ResourceState::Alive);
        let silent = alive.filter(|node| node.last_seen + timeout <= now);
        for number in silent.map(|node| node.number).collect::<Vec<_>>() {
            self.suspect(number);
        }
        self.give_up_silent_nodes();
        self.drop_old_leftovers();
        // Dates pass, and who waited for long goes before.
        self.schedule = true;
        for id in self.cluster.jobs().map(|job| job.id).collect::<Vec<_>>() {
            self.fire_dates(id);
            self.fire_launch_deadline(id, blocks);
            self.fire_walltime(id);
            self.fire_kill_grace(id);
        }
    }

    /// Suspects a node: it takes no jobs, and its parts of jobs are lost.
    fn suspect(&mut self, number: NodeNumber) {
        let Some(node) = self.node_mut(number) else { return };
        let silent_since = node.last_seen;
        node.state = ResourceState::Suspected;
        node.silent_since = Some(silent_since);
        self.lose(number);
    }

    /// The node's parts of jobs are lost.
    pub(super) fn lose(&mut self, number: NodeNumber) {
        let Some(node) = self.cluster.node(number) else { return };
        let jobs: Vec<JobId> = node.shares.iter().map(|share| share.job).collect();
        for id in jobs {
            let launch = self.cluster.job(id).and_then(|job| job.live_launch());
            let Some((rank, part)) = launch.and_then(|launch| launch.part(number)) else {
                continue;
            };
            let taken = part.state == PartState::Acknowledged;
            self.end_part(id, rank, PartState::Lost, taken);
            self.settle(id);
        }
    }

    /// Nodes that are silent for long are not there, and at last do not exist any more.
    fn give_up_silent_nodes(&mut self) {
        let mut gone = Vec::new();
        for node in self.cluster.nodes() {
            let state = node.next_silent_state(self.policy);
            gone.extend(state.filter(|(at, _)| *at <= self.now).map(|(_, s)| (node.number, s)));
        }
        for (number, state) in gone {
            if let Some(node) = self.node_mut(number) {
                node.state = state;
            }
        }
    }

    /// A node that is heard but never says that it ended an old launch is believed to have none.
    fn drop_old_leftovers(&mut self) {
        let (now, grace) = (self.now, self.policy.kill_grace);
        let old = |left: &Leftover| left.since + grace <= now;
        let alive = self.cluster.nodes().filter(|node| node.state == ResourceState::Alive);
        let late = alive.filter(|node| node.leftovers.iter().any(old));
        for number in late.map(|node| node.number).collect::<Vec<_>>() {
            if let Some(node) = self.node_mut(number) {
                node.leftovers.retain(|left| !old(left));
            }
        }
    }

    /// Ends jobs whose time to start is over.
    fn fire_dates(&mut self, id: JobId) {
        let Some(job) = self.cluster.job(id).filter(|job| job.launch.is_none()) else { return };
        let walltime = Duration::from_secs(job.walltime_s());
        let types = &job.request.types;
        let reason = if types.expire.is_some_and(|date| date <= self.now) {
            Some((EventKind::SwitchIntoErrorState, "it had not started when it expired"))
        } else if types.deadline.is_some_and(|date| date < self.now + walltime) {
            Some((EventKind::SwitchIntoErrorState, "it can no longer end before its deadline"))
        } else if job.request.reservation.is_some_and(|start| start + walltime <= self.now) {
            Some((
                EventKind::ReservationNoNode,
                "its reserved resources were not there in its time",
            ))
        } else {
            None
        };
        if let Some((kind, reason)) = reason {
            self.log(id, kind, reason.to_owned());
            self.end_job(id, Verdict::Broken);
        }
    }

    fn fire_launch_deadline(&mut self, id: JobId, blocks: &[MeshBlock]) {
        let Some(job) = self.cluster.job(id) else { return };
        let Some(launch) = job.live_launch() else { return };
        if job.verdict.is_some() || !job.is_launching() || self.now < launch.deadline {
            return;
        }
        let after = launch.deadline.since(launch.assigned).as_secs();
        let absent = absentees(launch);
        if job.request.types.idempotent && !absent.is_empty() {
            let names: Vec<String> = absent.iter().map(ToString::to_string).collect();
            let reason = format!("{} had not taken the job after {after} s", names.join(", "));
            self.requeue(id, &absent, EventKind::LaunchingOarexecTimeout, reason);
            self.settle(id);
            return;
        }
        let (faulty, reason) = if absent.is_empty() {
            let block = blocks.iter().find(|block| block.job == id);
            let (faulty, why) = match block {
                Some(block) => (block.faulty.clone(), block.reason.as_str()),
                None => (Vec::new(), "no more is known"),
            };
            (faulty, format!("the mesh was not open after {after} s: {why}"))
        } else {
            let names: Vec<String> = absent.iter().map(ToString::to_string).collect();
            let text = format!("{} had not taken the job after {after} s", names.join(", "));
            (absent, text)
        };
        self.fail_launch(id, &faulty, EventKind::LaunchingOarexecTimeout, reason);
        self.settle(id);
    }

    fn fire_walltime(&mut self, id: JobId) {
        let Some(job) = self.cluster.job(id).filter(|job| job.verdict.is_none()) else { return };
        let Some(end) = job.walltime_end() else { return };
        if end.max(self.cluster.grace_until) > self.now || job.state.is_final() {
            return;
        }
        let walltime = job.walltime_s();
        let text = format!("the job exceeded its walltime of {walltime} s");
        self.log(id, EventKind::Walltime, text);
        self.decide(id, Verdict::Killed);
        self.settle(id);
    }

    /// Nodes that are heard but do not answer the order to end a job do not hold it for ever.
    fn fire_kill_grace(&mut self, id: JobId) {
        let (now, grace) = (self.now, self.policy.kill_grace);
        let Some(launch) = self.cluster.job(id).and_then(|job| job.live_launch()) else { return };
        let late: Vec<(usize, NodeNumber)> = (launch.parts.iter().enumerate())
            .filter(|(_, part)| !part.is_over())
            .filter(|(_, part)| part.killed.is_some_and(|since| since + grace <= now))
            .map(|(rank, part)| (rank, part.node))
            .collect();
        for &(rank, node) in &late {
            let text = format!("{node} did not answer the order to end the job");
            self.log(id, EventKind::ExterminateJob, text);
            self.end_part(id, rank, PartState::Lost, true);
        }
        if !late.is_empty() {
            self.settle(id);
        }
    }
}

/// The nodes that have not taken the job.
fn absentees(launch: &Launch) -> Vec<NodeNumber> {
    let parts = launch.parts.iter().filter(|part| part.state == PartState::Assigned);
    parts.map(|part| part.node).collect()
}
