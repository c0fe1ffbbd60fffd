//! `run.json`: which run this is, what made it, and whether it came to its end.

use std::collections::BTreeMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::event::{Backend, FORMAT};

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// How far it came.
    pub state: RunState,
    /// The scenario's title.
    pub title: String,
    /// The scenario's file or name.
    pub scenario: String,
    /// The seed that decided everything that is left to chance.
    pub seed: u64,
    /// What ran it.
    pub backend: Backend,
    /// What was typed.
    pub command_line: Vec<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// The same moment on the clock that only goes forward, which all programs of a machine share:
    /// microseconds. None in virtual time.
    #[serde(default)]
    pub started_mono_us: Option<u64>,
    /// When it ended, milliseconds since the Unix epoch.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// All that the scenario expects holds; none before the end.
    #[serde(default)]
    pub passed: Option<bool>,
    /// Versions of the programs, as each says itself.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// The kernel, as `uname -sr`.
    #[serde(default)]
    pub kernel: String,
    /// What it ran on.
    #[serde(default)]
    pub machine: Machine,
    /// What was set beside the scenario's file, as `volunteers.count=10`.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// The machines of other coordinators than the unnamed one, with the names of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, String>,
    /// What the log holds, so that a reader can tell whether all of it is there.
    #[serde(default)]
    pub written: Written,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It is at work, or was killed.
    Running,
    /// It came to its end.
    Finished,
    /// It could not go on.
    Failed,
    /// It was ended from outside.
    Interrupted,
}

/// What a run has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Lines of events.jsonl.
    pub events: u64,
    /// Rows of samples.csv without the header.
    pub samples: u64,
    /// Events and samples that were not written: the disk or the budget was full.
    pub lost: u64,
}

/// A machine, without anything that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As `x86_64`.
    pub architecture: String,
    /// The processor's model.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
}

impl RunInfo {
    /// A run on this machine that begins now.
    pub fn begin(title: &str, scenario: &str, seed: u64, backend: Backend) -> Self {
        Self {
            format: FORMAT,
            state: RunState::Running,
            title: title.to_owned(),
            scenario: scenario.to_owned(),
            seed,
            backend,
            command_line: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
            started_ms: unix_ms(),
            started_mono_us: None,
            ended_ms: None,
            passed: None,
            versions: BTreeMap::new(),
            kernel: kernel(),
            machine: Machine::this(),
            overrides: Vec::new(),
            clusters: BTreeMap::new(),
            written: Written::default(),
        }
    }
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let value = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            architecture: std::env::consts::ARCH.to_owned(),
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1024,
        }
    }
}

fn kernel() -> String {
    let part = |name: &str| read(&format!("/proc/sys/kernel/{name}")).trim().to_owned();
    format!("{} {}", part("ostype"), part("osrelease"))
}

/// Empty where there is no such file.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(kernel().starts_with("Linux "), "{}", kernel());
    }
}
