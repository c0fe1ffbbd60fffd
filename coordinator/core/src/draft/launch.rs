//! Launches: assigned, run, failed, started again, ended.

use std::sync::Arc;

use coordinator_api::job::JobState;

use super::Draft;
use crate::event::EventKind;
use crate::ids::{JobId, NodeNumber};
use crate::job::{Job, Launch, Part, PartState, Verdict};
use crate::judge::{Judgement, judge};
use crate::node::Share;
use crate::plan::{Eviction, PlannedLaunch, PlannedShare};
use crate::usage::Used;

/// After so many failed launches a job ends in Error. Chosen: one bad volunteer is avoided by the second
/// launch, two by the third; more failures point at the job.
pub const MAX_FAILED_LAUNCHES: u32 = 3;

/// After so many times back to the queue an idempotent job ends in Error. Chosen: of volunteers who leave
/// during two jobs of three, one job in a hundred fails; a job that breaks every machine does so 12 times.
pub const MAX_REQUEUES: u32 = 12;

impl Draft<'_> {
    /// The rendezvous says that every pair of a launch's mesh has a path.
    ///
    /// A launch that is over or already open is left as it is: the word may come late or twice.
    pub fn mesh_opened(&mut self, job: JobId, generation: u32) {
        let now = self.now;
        let current = self.cluster.job(job).and_then(|job| job.live_launch());
        if current.is_none_or(|it| it.generation != generation || it.opened.is_some()) {
            return;
        }
        if let Some(launch) = self.job_mut(job).and_then(|job| job.launch.as_mut()) {
            launch.opened = Some(now);
        }
        self.settle(job);
    }

    /// Carries out one entry of the plan.
    pub(super) fn assign(&mut self, planned: PlannedLaunch) {
        let PlannedLaunch { job: id, alternative, shares } = planned;
        let (now, deadline) = (self.now, self.now + self.policy.launch_deadline);
        let mut parts = Vec::with_capacity(shares.len());
        for PlannedShare { node: number, cores } in shares {
            let Some(node) = self.node_mut(number) else { continue };
            node.shares.push(Share { job: id, cores: cores.clone() });
            node.last_job = now;
            parts.push(Part { node: number, cores, state: PartState::Assigned, killed: None });
        }
        let Some(job) = self.job_mut(id) else { return };
        job.generation += 1;
        job.alternative = alternative;
        job.state = JobState::ToLaunch;
        job.started = Some(now);
        let generation = job.generation;
        job.launch = Some(Launch { generation, assigned: now, deadline, opened: None, parts });
    }

    /// A best-effort job makes room: an idempotent one waits again, another one ends.
    pub(super) fn evict(&mut self, eviction: Eviction) {
        let Eviction { job: id, for_job } = eviction;
        let Some(job) = self.cluster.job(id).filter(|job| job.live_launch().is_some()) else {
            return;
        };
        let idempotent = job.request.types.idempotent;
        let text = format!("the best-effort job makes room for job {for_job}");
        self.log(id, EventKind::BesteffortKill, text);
        if idempotent {
            self.log(id, EventKind::ResubmitJobAutomatically, "it waits again".to_owned());
            self.release_all(id);
        } else {
            self.decide(id, Verdict::Killed);
            self.settle(id);
        }
    }

    /// Counts the work of a launch that is over.
    fn account(&mut self, id: JobId) {
        let Some(job) = self.cluster.job(id) else { return };
        let (Some(since), resources) = (job.running_since, job.resources() as u64) else { return };
        let work = Used {
            asked: resources.saturating_mul(job.walltime_s()),
            used: resources.saturating_mul(self.now.since(since).as_secs()),
        };
        let (owner, project) = (job.owner.clone(), job.request.project().to_owned());
        let usage = Arc::make_mut(&mut self.cluster.usage);
        let (key, row) = usage.add(self.now, &owner, &project, work);
        self.usage.insert(key, row);
    }

    /// Draws the consequences of a change in a job's parts, until there are none left.
    pub(super) fn settle(&mut self, id: JobId) {
        loop {
            let Some(job) = self.cluster.job(id) else { return };
            match judge(job, self.now) {
                Judgement::Stay => return,
                Judgement::Launching => self.set_state(id, JobState::Launching),
                Judgement::Run => self.run(id),
                Judgement::FailLaunch { faulty, kind, reason } => {
                    self.fail_launch(id, &faulty, kind, reason);
                }
                Judgement::Requeue { lost, kind, reason } => self.requeue(id, &lost, kind, reason),
                Judgement::Settle { verdict, kind, reason } => {
                    self.log(id, kind, reason);
                    self.decide(id, verdict);
                }
                Judgement::Finish(verdict) => self.end_job(id, verdict),
            }
        }
    }

    fn set_state(&mut self, id: JobId, state: JobState) {
        if let Some(job) = self.job_mut(id) {
            job.state = state;
        }
    }

    fn run(&mut self, id: JobId) {
        let now = self.now;
        // Its end is known now, and may be earlier than was planned with.
        self.schedule = true;
        let Some(job) = self.job_mut(id) else { return };
        job.state = JobState::Running;
        job.running_since = Some(now);
        // A mesh that carried a command to its end was open, whatever else was said.
        if let Some(launch) = job.launch.as_mut() {
            launch.opened.get_or_insert(now);
        }
    }

    /// Gives the launch up: its nodes are released, the job waits again or, at last, ends.
    pub(super) fn fail_launch(
        &mut self,
        id: JobId,
        faulty: &[NodeNumber],
        kind: EventKind,
        reason: String,
    ) {
        let Some(job) = self.job_mut(id) else { return };
        job.failed_launches += 1;
        job.avoid.extend(faulty);
        let failed = job.failed_launches;
        let generation = job.generation;
        self.log(id, kind, format!("launch {generation} failed: {reason}"));
        if failed >= MAX_FAILED_LAUNCHES {
            let reason = format!("{failed} launches failed, the last one: {reason}");
            self.log(id, EventKind::SwitchIntoErrorState, reason);
            self.decide(id, Verdict::Broken);
        } else {
            self.release_all(id);
        }
    }

    /// An idempotent job goes back to the queue, at its old place; after too often it ends.
    pub(super) fn requeue(
        &mut self,
        id: JobId,
        lost: &[NodeNumber],
        kind: EventKind,
        reason: String,
    ) {
        let Some(job) = self.job_mut(id) else { return };
        job.avoid.extend(lost);
        if job.requeues >= MAX_REQUEUES {
            self.log(id, kind, reason.clone());
            let text = format!("started again {MAX_REQUEUES} times, and now: {reason}");
            self.log(id, EventKind::SwitchIntoErrorState, text);
            self.decide(id, Verdict::Broken);
            return;
        }
        job.requeues += 1;
        let text = format!(
            "the job is idempotent and starts again ({} of at most {MAX_REQUEUES} times): {reason}",
            job.requeues
        );
        self.log(id, kind, reason);
        self.log(id, EventKind::ResubmitJobAutomatically, text);
        self.release_all(id);
    }

    /// Takes the job off its nodes and puts it back to Waiting at its old place in the queue.
    fn release_all(&mut self, id: JobId) {
        let Some(launch) = self.cluster.job(id).and_then(|job| job.launch.clone()) else { return };
        self.account(id);
        self.schedule = true;
        for (rank, part) in launch.parts.iter().enumerate() {
            match part.state {
                PartState::Assigned => self.end_part(id, rank, PartState::Released, false),
                PartState::Acknowledged => self.end_part(id, rank, PartState::Released, true),
                PartState::Ended { .. }
                | PartState::Failed { .. }
                | PartState::Lost
                | PartState::Released => {}
            }
        }
        if let Some(job) = self.job_mut(id) {
            job.state = JobState::Waiting;
            job.launch = None;
            job.running_since = None;
        }
    }

    /// Settles how the job ends and tells its nodes; those that have not taken it are let go.
    pub(super) fn decide(&mut self, id: JobId, verdict: Verdict) {
        let now = self.now;
        self.schedule = true;
        let Some(job) = self.job_mut(id) else { return };
        job.verdict = Some(verdict);
        // OAR leaves a job that is being killed in its state until the nodes have answered.
        if verdict != Verdict::Killed {
            job.state = JobState::Finishing;
        }
        let Some(launch) = job.launch.clone() else { return };
        let mut told = Vec::new();
        for (rank, part) in launch.parts.iter().enumerate() {
            if part.state == PartState::Assigned {
                self.end_part(id, rank, PartState::Released, false);
            } else if !part.is_over() {
                told.push((rank, part.node.to_string()));
            }
        }
        if let Some(launch) = self.job_mut(id).and_then(|job| job.launch.as_mut()) {
            for (rank, _) in &told {
                launch.parts[*rank].killed = Some(now);
            }
        }
        if !told.is_empty() && !matches!(verdict, Verdict::Ended { .. }) {
            let names: Vec<String> = told.into_iter().map(|(_, name)| name).collect();
            let text = format!("told {} to end the job", names.join(", "));
            self.log(id, EventKind::SendKillJob, text);
        }
    }

    /// The job has left its last node.
    pub(super) fn end_job(&mut self, id: JobId, verdict: Verdict) {
        let now = self.now;
        if verdict == Verdict::Killed {
            let reason = self.cluster.job(id).map(|job| kill_reason(job)).unwrap_or_default();
            self.log(id, EventKind::SwitchIntoErrorState, format!("the job was killed: {reason}"));
        }
        self.account(id);
        // Somebody may depend on it.
        self.schedule = true;
        let Some(job) = self.job_mut(id) else { return };
        job.verdict = Some(verdict);
        job.stopped = Some(now);
        job.state = match verdict {
            Verdict::Ended { exit_code } => {
                job.exit_code = exit_code;
                JobState::Terminated
            }
            Verdict::Killed | Verdict::Broken => JobState::Error,
        };
    }
}

fn kill_reason(job: &Job) -> String {
    let asked = |kind| {
        matches!(kind, EventKind::FragJobRequest | EventKind::Walltime | EventKind::BesteffortKill)
    };
    let event = job.events.iter().rev().find(|event| asked(event.kind));
    event.map(|event| event.description.clone()).unwrap_or_default()
}
