//! Where a machine of a topology stands.

use std::collections::BTreeMap;

use super::{Gate, Verdict, verdict};
use crate::topology::{Topology, TopologyError};

/// The routers of a topology as the oracle sees them.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// The routers from each one outwards, itself first.
    chains: BTreeMap<String, Vec<Gate>>,
    /// The router that each machine stands behind at first.
    behind: BTreeMap<String, Option<String>>,
}

impl Oracle {
    /// Looks at the routers and machines of a topology; its links and events are not asked.
    pub fn new(topology: &Topology) -> Result<Self, TopologyError> {
        let mut oracle = Self { chains: BTreeMap::new(), behind: BTreeMap::new() };
        for (index, spec) in topology.routers.iter().enumerate() {
            let gate = Gate {
                router: index,
                nat: spec.nat.profile(),
                stateful: spec.stateful,
                ipv4: !spec.ipv6_only,
                ipv6: spec.ipv6,
                firewall: spec.firewall,
            };
            let outside = oracle.chain(spec.behind.as_deref())?;
            let chain = std::iter::once(gate).chain(outside.iter().copied()).collect();
            oracle.chains.insert(spec.name.clone(), chain);
        }
        for host in &topology.hosts {
            oracle.chain(host.behind.as_deref())?;
            for name in host.names() {
                oracle.behind.insert(name, host.behind.clone());
            }
        }
        Ok(oracle)
    }

    /// Whether two machines can talk directly where the topology puts them.
    pub fn between(&self, a: &str, b: &str) -> Result<Verdict, TopologyError> {
        self.between_places(self.place(a)?, self.place(b)?)
    }

    /// The same for machines behind those routers, wherever they stood at first; none: in the public
    /// realm.
    pub fn between_places(
        &self,
        a: Option<&str>,
        b: Option<&str>,
    ) -> Result<Verdict, TopologyError> {
        Ok(verdict(self.chain(a)?, self.chain(b)?))
    }

    /// The router that a machine stands behind at first; none: in the public realm.
    pub fn place(&self, host: &str) -> Result<Option<&str>, TopologyError> {
        let unknown = || TopologyError::Unknown { kind: "host", name: host.to_owned() };
        self.behind.get(host).map(Option::as_deref).ok_or_else(unknown)
    }

    fn chain(&self, router: Option<&str>) -> Result<&[Gate], TopologyError> {
        let Some(name) = router else { return Ok(&[]) };
        let unknown = || TopologyError::Unknown { kind: "router", name: name.to_owned() };
        self.chains.get(name).map(Vec::as_slice).ok_or_else(unknown)
    }
}
