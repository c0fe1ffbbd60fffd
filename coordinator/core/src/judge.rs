//! What follows from how far a job's parts are.

use std::time::Duration;

use coordinator_api::agent::Fault;
use coordinator_api::job::JobState;

use crate::event::EventKind;
use crate::ids::{NodeNumber, UnixMillis};
use crate::job::{Job, Launch, Part, PartState, Verdict};

/// How much earlier than here an agent's clock may see the walltime's end. Chosen: agents count from
/// their own start of the command, which comes up to a poll before the coordinator's.
const WALLTIME_SLACK: Duration = Duration::from_secs(15);

/// What follows for a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing.
    Stay,
    /// The first node has taken it.
    Launching,
    /// Everything is in place: it runs.
    Run,
    /// The launch cannot succeed.
    FailLaunch { faulty: Vec<NodeNumber>, kind: EventKind, reason: String },
    /// The job lost a node and may start again.
    Requeue { lost: Vec<NodeNumber>, kind: EventKind, reason: String },
    /// It is settled how the job ends; the nodes still have to be told.
    Settle { verdict: Verdict, kind: EventKind, reason: String },
    /// The last node is done with it.
    Finish(Verdict),
}

/// Judges a job by its parts.
pub(crate) fn judge(job: &Job, now: UnixMillis) -> Judgement {
    let Some(launch) = job.live_launch() else { return Judgement::Stay };
    if let Some(verdict) = job.verdict {
        return if launch.is_live() { Judgement::Stay } else { Judgement::Finish(verdict) };
    }
    if let Some(ended) = judge_end(job, launch) {
        return ended;
    }
    if let Some(failed) = judge_failures(job, launch, now) {
        return failed;
    }
    judge_progress(job, launch)
}

/// The command has ended: on the first node, or (spmd) on all nodes or on one of them badly.
fn judge_end(job: &Job, launch: &Launch) -> Option<Judgement> {
    let settle = |rank: usize, exit_code: Option<i32>| Judgement::Settle {
        verdict: Verdict::Ended { exit_code },
        kind: EventKind::SwitchIntoTerminateState,
        reason: ending_text(job, launch, rank, exit_code),
    };
    let codes = launch.parts.iter().map(|part| match part.state {
        PartState::Ended { exit_code } => Some(exit_code),
        PartState::Assigned
        | PartState::Acknowledged
        | PartState::Failed { .. }
        | PartState::Lost
        | PartState::Released => None,
    });
    if !job.request.types.spmd {
        return codes.take(1).flatten().next().map(|code| settle(0, code));
    }
    let codes: Vec<Option<Option<i32>>> = codes.collect();
    let bad = codes.iter().position(|code| code.flatten().is_some_and(|code| code != 0));
    if let Some(rank) = bad {
        return Some(settle(rank, codes[rank].flatten()));
    }
    codes.iter().all(Option::is_some).then(|| settle(0, codes[0].flatten()))
}

fn ending_text(job: &Job, launch: &Launch, rank: usize, exit_code: Option<i32>) -> String {
    let code = exit_code.unwrap_or(0);
    // A raw wait status: the low 7 bits are the signal, the next byte the exit.
    let how = match (code >> 8 & 0xff, code & 0x7f) {
        (exit, 0) => format!("ended with exit {exit}"),
        (_, signal) => format!("was ended by signal {signal}"),
    };
    if job.request.types.spmd && code != 0 {
        format!("the command {how} on {} (rank {rank})", launch.parts[rank].node)
    } else {
        format!("the command {how}")
    }
}

fn judge_failures(job: &Job, launch: &Launch, now: UnixMillis) -> Option<Judgement> {
    let failed: Vec<&Part> = launch.parts.iter().filter(|part| failure(part).is_some()).collect();
    let (fault, kind, _) = failure(failed.first()?)?;
    let texts = failed.iter().filter_map(|part| failure(part)).map(|(_, _, text)| text);
    let reason = texts.collect::<Vec<_>>().join("; ");
    let by_job = |part: &&Part| matches!(part.state, PartState::Failed { fault: Fault::Job, .. });
    if let Some((_, _, reason)) = failed.iter().find(|part| by_job(part)).and_then(|p| failure(p)) {
        let kind = EventKind::SwitchIntoErrorState;
        return Some(Judgement::Settle { verdict: Verdict::Broken, kind, reason });
    }
    let faulty: Vec<NodeNumber> = failed.iter().map(|part| part.node).collect();
    // A node that vanishes says nothing about the job, nor about how good a launch it was.
    let vanished = job.request.types.idempotent && fault.is_none();
    if job.is_launching() && !vanished {
        return Some(Judgement::FailLaunch { faulty, kind, reason });
    }
    let over = job.walltime_end().is_some_and(|end| now + WALLTIME_SLACK >= end);
    if fault == Some(Fault::Killed) && over {
        let kind = EventKind::Walltime;
        let reason = "the walltime has passed".to_owned();
        return Some(Judgement::Settle { verdict: Verdict::Killed, kind, reason });
    }
    if job.request.types.idempotent {
        return Some(Judgement::Requeue { lost: faulty, kind, reason });
    }
    Some(Judgement::Settle { verdict: Verdict::Broken, kind, reason })
}

/// Why a part cannot go on: whose fault it is (nobody's word for a lost node), and what happened.
fn failure(part: &Part) -> Option<(Option<Fault>, EventKind, String)> {
    let node = part.node;
    match &part.state {
        PartState::Failed { fault, message } => {
            let message = if message.is_empty() { "could not run its part" } else { message };
            let kind = match fault {
                Fault::Node => EventKind::PrologueError,
                Fault::Job | Fault::Killed => EventKind::SwitchIntoErrorState,
            };
            Some((Some(*fault), kind, format!("{node}: {message}")))
        }
        PartState::Lost => {
            Some((None, EventKind::LogSuspected, format!("{node} has fallen silent")))
        }
        PartState::Assigned
        | PartState::Acknowledged
        | PartState::Ended { .. }
        | PartState::Released => None,
    }
}

fn judge_progress(job: &Job, launch: &Launch) -> Judgement {
    if !job.is_launching() {
        return Judgement::Stay;
    }
    let all_taken = launch.parts.iter().all(|part| part.state != PartState::Assigned);
    // A command that has ended has run: the word of it has overtaken the word of the open mesh.
    let ended = launch.parts.iter().any(|part| matches!(part.state, PartState::Ended { .. }));
    if all_taken && (!job.is_mesh() || launch.opened.is_some() || ended) {
        return Judgement::Run;
    }
    let taken = launch.parts.iter().any(|part| part.state != PartState::Assigned);
    if taken && job.state == JobState::ToLaunch { Judgement::Launching } else { Judgement::Stay }
}
