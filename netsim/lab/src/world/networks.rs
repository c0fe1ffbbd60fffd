//! The networks of running jobs, found from outside.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;

use super::World;
use crate::netns::Netns;
use crate::probe::Commands;
use crate::processes;

/// The network namespace of one job on one node.
#[derive(Clone, Debug)]
pub struct JobNetwork {
    /// The node.
    pub host: String,
    /// The namespace.
    pub netns: Netns,
    /// The names of its interfaces.
    pub interfaces: Vec<String>,
    /// The job's address in its mesh.
    pub ipv4: Option<Ipv4Addr>,
    /// The job's address in its mesh.
    pub ipv6: Option<Ipv6Addr>,
}

impl World {
    /// The namespaces of all running jobs, by one look at all volunteers' processes.
    pub fn job_networks(&self) -> anyhow::Result<Vec<JobNetwork>> {
        let mut networks = Vec::new();
        let machines: Vec<_> =
            self.volunteers.iter().map(|v| (&v.machine.netns, v.place.dir.as_path())).collect();
        for (volunteer, processes) in self.volunteers.iter().zip(processes::of_machines(&machines))
        {
            let outer = volunteer.machine.netns.inode()?;
            let mut found = BTreeMap::new();
            for process in processes {
                // A process may end while it is being looked at.
                let Ok(netns) = Netns::of_process(process.pid) else { continue };
                found.insert(netns.inode()?, netns);
            }
            found.remove(&outer);
            for netns in found.into_values() {
                let host = volunteer.host.clone();
                networks.push(look(host, &netns).context("cannot look into a job's network")?);
            }
        }
        Ok(networks)
    }
}

impl JobNetwork {
    /// Talks with the probe that runs as the job.
    pub fn probe(&self) -> anyhow::Result<Commands> {
        let commands = self.netns.run(Commands::connect)?;
        commands.with_context(|| format!("no probe answers in the job on {}", self.host))
    }
}

fn look(host: String, netns: &Netns) -> io::Result<JobNetwork> {
    let (mut interfaces, mut ipv4, mut ipv6) = (Vec::new(), None, None);
    let addresses = netns.run(|| getifaddrs().map(Iterator::collect::<Vec<_>>))??;
    for address in addresses {
        interfaces.push(address.interface_name.clone());
        let Some(storage) = address.address else { continue };
        if address.interface_name != "mesh0" {
            continue;
        }
        if let Some(v4) = storage.as_sockaddr_in() {
            ipv4 = Some(v4.ip());
        }
        if let Some(v6) = storage.as_sockaddr_in6()
            && !v6.ip().is_unicast_link_local()
        {
            ipv6 = Some(v6.ip());
        }
    }
    interfaces.sort();
    interfaces.dedup();
    Ok(JobNetwork { host, netns: netns.clone(), interfaces, ipv4, ipv6 })
}
