//! Jobs: submission, lists, the job object, deletion.

mod submit;

use serde::{Deserialize, Serialize};

use crate::agent::Assignment;
use crate::list::Link;
use crate::resource::ResourceRow;

pub use self::submit::{OneOrMany, SubmitJob};

/// OAR's job states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "the names are OAR's own")]
pub enum JobState {
    Waiting,
    Hold,
    #[serde(rename = "toLaunch")]
    ToLaunch,
    #[serde(rename = "toError")]
    ToError,
    #[serde(rename = "toAckReservation")]
    ToAckReservation,
    Launching,
    Running,
    Suspended,
    Resuming,
    Finishing,
    Terminated,
    Error,
}

impl JobState {
    /// Terminated and Error: nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Terminated | Self::Error)
    }
}

/// The answer to a submission (201, with a `Location` header).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Submitted {
    /// The job's number.
    pub id: u64,
    /// What oarsub prints: admission rules' remarks and `OAR_JOB_ID=15`.
    pub cmd_output: String,
    /// `self`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// The answer to a deletion (202).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted {
    /// The job's number, as text (OAR's habit in answers to actions).
    pub id: String,
    /// `Delete request registered`.
    pub status: String,
    /// What oardel prints.
    pub oardel_output: String,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// An item of `GET /jobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobItem {
    /// The job's number.
    pub id: u64,
    /// Its state.
    pub state: JobState,
    /// The user who submitted it.
    pub owner: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its queue.
    pub queue: String,
    /// When it was submitted, seconds since the Unix epoch.
    pub submission: u64,
    /// `self`, `resources`, `nodes`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    #[serde(default)]
    pub api_timestamp: u64,
}

/// `GET /jobs/ID`. Times are seconds since the Unix epoch, 0 where OAR says "not yet".
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// The job's number.
    pub id: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its state.
    pub state: JobState,
    /// The user who submitted it.
    pub owner: String,
    /// The project that is accounted for.
    pub project: String,
    /// Its queue.
    pub queue: String,
    /// `PASSIVE` or `INTERACTIVE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its types.
    pub types: Vec<String>,
    /// The command line.
    pub command: String,
    /// The oarsub command line that submitted it.
    pub initial_request: String,
    /// The directory that oarsub was called in.
    pub launching_directory: String,
    /// Where the standard output goes, relative to the job's directory.
    pub stdout_file: String,
    /// Where the standard error goes, relative to the job's directory.
    pub stderr_file: String,
    /// The filter on resources after the admission rules.
    pub properties: String,
    /// The resource request after the admission rules.
    pub wanted_resources: String,
    /// Seconds.
    pub walltime: Option<u64>,
    /// When it was submitted.
    pub submission_time: u64,
    /// When it is predicted to start.
    pub scheduled_start: Option<u64>,
    /// When its last launch began.
    pub start_time: u64,
    /// When it ended.
    pub stop_time: u64,
    /// The raw wait status: an exit with 3 is 768.
    pub exit_code: Option<i32>,
    /// What happened last, for people.
    pub message: String,
    /// `None`, `toSchedule` or `Scheduled`.
    pub reservation: String,
    /// The job's array: its own number for a single job.
    pub array_id: u64,
    /// Its place in the array, from 1.
    pub array_index: Option<u64>,
    /// Jobs that must end first.
    pub dependencies: Vec<u64>,
    /// The job that it resubmits; 0 for none.
    pub resubmit_job_id: Option<u64>,
    /// Unused here.
    pub cpuset_name: Option<String>,
    /// What happened to it.
    pub events: Vec<Event>,
    /// `self`, `resources`, `nodes`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
    /// Only for an agent that the job is assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
}

/// `GET /jobs/ID/details`, and an item of `GET /jobs/details`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobDetails {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// The nodes of its current or last launch.
    pub nodes: Vec<JobNode>,
    /// What it runs on, or has run on; of a reservation what is kept for it.
    pub resources: Vec<JobResource>,
}

/// An item of `GET /jobs/ID/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobNode {
    /// Its OAR host name.
    pub network_address: String,
    /// `assigned`.
    pub status: String,
    /// `self`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// An item of `GET /jobs/ID/resources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobResource {
    /// `assigned` or `reserved`.
    pub status: String,
    /// The resource.
    #[serde(flatten)]
    pub resource: ResourceRow,
}

/// An item of `GET /jobs/table`: OAR's own columns. See [`Job`] for what they mean.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "the names are OAR's own")]
pub struct JobRow {
    pub id: u64,
    #[serde(rename = "Job_Id")]
    pub job_id_of_old: u64,
    pub job_id: u64,
    pub job_name: Option<String>,
    pub job_type: String,
    pub job_user: String,
    pub state: JobState,
    pub project: String,
    pub queue_name: String,
    pub command: String,
    pub initial_request: String,
    pub launching_directory: String,
    /// With `%jobid%` in place of the number.
    pub stdout_file: String,
    /// With `%jobid%` in place of the number.
    pub stderr_file: String,
    pub properties: String,
    pub reservation: String,
    pub message: String,
    pub walltime: Option<u64>,
    pub submission_time: u64,
    pub start_time: u64,
    pub stop_time: u64,
    pub exit_code: Option<i32>,
    pub array_id: u64,
    /// The job's own number once it was launched, else 0.
    pub assigned_moldable_job: u64,
    pub links: Vec<Link>,
    pub api_timestamp: u64,
}

/// `GET /jobs/ID/why`: what keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// The job's number.
    pub id: u64,
    /// Its state.
    pub state: JobState,
    /// When it is planned to start, at the latest; seconds since the Unix epoch.
    pub scheduled_start: Option<u64>,
    /// The reason, for people.
    pub reason: String,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The event's number.
    pub event_id: u64,
    /// The job's number.
    pub job_id: u64,
    /// One of OAR's event names, such as `FRAG_JOB_REQUEST`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Seconds since the Unix epoch.
    pub date: u64,
    /// What happened, to what.
    pub description: String,
    /// `YES` or `NO`.
    pub to_check: String,
}
