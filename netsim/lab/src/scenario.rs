//! Scenario files: which machines there are, what the scientist runs, what must hold in the end.
//!
//! TOML. Unknown keys are refused; an error names the file, the line and the column. Durations are
//! text (`"500ms"`, `"10s"`), sizes too (`"1MiB"`). The smallest useful file:
//!
//! ```toml
//! [[volunteers]]
//! behind = "home"
//!
//! [[job]]
//! command = "echo hello"
//! ```

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::preset::Preset;

mod check;
mod load;
mod text;

pub use load::{LoadError, ScenarioError, list, load, parse};

/// A scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line for `netsim list`.
    #[serde(default)]
    pub title: String,
    /// Decides the order in which the volunteers start; `--seed` overrides it. Default: 1.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// The coordinator's settings.
    #[serde(default)]
    pub coordinator: Coordinator,
    /// The machine that jobs are submitted from.
    #[serde(default)]
    pub scientist: Scientist,
    /// Groups of volunteers, in the order in which they enrol (`vol-1` is the first of the first).
    pub volunteers: Vec<Volunteers>,
    /// Jobs, submitted one after the other without waiting; all of them must hold.
    pub job: Vec<Job>,
}

/// `[coordinator]`: it stands in the public network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coordinator {
    /// How often agents ask for work. Default: 1 s, since a scenario is watched.
    #[serde(with = "text::duration")]
    pub poll_interval: Duration,
    /// Silence after which a node is suspected. Default: 10 s.
    #[serde(with = "text::duration")]
    pub node_timeout: Duration,
    /// How long a launch may take until every pair has a path. Default: 30 s.
    #[serde(with = "text::duration")]
    pub launch_deadline: Duration,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            node_timeout: Duration::from_secs(10),
            launch_deadline: Duration::from_secs(30),
        }
    }
}

/// `[scientist]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scientist {
    /// The name that `coordinator user add` is given. Default: `alice`.
    pub name: String,
    /// The network that the scientist's machine is behind. Default: `home`.
    pub behind: Preset,
}

impl Default for Scientist {
    fn default() -> Self {
        Self { name: "alice".to_owned(), behind: Preset::Home }
    }
}

/// `[[volunteers]]`: machines of one kind, each behind a router of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volunteers {
    /// The network that each of them is behind.
    pub behind: Preset,
    /// How many, 1 to 64. Default: 1.
    #[serde(default = "defaults::one")]
    pub count: Spanned<u16>,
    /// Cores that each gives. Default: 1.
    #[serde(default = "defaults::one")]
    pub cores: Spanned<u16>,
}

/// `[[job]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The command line.
    pub command: String,
    /// Number of nodes. Default: 1.
    #[serde(default = "defaults::one")]
    pub nodes: Spanned<u16>,
    /// Cores of each node that the job gets; the others are for other jobs. Default: whole nodes.
    pub cores: Option<Spanned<u16>>,
    /// Job types such as `mesh`, `spmd`.
    #[serde(default)]
    pub types: Vec<String>,
    /// What the job's directory holds at the start: names of programs beside `netsim` (as `nqueens`)
    /// or paths relative to the scenario file (anything with a `/` in it).
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Longest run. Default: 5 minutes.
    #[serde(default = "defaults::walltime", with = "text::duration")]
    pub walltime: Duration,
    /// What must hold when it has ended.
    #[serde(default)]
    pub expect: Expect,
}

/// `[job.expect]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The command's exit status. Default: 0.
    pub exit: u8,
    /// Text that the first node's output must contain.
    pub output: Option<String>,
    /// The board's size: the first node's output must hold the published number of solutions.
    pub queens: Option<Spanned<u8>>,
    /// Every ordered pair must have carried at least this much, counted at both ends' `mesh0`.
    #[serde(with = "text::size")]
    pub pair_bytes: u64,
    /// The relayed pairs must be exactly those that RFC 4787 makes impossible to connect.
    pub relayed_as_predicted: bool,
}

impl Scenario {
    /// The network that each volunteer is behind, and its cores, in the order of enrolment.
    pub fn machines(&self) -> Vec<(Preset, u16)> {
        let group = |g: &Volunteers| {
            let (behind, cores) = (g.behind, *g.cores.as_ref());
            (0..*g.count.as_ref()).map(move |_| (behind, cores))
        };
        self.volunteers.iter().flat_map(group).collect()
    }
}

mod defaults {
    use super::{Duration, Range, Spanned};

    /// Where a value that is not in the file stands: nowhere.
    const NOWHERE: Range<usize> = 0..0;

    pub(super) fn seed() -> u64 {
        1
    }

    pub(super) fn one() -> Spanned<u16> {
        Spanned::new(NOWHERE, 1)
    }

    pub(super) fn walltime() -> Duration {
        Duration::from_secs(300)
    }
}
