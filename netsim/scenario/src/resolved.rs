//! A scenario with everything decided: what both back ends build, do and expect.

use std::path::PathBuf;
use std::time::Duration;

use netsim_sim::{Event, Topology};
use serde::{Deserialize, Serialize};

use crate::file::{JobExpect, JobState, Metric, Path};
use crate::folder::Folder;
use crate::preset::Preset;

mod oracle;
mod seconds;
mod submission;
mod warnings;

/// A scenario with everything decided. It is written into the run directory as `resolved.json`.
///
/// Times are seconds. The machines' names are those of the coordinators, `scientist` (then `scientist-2`, ...),
/// `relay-1`, ..., `vol-1`, ...; a machine's own routers are `NAME-r0` (the machine's) and `NAME-r1`
/// (the one outside of it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resolved {
    /// The file, or the name of a scenario that is shipped.
    pub file: PathBuf,
    /// Where the files are that it names.
    pub folder: Folder,
    /// One line.
    pub title: String,
    /// What everything was drawn with.
    pub seed: u64,
    /// The longest run.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// The network: every machine and router by name. Without events: those are in the timeline.
    pub topology: Topology,
    /// The coordinators, the first one first. Others are named by them in the rest of this.
    pub coordinators: Vec<Coordinator>,
    /// The scientists, the first one first; each coordinator has at least one.
    pub scientists: Vec<Scientist>,
    /// The stand-alone relays.
    pub relays: Vec<Relay>,
    /// The volunteers, each coordinator's in the order of enrolment.
    pub volunteers: Vec<Volunteer>,
    /// The jobs in the order of submission.
    pub jobs: Vec<Job>,
    /// What is done with the results of jobs and campaigns.
    pub gatherings: Vec<Gathering>,
    /// What happens meanwhile.
    pub timeline: Vec<Happening>,
    /// What must hold in the end.
    pub expectations: Vec<Expectation>,
    /// How often each drill is done afterwards; 0: none is.
    #[serde(default)]
    pub drills: u8,
}

/// A coordinator and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Coordinator {
    /// Its name, and its machine's.
    pub name: String,
    /// How often agents ask for work.
    #[serde(with = "seconds")]
    pub poll_interval: Duration,
    /// Silence after which a node is suspected.
    #[serde(with = "seconds")]
    pub node_timeout: Duration,
    /// How long a launch may take until every pair has a path.
    #[serde(with = "seconds")]
    pub launch_deadline: Duration,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self::from(&crate::file::Coordinator::default())
    }
}

impl From<&crate::file::Coordinator> for Coordinator {
    fn from(written: &crate::file::Coordinator) -> Self {
        Self {
            name: written.name.clone(),
            poll_interval: written.poll_interval.0,
            node_timeout: written.node_timeout.0,
            launch_deadline: written.launch_deadline.0,
        }
    }
}

/// A scientist and the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scientist {
    /// The user's name.
    pub user: String,
    /// The coordinator that knows the user.
    pub coordinator: String,
    /// The machine's name.
    pub host: String,
    /// The network that the machine is behind.
    pub behind: Preset,
}

/// A stand-alone relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Relay {
    /// The machine's name.
    pub host: String,
    /// The coordinator that it works for.
    pub coordinator: String,
}

/// A volunteer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Volunteer {
    /// The machine's name.
    pub host: String,
    /// The coordinator that it enrols with.
    pub coordinator: String,
    /// What that one calls it: `vol-1` is the first that enrols there.
    pub node: String,
    /// Cores that it gives.
    pub cores: u32,
    /// What it is behind, for people: a preset's name, a router's name, or `axes`.
    pub behind: String,
    /// The preset, if it is behind routers of its own that are one.
    pub preset: Option<Preset>,
    /// Its group in the file, from 0.
    pub group: usize,
}

/// A job, or an array of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// Its name, unique.
    pub name: String,
    /// The name of its `[[job]]`: the same for all of a campaign.
    pub group: String,
    /// The coordinator that it is submitted to.
    pub coordinator: String,
    /// The user who submits it.
    pub scientist: String,
    /// The command line.
    pub command: String,
    /// Number of nodes.
    pub nodes: u32,
    /// Cores of each node. None: whole nodes.
    pub cores: Option<u32>,
    /// Job types.
    pub types: Vec<String>,
    /// What its directory holds at the start: names of programs, or paths from the scenario file.
    pub files: Vec<PathBuf>,
    /// Longest run.
    #[serde(with = "seconds")]
    pub walltime: Duration,
    /// When it is submitted.
    pub start: Start,
    /// So many with one `oarsub --array`. None: an ordinary job.
    pub array: Option<u32>,
    /// What must hold for it.
    pub expect: JobExpect,
}

