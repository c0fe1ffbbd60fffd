//! The run directory of `netsim run --out DIR`: what a researcher keeps and publishes.
//!
//! Nothing secret goes into it: the programs work in another directory, from which only their logs are
//! copied, without tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use netsim_report::record::names;
use netsim_report::{Backend, Budget, Recorder, RunInfo};
use serde::Serialize;

use crate::topology::Machine;
use crate::world::{Programs, World};

pub mod captures;
pub mod command;
mod logs;
pub mod traffic;

/// The programs whose versions matter.
const PROGRAMS: [&str; 3] = ["agent", "coordinator", "oar"];

/// A run directory that is being written.
pub struct Out {
    dir: PathBuf,
    recorder: Recorder,
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
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

impl Out {
    /// Begins the directory and starts the run's clock.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(dir: &Path, about: About<'_>, resolved: &impl Serialize) -> anyhow::Result<Self> {
        let mut info = RunInfo::begin(about.title, about.scenario, about.seed, about.backend);
        info.overrides = about.overrides;
        info.versions = versions();
        let recorder = Recorder::create(dir, info, resolved, about.text, Budget::default())?;
        Ok(Self { dir: dir.to_owned(), recorder })
    }

    /// Takes what happens.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Where captures go.
    pub fn captures(&self) -> PathBuf {
        self.dir.join(names::CAPTURES)
    }

    /// Copies the programs' logs from the directory that they worked in, ends the log at `t` seconds, and
    /// makes the tables and the page. An outcome that is an error is the reason why the run could not go
    /// on.
    ///
    /// # Errors
    /// Where it cannot be written: then the directory says that the run was killed.
    pub fn end(
        self,
        worked_in: Option<&Path>,
        t: f64,
        outcome: Result<bool, String>,
    ) -> anyhow::Result<PathBuf> {
        if let Some(from) = worked_in {
            let copied = logs::copy(from, &self.dir.join(names::LOGS));
            if let Err(error) = copied {
                let text = format!("not all of the programs' logs were copied: {error:#}");
                tracing::warn!("{text}");
                self.recorder.record_at(t, netsim_report::What::Failure { text });
            }
        }
        let (passed, error) = match outcome {
            Ok(passed) => (passed, None),
            Err(error) => (false, Some(error)),
        };
        self.recorder.finish(t, passed, error).context("the run directory is incomplete")?;
        netsim_report::report(&self.dir).context("the run's page is missing")?;
        Ok(self.dir.join(names::REPORT))
    }
}

/// All machines of a world, with their routers.
pub fn machines(world: &World) -> Vec<&Machine> {
    let scientists = world.scientists().iter().map(|scientist| &scientist.machine);
    let volunteers = world.volunteers.iter().map(|volunteer| &volunteer.machine);
    std::iter::once(&world.public).chain(scientists).chain(volunteers).collect()
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
