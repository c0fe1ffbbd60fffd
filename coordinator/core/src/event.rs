//! What happened to a job, under OAR's names.

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, UnixMillis};

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The event's number, from 1, unique among all jobs.
    pub id: u64,
    /// The job.
    pub job: JobId,
    /// What kind.
    pub kind: EventKind,
    /// When.
    pub date: UnixMillis,
    /// What happened, to what.
    pub description: String,
}

/// OAR's event names that occur here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventKind {
    /// A user asked for the end of the job.
    FragJobRequest,
    /// The walltime passed.
    Walltime,
    /// The nodes are told to end the job.
    SendKillJob,
    /// The command ended by itself.
    SwitchIntoTerminateState,
    /// The job was killed or could not be run.
    SwitchIntoErrorState,
    /// A launch did not come to its end in time.
    LaunchingOarexecTimeout,
    /// A node could not prepare the job.
    PrologueError,
    /// A node fell silent.
    LogSuspected,
    /// The job goes back to Waiting.
    ResubmitJobAutomatically,
    /// The user holds a job that waits.
    HoldWaitingJob,
    /// The user lets a held job go on.
    ResumeJob,
    /// A best-effort job made room for another one.
    BesteffortKill,
    /// A reservation's resources are not there.
    ReservationNoNode,
    /// A node did not answer the order to end the job.
    ExterminateJob,
}

impl EventKind {
    /// OAR's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::FragJobRequest => "FRAG_JOB_REQUEST",
            Self::Walltime => "WALLTIME",
            Self::SendKillJob => "SEND_KILL_JOB",
            Self::SwitchIntoTerminateState => "SWITCH_INTO_TERMINATE_STATE",
            Self::SwitchIntoErrorState => "SWITCH_INTO_ERROR_STATE",
            Self::LaunchingOarexecTimeout => "LAUNCHING_OAREXEC_TIMEOUT",
            Self::PrologueError => "PROLOGUE_ERROR",
            Self::LogSuspected => "LOG_SUSPECTED",
            Self::ResubmitJobAutomatically => "RESUBMIT_JOB_AUTOMATICALLY",
            Self::HoldWaitingJob => "HOLD_WAITING_JOB",
            Self::ResumeJob => "RESUME_JOB",
            Self::BesteffortKill => "BESTEFFORT_KILL",
            Self::ReservationNoNode => "RESERVATION_NO_NODE",
            Self::ExterminateJob => "EXTERMINATE_JOB",
        }
    }
}
