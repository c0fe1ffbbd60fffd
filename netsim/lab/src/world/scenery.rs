//! A world as a scenario describes it, and what happens to its parts by their names.

use std::path::Path;

use anyhow::Context as _;
use netsim_scenario::Resolved;
use netsim_sim::{Event, Firewall};

use super::relays::LoneRelay;
use super::{API_PORT, Programs, Scientist, Server, Volunteer, WEB_PORT, World, place, proxies};
use crate::processes;
use crate::topology::Topology;

impl World {
    /// Builds the networks of a scenario, with its scientists and volunteers. Nothing runs yet.
    pub fn build(dir: &Path, programs: Programs, resolved: &Resolved) -> anyhow::Result<Self> {
        let topology = Topology::build(&resolved.topology, resolved.seed)?;
        let routers = &resolved.topology.routers;
        let only_web = routers.iter().any(|router| router.firewall == Firewall::Tcp80443Only);
        let api_port = if only_web { WEB_PORT } else { API_PORT };
        let mut servers = Vec::new();
        for settings in &resolved.coordinators {
            let machine = topology.machine(&settings.name)?;
            let place = place(dir, &settings.name, &machine.netns)?;
            let file = programs.path("coordinator");
            servers.push(Server::new(machine, place, settings.clone(), file, api_port));
        }
        let mut scientists = Vec::new();
        for scientist in &resolved.scientists {
            let machine = topology.machine(&scientist.host)?;
            let place = place(dir, &scientist.host, &machine.netns)?;
            let (user, coordinator) = (&scientist.user, &scientist.coordinator);
            let programs = programs.clone();
            scientists.push(Scientist::new(user, coordinator, place, machine, programs));
        }
        let mut volunteers = Vec::new();
        for volunteer in &resolved.volunteers {
            let machine = topology.machine(&volunteer.host)?;
            let place = place(dir, &volunteer.host, &machine.netns)?;
            let cores = u16::try_from(volunteer.cores).context("too many cores")?;
            volunteers.push(Volunteer {
                coordinator: volunteer.coordinator.clone(),
                host: volunteer.node.clone(),
                machine,
                place,
                cores,
                agent: None,
            });
        }
        let mut relays = Vec::new();
        for relay in &resolved.relays {
            let machine = topology.machine(&relay.host)?;
            let place = place(dir, &relay.host, &machine.netns)?;
            relays.push(LoneRelay::new(machine, place, &relay.coordinator));
        }
        proxies::tell(&mut volunteers, &topology, routers)?;
        let proxies = proxies::start(dir, &topology, routers, api_port)?;
        Ok(Self {
            volunteers,
            servers,
            proxies,
            relays,
            scientists,
            dir: dir.to_owned(),
            programs,
            topology,
        })
    }

    /// The index of the volunteer on that machine.
    pub fn volunteer_named(&self, machine: &str) -> anyhow::Result<usize> {
        let found = self.volunteers.iter().position(|v| v.machine.name == machine);
        found.with_context(|| format!("{machine} is no volunteer's machine"))
    }

    /// Switches a volunteer's machine off. Nothing on it gets a last word out.
    pub fn switch_off(&mut self, index: usize) -> anyhow::Result<()> {
        let name = self.volunteers[index].machine.name.clone();
        self.topology.apply(&Event::LinkDown(name))?;
        self.volunteers[index].pull_the_plug();
        Ok(())
    }

    /// Switches a volunteer's machine on: its agent starts.
    pub fn switch_on(&mut self, index: usize) -> anyhow::Result<()> {
        let name = self.volunteers[index].machine.name.clone();
        self.topology.apply(&Event::LinkUp(name))?;
        self.start_agent(index)
    }

    /// Stops everything on a machine where it is, as closing a laptop would.
    pub fn suspend(&self, machine: &str) -> anyhow::Result<()> {
        let machine = self.topology.machine(machine)?;
        processes::suspend(&machine.netns, &self.dir.join(&machine.name));
        Ok(())
    }

    /// Lets everything on a machine go on.
    pub fn resume(&self, machine: &str) -> anyhow::Result<()> {
        let machine = self.topology.machine(machine)?;
        processes::resume(&machine.netns, &self.dir.join(&machine.name));
        Ok(())
    }

    /// Does to the network what an event says.
    pub fn apply(&mut self, event: &Event) -> anyhow::Result<()> {
        self.topology.apply(event)?;
        if let Event::Roam { host, .. } = event {
            // Other addresses, other routers.
            let machine = self.topology.machine(host)?;
            let volunteers = self.volunteers.iter_mut().map(|v| &mut v.machine);
            let machines = volunteers.chain(self.scientists.iter_mut().map(|s| &mut s.machine));
            for known in machines.filter(|known| known.name == *host) {
                *known = machine.clone();
            }
        }
        Ok(())
    }

    /// The networks.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }
}
