//! What became of a run's work, for the judges.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_api::job::Job;
use coordinator_api::mesh::JobMesh;
use netsim_report::JobKey;

use super::gather::Gathered;
use super::oracle::Predictions;

/// What became of a run's work.
pub(crate) struct Outcome {
    /// The jobs, each coordinator's by their numbers.
    pub(crate) jobs: BTreeMap<JobKey, EndedJob>,
    /// Their results.
    pub(crate) gathered: Gathered,
    /// What went wrong that nobody expected, as sentences.
    pub(crate) failures: Vec<String>,
    /// What happened in vain.
    pub(crate) warnings: Vec<String>,
    /// What RFC 4787 says about pairs in the end.
    pub(crate) predictions: Predictions,
}

/// A job that has ended.
pub(crate) struct EndedJob {
    /// Its place in the scenario's list.
    pub(crate) place: usize,
    /// It failed and was submitted again: another one stands for it.
    pub(crate) was_repeated: bool,
    /// What the coordinator says.
    pub(crate) job: Job,
    /// Its network, if it had one.
    pub(crate) mesh: Option<JobMesh>,
    /// When it was submitted, first seen running, and seen to have ended, from the start of the work.
    pub(crate) times: Times,
}

/// When a job got how far, from the start of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Submitted.
    pub(crate) submitted: Duration,
    /// First seen running.
    pub(crate) running: Option<Duration>,
    /// Seen to have ended.
    pub(crate) ended: Duration,
}
