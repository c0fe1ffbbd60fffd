//! What nodes say about their jobs.

use coordinator_api::agent::Fault;

use super::Draft;
use crate::ids::{JobId, NodeNumber};
use crate::job::{Job, PartState};

/// The longest message of a failed part, bytes (`SetState::message`).
const MAX_MESSAGE: usize = 4_096;

/// What a node says about its part of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The node has taken the job.
    Running,
    /// The command ended by itself, or the node had none to run.
    Terminated {
        /// The raw wait status, where a command ran.
        exit_code: Option<i32>,
    },
    /// The part was killed or could not be run.
    Error {
        /// Whose fault it is.
        fault: Fault,
        /// What happened.
        message: String,
    },
}

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefusal {
    /// The job is not among those that have not ended; see [`judge_late_report`].
    #[error("no such job")]
    UnknownJob,
    /// The node has no part in that launch.
    #[error("the job is not assigned to this node")]
    NotAssigned,
    /// That launch is over.
    #[error("launch {generation} of job {job} is over: end it and forget it")]
    Stale {
        /// The job.
        job: JobId,
        /// The launch.
        generation: u32,
    },
    /// The node has already said something else.
    #[error("this node has already reported another end of its part")]
    Differs,
}

impl Draft<'_> {
    /// A node reports on launch `generation` of a job. Saying the same thing twice does no harm.
    pub fn report(
        &mut self,
        node: NodeNumber,
        id: JobId,
        generation: u32,
        report: Report,
    ) -> Result<(), ReportRefusal> {
        let stale = ReportRefusal::Stale { job: id, generation };
        if self.has_leftover(node, id, generation) {
            if report == Report::Running {
                return Err(stale);
            }
            if let Some(node) = self.node_mut(node) {
                node.leftovers.retain(|left| (left.job, left.generation) != (id, generation));
            }
            return Ok(());
        }
        let job = self.cluster.job(id).ok_or(ReportRefusal::UnknownJob)?;
        let (rank, state) = match job.live_launch().filter(|it| it.generation == generation) {
            Some(launch) => {
                let (rank, part) = launch.part(node).ok_or(ReportRefusal::NotAssigned)?;
                (rank, part.state.clone())
            }
            None if (1..=job.generation).contains(&generation) => return Err(stale),
            None => return Err(ReportRefusal::NotAssigned),
        };
        match (state, report) {
            (PartState::Acknowledged, Report::Running) => Ok(()),
            (PartState::Assigned, Report::Running) => {
                self.acknowledge(id, rank);
                Ok(())
            }
            (PartState::Assigned | PartState::Acknowledged, report) => {
                self.end_part(id, rank, ended_state(report), false);
                self.settle(id);
                Ok(())
            }
            (state, report) => judge_repetition(&state, &report, stale),
        }
    }

    fn has_leftover(&self, node: NodeNumber, job: JobId, generation: u32) -> bool {
        let node = self.cluster.node(node);
        node.is_some_and(|node| {
            node.leftovers.iter().any(|left| (left.job, left.generation) == (job, generation))
        })
    }

    fn acknowledge(&mut self, id: JobId, rank: usize) {
        if let Some(launch) = self.job_mut(id).and_then(|job| job.launch.as_mut()) {
            launch.parts[rank].state = PartState::Acknowledged;
        }
        self.settle(id);
    }
}

/// Judges a report on a job that has ended and left the cluster.
pub fn judge_late_report(
    job: &Job,
    node: NodeNumber,
    generation: u32,
    report: &Report,
) -> Result<(), ReportRefusal> {
    let stale = ReportRefusal::Stale { job: job.id, generation };
    let launch = job.launch.as_ref().filter(|launch| launch.generation == generation);
    match launch.map(|launch| launch.part(node)) {
        Some(Some((_, part))) => judge_repetition(&part.state, report, stale),
        None if (1..=job.generation).contains(&generation) => Err(stale),
        Some(None) | None => Err(ReportRefusal::NotAssigned),
    }
}

/// The part is over: the same report again is welcome, any other is not.
fn judge_repetition(
    state: &PartState,
    report: &Report,
    stale: ReportRefusal,
) -> Result<(), ReportRefusal> {
    match (state, report) {
        (PartState::Lost | PartState::Released, _) | (_, Report::Running) => Err(stale),
        (state, report) if *state == ended_state(report.clone()) => Ok(()),
        (_, Report::Terminated { .. } | Report::Error { .. }) => Err(ReportRefusal::Differs),
    }
}

fn ended_state(report: Report) -> PartState {
    match report {
        Report::Running => PartState::Acknowledged,
        Report::Terminated { exit_code } => PartState::Ended { exit_code },
        Report::Error { fault, mut message } => {
            if message.len() > MAX_MESSAGE {
                message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            }
            PartState::Failed { fault, message }
        }
    }
}
