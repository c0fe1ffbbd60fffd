//! The volunteers' machines and agents.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use netsim_report::agents;

use super::World;
use crate::program::{Place, Program};
use crate::topology::Machine;
use crate::wait;
use netsim_scenario::Preset;

/// A volunteer.
pub struct Volunteer {
    /// The coordinator that it enrols with.
    pub coordinator: String,
    /// The host name that that one gives it: `vol-1` is the first to enrol.
    pub host: String,
    /// Its machine, whose name may be another one.
    pub machine: Machine,
    /// Where its programs run.
    pub place: Place,
    /// Cores that it gives.
    pub cores: u16,
    pub(super) agent: Option<Program>,
}

impl World {
    /// Adds the machine of a volunteer of the first coordinator and returns its index. It has not joined yet.
    pub fn add_volunteer(&mut self, behind: Preset, cores: u16) -> anyhow::Result<usize> {
        let index = self.volunteers.len();
        let host = format!("vol-{}", index + 1);
        let (machine, place) = self.add_machine(&host, behind)?;
        let coordinator = self.servers[0].name().to_owned();
        self.volunteers.push(Volunteer { coordinator, host, machine, place, cores, agent: None });
        Ok(index)
    }

    /// Starts a volunteer's agent, which must have joined.
    pub fn start_agent(&mut self, index: usize) -> anyhow::Result<()> {
        self.start_agent_with(index, &[])
    }

    /// Starts a volunteer's agent with more arguments, such as `--join TOKEN`.
    pub fn start_agent_with(&mut self, index: usize, more: &[&str]) -> anyhow::Result<()> {
        let path = self.program("agent");
        let volunteer = &mut self.volunteers[index];
        let state = volunteer.state_dir().display().to_string();
        let cores = volunteer.cores.to_string();
        let events = volunteer.place.dir.join(agents::FILE).display().to_string();
        let args = ["run", "--state", &state, "--cores", &cores, "--events", &events];
        let args = args.into_iter().chain(more.iter().copied());
        volunteer.agent = Some(volunteer.place.start("agent", &path, args)?);
        Ok(())
    }

    /// Waits until that many nodes are alive, as `oarnodes` shows them on the machine of each coordinator's
    /// first scientist.
    pub fn wait_until_alive(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let mut seen = Vec::new();
        let every = Duration::from_millis(200);
        let alive = wait::until_every(every, "all nodes alive", limit, || {
            seen.clear();
            for scientist in self.first_scientists() {
                let nodes = scientist.oar_nodes().unwrap_or_default().into_iter();
                let whose = scientist.coordinator.as_str();
                seen.extend(nodes.map(|(host, state)| (whose, host, state)));
            }
            let alive = seen.iter().filter(|(_, _, state)| state == "Alive").count();
            (alive == count).then_some(())
        });
        let Err(late) = alive else { return Ok(()) };
        let is_alive = |v: &&Volunteer| {
            let known_as = (v.coordinator.as_str(), v.host.as_str(), "Alive");
            seen.iter()
                .any(|(whose, host, state)| (*whose, host.as_str(), state.as_str()) == known_as)
        };
        let absent = self.volunteers.iter().filter(|v| !is_alive(v));
        let tails: String =
            absent.map(|v| format!("\n  {}:{}", v.machine.name, v.tail())).collect();
        bail!("{late}: oarnodes shows {seen:?}, {count} nodes are wanted{tails}");
    }
}

impl Volunteer {
    /// Where its agent keeps its identity and its jobs.
    pub fn state_dir(&self) -> PathBuf {
        self.place.dir.join("state")
    }

    /// Its agent, if it runs.
    pub fn agent(&mut self) -> anyhow::Result<&mut Program> {
        self.agent.as_mut().with_context(|| format!("the agent of {} does not run", self.host))
    }

    /// What its agent has logged so far.
    pub fn log(&self) -> String {
        self.agent.as_ref().map(Program::log).unwrap_or_default()
    }

    /// The end of its agent's log.
    pub fn tail(&self) -> String {
        self.agent.as_ref().map(|agent| agent.tail().to_string()).unwrap_or_default()
    }
}