/// Where a job's file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobFile<'a> {
    /// It is a program beside `netsim`, since its name is bare.
    Program(&'a str),
    /// It is a file of the scenario's folder.
    Companion,
}

/// Where a job's file comes from.
pub fn job_file(name: &std::path::Path) -> JobFile<'_> {
    match name.to_str() {
        Some(bare) if !bare.contains('/') => JobFile::Program(bare),
        Some(_) | None => JobFile::Companion,
    }
}

/// When a job is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// That long after the start of the work.
    At(#[serde(with = "seconds")] Duration),
    /// When all jobs of that group have ended.
    After(String),
}

/// What is done with the results of a job or a campaign when all of it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gathering {
    /// The jobs' group.
    pub group: String,
    /// Which files are gathered in `collected/GROUP`: paths in a rank's directory, `*` is any text
    /// without `/`.
    pub collect: Vec<String>,
    /// The command that runs there.
    pub then: Option<String>,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Happening {
    /// When.
    pub when: When,
    /// What.
    pub what: What,
}

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// That long after the start of the work: everything is built, the volunteers are there.
    At(#[serde(with = "seconds")] Duration),
    /// That long after a job gets so far.
    #[serde(rename_all = "kebab-case")]
    Job {
        /// The job's group. Of a campaign, the first that gets there.
        group: String,
        /// How far.
        state: JobState,
        /// How long after that.
        #[serde(with = "seconds")]
        after: Duration,
    },
}

/// What happens. Machines and routers are those of the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// To the network or a machine.
    Network(Event),
    /// That coordinator ends cleanly.
    CoordinatorStop(String),
    /// That coordinator is killed.
    CoordinatorKill(String),
    /// That coordinator starts again.
    CoordinatorStart(String),
    /// That stand-alone relay ends cleanly.
    RelayStop(String),
    /// That stand-alone relay is killed.
    RelayKill(String),
    /// That stand-alone relay starts again.
    RelayStart(String),
}

/// Something that must hold in the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expectation {
    /// The group of jobs that it is about. None: all of them.
    pub group: Option<String>,
    /// The coordinator whose jobs it is about. None: all of them.
    pub coordinator: Option<String>,
    /// What is looked at.
    pub that: Holds,
}

impl Expectation {
    /// Whether it is about the jobs of that group, which is that coordinator's.
    pub fn covers(&self, coordinator: &str, group: &str) -> bool {
        self.group.as_ref().is_none_or(|of| of == group)
            && self.coordinator.as_ref().is_none_or(|of| of == coordinator)
    }

    /// The group or the coordinator that it is about, if it is not about everything.
    pub fn scope(&self) -> Option<&str> {
        self.group.as_deref().or(self.coordinator.as_deref())
    }
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The number of something is within bounds.
    Number(Number, Bounds<u64>),
    /// A percentile (0 to 100) of the metric's values, in seconds, is within bounds. No values: it
    /// does not hold.
    #[serde(rename_all = "kebab-case")]
    Metric {
        /// Which.
        metric: Metric,
        /// 0 to 100.
        percentile: f64,
        /// Seconds.
        bounds: Bounds<f64>,
    },
    /// The relayed pairs are exactly those that [`Resolved::oracle`] finds no plain way for.
    RelayedAsPredicted,
    /// Packets of pairs in one network never cross its router.
    LanPairsDirect,
    /// A pair's path in the end.
    #[serde(rename_all = "kebab-case")]
    Path {
        /// The machines.
        between: [String; 2],
        /// The path.
        is: Path,
    },
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// Jobs that ended well.
    JobsTerminated,
    /// Jobs that ended in an error.
    JobsFailed,
    /// Pairs whose path is direct in the end.
    DirectPairs,
    /// Pairs whose path is relayed in the end.
    RelayedPairs,
    /// Files that were collected.
    CollectedFiles,
}

/// Limits, both inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bounds<T> {
    /// The least.
    pub least: Option<T>,
    /// The most.
    pub most: Option<T>,
}

impl<T: PartialOrd> Bounds<T> {
    /// Whether a value is within them.
    pub fn hold(&self, value: &T) -> bool {
        self.least.as_ref().is_none_or(|least| value >= least)
            && self.most.as_ref().is_none_or(|most| value <= most)
    }
}
