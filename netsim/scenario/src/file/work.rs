//! What the scientists run, as it is written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounded::{Count, Whole};
use crate::text::{Size, Time};

/// `[[job]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Job {
    /// What `after`, events and expectations call it. Default: `job-1` for the file's first.
    pub name: Option<String>,
    /// The coordinator that it is submitted to. Default: the first.
    pub coordinator: Option<String>,
    /// The scientist who submits it. Default: the coordinator's first.
    pub scientist: Option<String>,
    /// The command line. In a campaign `{i}` is the submission's number, from 1.
    pub command: String,
    /// Number of nodes. Default: 1.
    #[serde(default)]
    pub nodes: Count,
    /// Cores of each node that the job gets; the others are for other jobs. Default: whole nodes.
    pub cores: Option<Whole<1_024>>,
    /// Job types such as `mesh`, `spmd`.
    #[serde(default)]
    pub types: Vec<String>,
    /// What the job's directory holds at the start: names of programs beside `netsim` (as `nqueens`)
    /// or paths relative to the scenario file (anything with a `/` in it). `{i}` as in the command.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Longest run. Default: 5 minutes.
    #[serde(default = "five_minutes")]
    pub walltime: Time,
    /// When it is submitted, from the start of the work. Default: at once. Not with `after`.
    pub at: Option<Time>,
    /// The job (or campaign) whose end it waits for.
    pub after: Option<String>,
    /// A campaign: so many submissions, named `NAME-1`, `NAME-2`, ... Default: one, named `NAME`.
    pub count: Option<Whole<10_000>>,
    /// So many jobs with one `oarsub --array`. Not with `count`.
    pub array: Option<Whole<10_000>>,
    /// Which of the result files are gathered in the run directory's `collected/NAME`: paths in a
    /// rank's directory, where `*` stands for any text without `/`.
    #[serde(default)]
    pub collect: Vec<String>,
    /// A command that runs on this machine, in that directory, when the job (or the campaign) has
    /// ended; it must succeed.
    pub then: Option<String>,
    /// What must hold when it has ended; in a campaign, for each.
    #[serde(default)]
    pub expect: JobExpect,
}

/// `[job.expect]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct JobExpect {
    /// The command's exit status. Default: 0.
    pub exit: u8,
    /// Whether the job may also end in the state Error, as when its nodes are lost. Default: no.
    pub may_fail: bool,
    /// Text that the first node's output must contain.
    pub output: Option<String>,
    /// The board's size: the first node's output must hold the published number of solutions.
    pub queens: Option<Whole<27>>,
    /// Every ordered pair must have carried at least this much, counted at both ends' `mesh0`.
    pub pair_bytes: Size,
    /// The relayed pairs must be exactly those that RFC 4787 makes impossible to connect.
    pub relayed_as_predicted: bool,
}

/// How far a job is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Submitted.
    Submitted,
    /// It has its nodes, and makes its mesh.
    Launching,
    /// Its command runs.
    Running,
    /// It has ended, well or not.
    Ended,
}

fn five_minutes() -> Time {
    Time::seconds(300)
}
