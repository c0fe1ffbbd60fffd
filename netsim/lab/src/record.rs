//! The run directory of `netsim run --out DIR`: what a researcher keeps and publishes.
//!
//! Nothing secret goes into it: the programs work in another directory, from which only their logs are
//! copied, as they grow and without tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use netsim_report::agents::Agents;
use netsim_report::record::names;
use netsim_report::{Backend, Budget, Recorder, RunInfo, RunState, settle};
use netsim_scenario::Resolved;
use nix::time::{ClockId, clock_gettime};

use crate::topology::Machine;
use crate::world::{Programs, World};

pub mod captures;
pub mod command;
mod logs;
pub mod traffic;

use logs::Following;

/// The programs whose versions matter.
const PROGRAMS: [&str; 3] = ["agent", "coordinator", "oar"];

/// A file that is written to see whether one can be.
const TRIED: &str = ".tried";

/// What is wrong where a log does not fit on the disk.
const INCOMPLETE: &str = "not all of the programs' logs were copied";

/// A run directory that is being written.
pub struct Out {
    dir: PathBuf,
    recorder: Recorder,
    /// The programs' logs, where there are programs.
    following: Option<Following>,
}

/// What is written about a run before it begins.
pub struct About<'a> {
    /// The scenario's title.
    pub title: &'a str,
    /// Its file or name, as the user gave it.
    pub scenario: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The seed.
    pub seed: u64,
    /// What was set beside the file, as `volunteers.count=10`.
    pub overrides: Vec<String>,
    /// What runs it.
    pub backend: Backend,
}

/// A run directory that can be written to and has nothing in it; before the run, so that a wrong one
/// does not cost one.
///
/// # Errors
/// With what to do.
pub fn check(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: choose a new directory, or remove it", dir.display());
    }
    let made = !dir.exists();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Rights alone do not tell: it may be mounted read-only, or be full.
    let tried = dir.join(TRIED);
    let written = std::fs::write(&tried, [b'.'; 4096]).and_then(|()| std::fs::remove_file(&tried));
    written
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&tried);
            if made {
                let _ = std::fs::remove_dir(&dir);
            }
        })
        .with_context(|| format!("cannot write to {}: choose another --out", dir.display()))?;
    Ok(dir)
}

impl Out {
    /// Begins the directory and starts the run's clock. The logs of programs that work in `worked_in`
    /// are copied from there all the time.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(
        dir: &Path,
        about: About<'_>,
        resolved: &Resolved,
        worked_in: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut info = RunInfo::begin(about.title, about.scenario, about.seed, about.backend);
        info.overrides = about.overrides;
        info.versions = versions();
        info.clusters = resolved.clusters();
        let recorder = Recorder::create(dir, info, resolved, about.text, Budget::default())?;
        let (now, since) = (clock_gettime(ClockId::CLOCK_MONOTONIC), recorder.now());
        let start =
            now.map(|now| Duration::from(now).saturating_sub(Duration::from_secs_f64(since)));
        let start = start.ok().and_then(|start| u64::try_from(start.as_micros()).ok());
        recorder.amend(|info| info.started_mono_us = start.filter(|_| worked_in.is_some()));
        let to = dir.join(names::LOGS);
        let follow = |from| Following::start(from, &to, recorder.clone());
        let following = worked_in.map(follow).transpose().context("cannot follow the logs")?;
        Ok(Self { dir: dir.to_owned(), recorder, following })
    }

    /// Takes what happens.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Where captures go.
    pub fn captures(&self) -> PathBuf {
        self.dir.join(names::CAPTURES)
    }

    /// Copies the rest of the programs' logs, ends the log at `t` seconds, and makes the tables and the
    /// page. An outcome that is an error is the reason why the run could not go on.
    ///
    /// # Errors
    /// Where it cannot be written: then the directory says that the run was killed.
    pub fn end(self, t: f64, outcome: Result<bool, String>) -> anyhow::Result<PathBuf> {
        let following = self.following.map(Following::finish);
        if following.is_some() {
            let (mut start, mut clusters) = (None, BTreeMap::new());
            self.recorder.amend(|info| {
                (start, clusters) = (info.started_mono_us, info.clusters.clone());
            });
            let logs = self.dir.join(names::LOGS);
            let agents = Agents::read(&logs, &clusters).unwrap_or_default();
            for event in agents.events(start.unwrap_or_default()) {
                self.recorder.record_at(event.t.min(t), event.what);
            }
        }
        if let Some(Err(error)) = following {
            let text = format!("{INCOMPLETE}: {error:#}");
            tracing::warn!("{text}");
            self.recorder.record_at(t, netsim_report::What::Failure { text });
        }
        let (passed, error) = match outcome {
            Ok(passed) => (passed, None),
            Err(error) => (false, Some(error)),
        };
        self.recorder.finish(t, passed, error).context("the run directory is incomplete")?;
        settle::in_order(&self.dir).context("the events are not in order of time")?;
        netsim_report::report(&self.dir).context("the run's page is missing")?;
        Ok(self.dir.join(names::REPORT))
    }
}

/// Completes the directory of a run that was ended from outside before its end, for the reason `why`,
/// with its tables and its page; the page's place, if that was to be done. A complete one gets what its
/// programs have logged since.
///
/// # Errors
/// Where it cannot be written.
pub fn interrupted(
    dir: &Path,
    worked_in: Option<&Path>,
    why: &str,
) -> anyhow::Result<Option<PathBuf>> {
    let Ok(info) = netsim_report::read::info(dir) else { return Ok(None) };
    let copied = worked_in.map_or(Ok(()), |from| logs::copy(from, &dir.join(names::LOGS)));
    if info.state != RunState::Running {
        // It was complete; a lab that was held went on writing.
        return copied.map(|()| None).context(INCOMPLETE);
    }
    settle::interrupted(dir, why).context("the run directory is incomplete")?;
    netsim_report::report(dir).context("the run's page is missing")?;
    copied.context(INCOMPLETE)?;
    Ok(Some(dir.join(names::REPORT)))
}

/// All machines of a world, with their routers.
pub fn machines(world: &World) -> Vec<&Machine> {
    let servers = world.servers.iter().map(|server| &server.machine);
    let scientists = world.scientists().iter().map(|scientist| &scientist.machine);
    let relays = world.relays().map(|relay| &relay.machine);
    let proxies = world.proxies().map(|proxy| &proxy.machine);
    let volunteers = world.volunteers.iter().map(|volunteer| &volunteer.machine);
    servers.chain(scientists).chain(relays).chain(proxies).chain(volunteers).collect()
}

/// What the programs say about themselves.
fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    versions.insert("netsim".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let Ok(programs) = Programs::beside_this() else { return versions };
    for name in PROGRAMS {
        let said = Command::new(programs.path(name)).arg("--version").output();
        let text = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
        let text = text.unwrap_or_default();
        let version = text.strip_prefix(name).unwrap_or(&text).trim();
        versions.insert(name.to_owned(), version.to_owned());
    }
    versions
}
