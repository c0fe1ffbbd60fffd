//! Questions about the network that the topology answers by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use netsim_sim::topology::{HostSpec, RouterSpec, TimedEvent};
use netsim_sim::{Oracle, Presence, Topology, TopologyError};

use super::{Resolved, What, When};

impl Resolved {
    /// A machine.
    pub fn host(&self, name: &str) -> Option<&HostSpec> {
        self.topology.hosts.iter().find(|host| host.name == name)
    }

    /// A router.
    pub fn router(&self, name: &str) -> Option<&RouterSpec> {
        self.topology.routers.iter().find(|router| router.name == name)
    }

    /// The routers between a machine and the public network, the machine's own first.
    pub fn routers_of(&self, host: &str) -> Vec<&RouterSpec> {
        let mut routers = Vec::new();
        let mut behind = self.host(host).and_then(|host| host.behind.as_deref());
        while let Some(router) = behind.and_then(|name| self.router(name)) {
            routers.push(router);
            behind = router.behind.as_deref();
            // Names that lead in circles are refused before, but this need not rely on it.
            if routers.len() > self.topology.routers.len() {
                break;
            }
        }
        routers
    }

    /// Whose each volunteer, scientist and relay is. Nothing where the only coordinator has no name.
    pub fn clusters(&self) -> BTreeMap<String, String> {
        if let [only] = self.coordinators.as_slice()
            && only.name == crate::file::Coordinator::NAME
        {
            return BTreeMap::new();
        }
        let volunteers = self.volunteers.iter().map(|it| (&it.host, &it.coordinator));
        let scientists = self.scientists.iter().map(|it| (&it.host, &it.coordinator));
        let relays = self.relays.iter().map(|it| (&it.host, &it.coordinator));
        let all = volunteers.chain(scientists).chain(relays);
        all.map(|(host, coordinator)| (host.clone(), coordinator.clone())).collect()
    }

    /// The place of a coordinator in the list; unknown names are refused before.
    pub fn place_of(&self, coordinator: &str) -> usize {
        self.coordinators.iter().position(|it| it.name == coordinator).unwrap_or(0)
    }

    /// Whether two machines are in the same network: plugged into the same router.
    pub fn share_a_network(&self, a: &str, b: &str) -> bool {
        let behind = |name| self.host(name).and_then(|host| host.behind.as_deref());
        behind(a).is_some() && behind(a) == behind(b)
    }

    /// What the oracle says of pairs, where the machines stand at first.
    pub fn oracle(&self) -> Result<Oracle, TopologyError> {
        Oracle::new(&self.topology)
    }

    /// When each machine that comes and goes is there, in the order of the topology; the same as the
    /// simulator's for the same seed.
    pub fn presences(&self) -> Vec<(String, Presence)> {
        let machine = |(index, host): (usize, &HostSpec)| {
            let churn = host.churn.as_ref()?;
            let presence = churn.presence(self.seed, index as u64 + 1, self.duration);
            Some((host.name.clone(), presence))
        };
        self.topology.hosts.iter().enumerate().filter_map(machine).collect()
    }

    /// The topology with those events in it that have a time, as the simulator takes them. Events
    /// that wait for a job, and those of programs, are not in it.
    pub fn topology_with_events(&self) -> Topology {
        let timed = |(at, what): (Duration, &What)| match what {
            What::Network(event) => Some(TimedEvent { at, event: event.clone() }),
            What::CoordinatorStop(_)
            | What::CoordinatorKill(_)
            | What::CoordinatorStart(_)
            | What::RelayStop(_)
            | What::RelayKill(_)
            | What::RelayStart(_) => None,
        };
        let at = self.timeline.iter().filter_map(|happening| match &happening.when {
            When::At(at) => Some((*at, &happening.what)),
            When::Job { .. } => None,
        });
        Topology { events: at.filter_map(timed).collect(), ..self.topology.clone() }
    }
}
