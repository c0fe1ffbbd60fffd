//! Jobs: submission, lists, the job object, deletion.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Assignment;
use crate::list::Link;

/// OAR's job states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// `POST /jobs`: the keys are oarsub's long options. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitJob {
    /// The command line, given to `sh -c` on the first node (on every node with the type `spmd`).
    #[serde(default)]
    pub command: String,
    /// Resource requests such as `nodes=6,walltime=1:00:00`.
    #[serde(default, alias = "resources", skip_serializing_if = "OneOrMany::is_empty")]
    pub resource: OneOrMany,
    /// Job types such as `mesh`, `spmd`, `desktop_computing`, `idempotent`.
    #[serde(default, rename = "type", skip_serializing_if = "OneOrMany::is_empty")]
    pub types: OneOrMany,
    /// The job's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The project that is accounted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The stage-in archive (tar, gzip): `sha256:` and 64 hexadecimal digits, uploaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stagein: Option<String>,
    /// The queue: `default` or `besteffort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The condition on all resources, such as `mem > 1000 AND host = 'vol-1'`.
    #[serde(default, alias = "properties", skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// An advance reservation: `YYYY-MM-DD HH:MM:SS`, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Jobs that must end first, by their numbers.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub anterior: OneOrMany,
    /// Other than 0: the job waits until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number")]
    pub hold: Option<u32>,
    /// An array: so many jobs, which differ in their index.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number")]
    pub array: Option<u32>,
    /// An array: the text of a parameter file. One job for each line, which its command gets as arguments.
    #[serde(
        default,
        alias = "array-param-file",
        alias = "array_param_file",
        skip_serializing_if = "Option::is_none"
    )]
    pub param_file: Option<String>,
    /// In place of a command: the text of a script, which begins with `#!`, or is one of `sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Options of oarsub that mean nothing on volunteers' machines: taken, said, and left out.
    #[serde(default, skip_serializing)]
    pub directory: Option<Value>,
    /// See [`directory`](Self::directory): a job's outputs have OAR's usual names.
    #[serde(default, skip_serializing)]
    pub stdout: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub stderr: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub notify: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub checkpoint: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub signal: Option<Value>,
    /// See [`directory`](Self::directory): `#OAR` lines are read by `oarsub -S`.
    #[serde(default, skip_serializing)]
    pub scanscript: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, rename = "use-job-key", alias = "use_job_key", skip_serializing)]
    pub use_job_key: Option<Value>,
}

impl SubmitJob {
    /// The names of those options that were given and are left out.
    pub fn left_out(&self) -> Vec<&'static str> {
        let options = [
            ("directory", &self.directory),
            ("stdout", &self.stdout),
            ("stderr", &self.stderr),
            ("notify", &self.notify),
            ("checkpoint", &self.checkpoint),
            ("signal", &self.signal),
            ("scanscript", &self.scanscript),
            ("use-job-key", &self.use_job_key),
        ];
        // OAR drops an option that is null or empty.
        let is_given = |value: &Value| !value.is_null() && value.as_str() != Some("");
        let given = options.into_iter().filter(|(_, value)| value.as_ref().is_some_and(is_given));
        given.map(|(name, _)| name).collect()
    }
}

/// A number; forms send it as text, and an empty text is none.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Option<u32>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a whole number from 0 to 4294967295")
        }

        fn visit_unit<E>(self) -> Result<Option<u32>, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, set: bool) -> Result<Option<u32>, E> {
            Ok(Some(u32::from(set)))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Option<u32>, E> {
            let bad = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
            u32::try_from(number).map(Some).map_err(bad)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<u32>, E> {
            let bad = |_| E::invalid_value(serde::de::Unexpected::Str(text), &self);
            if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(bad) }
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// OAR takes one string or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany(pub Vec<String>);

impl OneOrMany {
    /// No value was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_unit<E>(self) -> Result<OneOrMany, E> {
                Ok(OneOrMany::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_u64<E>(self, number: u64) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![number.to_string()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<OneOrMany, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The answer to a submission (201, with a `Location` header).
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// `GET /jobs/ID/why`: what keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
