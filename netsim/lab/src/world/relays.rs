//! Relays that run alone, each on a machine of its own.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use netsim_scenario::Preset;

use super::{STOP, WEB_PORT, World};
use crate::program::{Place, Program};
use crate::topology::Machine;

/// From the start of a relay to `ready`: the coordinator has to answer first.
const READY: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct LoneRelay {
    pub(crate) machine: Machine,
    pub(crate) place: Place,
    /// The coordinator that it works for.
    coordinator: String,
    program: Option<Program>,
}

impl LoneRelay {
    pub(super) fn new(machine: Machine, place: Place, coordinator: &str) -> Self {
        Self { machine, place, coordinator: coordinator.to_owned(), program: None }
    }
}

impl World {
    /// The relays' machines.
    pub(crate) fn relays(&self) -> impl Iterator<Item = &LoneRelay> {
        self.relays.iter()
    }

    /// Adds a machine for a relay of the first coordinator in the public network, and starts the relay; its
    /// name.
    pub fn add_relay(&mut self) -> anyhow::Result<String> {
        let name = format!("relay-{}", self.relays.len() + 1);
        let (machine, place) = self.add_machine(&name, Preset::None)?;
        self.relays.push(LoneRelay::new(machine, place, self.servers[0].name()));
        self.start_relay(&name)?;
        Ok(name)
    }

    /// The name of the relay's machine with that address.
    pub fn relay_at(&self, address: IpAddr) -> Option<&str> {
        let found = self.relays.iter().find(|relay| relay.machine.address == address);
        found.map(|relay| relay.machine.name.as_str())
    }

    /// Where a relay's machine is.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn relay_address(&self, name: &str) -> anyhow::Result<IpAddr> {
        Ok(self.relays[self.relay_named(name)?].machine.address)
    }

    /// Starts a relay, at the first time with a fresh token, and waits until it is ready. One that runs is
    /// left as it is.
    pub fn start_relay(&mut self, name: &str) -> anyhow::Result<()> {
        let index = self.relay_named(name)?;
        if self.relays[index].program.is_some() {
            return Ok(());
        }
        let state = self.relays[index].place.dir.join("state");
        let server = self.server(&self.relays[index].coordinator)?;
        let mut args = vec!["relay".to_owned(), "--state".to_owned(), state.display().to_string()];
        args.extend([
            "--public-address".to_owned(),
            self.relays[index].machine.address.to_string(),
            // As networks that let only the web out want it.
            "--tunnel".to_owned(),
            format!("0.0.0.0:{WEB_PORT}"),
        ]);
        if !state.exists() {
            args.extend(["--join".to_owned(), server.relay_token()?]);
        }
        let relay = &self.relays[index];
        let mut program = relay.place.start(name, &self.program("coordinator"), args)?;
        program.wait_for("`ready`", READY, |program| {
            program.stdout().lines().any(|line| line == "ready").then_some(())
        })?;
        self.relays[index].program = Some(program);
        Ok(())
    }

    /// Ends a relay cleanly, if it runs.
    pub fn stop_relay(&mut self, name: &str) -> anyhow::Result<()> {
        let index = self.relay_named(name)?;
        match self.relays[index].program.take() {
            Some(program) => Ok(program.stop(STOP).map(drop)?),
            None => Ok(()),
        }
    }

    /// Kills a relay, as a crash would.
    pub fn kill_relay(&mut self, name: &str) -> anyhow::Result<()> {
        let index = self.relay_named(name)?;
        if let Some(program) = self.relays[index].program.take() {
            program.kill();
        }
        Ok(())
    }

    /// Ends all relays cleanly.
    pub(super) fn stop_relays(&mut self) -> anyhow::Result<()> {
        let names: Vec<String> = self.relays.iter().map(|r| r.machine.name.clone()).collect();
        names.iter().try_for_each(|name| self.stop_relay(name))
    }

    fn relay_named(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.relays.iter().position(|relay| relay.machine.name == name);
        found.with_context(|| format!("{name} is no relay's machine"))
    }
}
