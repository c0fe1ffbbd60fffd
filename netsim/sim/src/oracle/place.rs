//! Where the machines of a topology stand, and what is therefore expected of a pair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Gate, Reach, Verdict, verdict};
use crate::topology::{Event, Topology, TopologyError};

/// The routers of a topology as the oracle sees them, and where the machines stand now.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// The routers from each one outwards, itself first.
    chains: BTreeMap<String, Vec<Gate>>,
    /// The router that each machine stands behind.
    behind: BTreeMap<String, Option<String>>,
}

/// What is expected of a pair, whoever runs it: a [`Reach`] in the words of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// They talk directly.
    Direct,
    /// They do where one of them calculates the other's next port; nobody need be so clever.
    Either,
    /// They need a relay.
    Relayed,
}

impl Prediction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Either, Self::Relayed];

    /// As in reports and event logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Either => "either",
            Self::Relayed => "relayed",
        }
    }

    /// Whether a pair that has a path is as expected.
    pub fn allows(self, is_direct: bool) -> bool {
        match self {
            Self::Direct => is_direct,
            Self::Either => true,
            Self::Relayed => !is_direct,
        }
    }
}

impl From<Reach> for Prediction {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Plain => Self::Direct,
            Reach::Predicted => Self::Either,
            Reach::Impossible => Self::Relayed,
        }
    }
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

    /// Something has happened to the network: a machine may stand elsewhere.
    pub fn happened(&mut self, event: &Event) {
        if let Event::Roam { host, behind } = event {
            self.behind.insert(host.clone(), behind.clone());
        }
    }

    /// Whether two machines can talk directly where they stand now.
    pub fn between(&self, a: &str, b: &str) -> Result<Verdict, TopologyError> {
        Ok(verdict(self.chain(self.place(a)?)?, self.chain(self.place(b)?)?))
    }

    /// What is expected of two machines where they stand now.
    pub fn predict(&self, a: &str, b: &str) -> Result<Prediction, TopologyError> {
        self.between(a, b).map(|verdict| verdict.reach.into())
    }

    /// Whether two machines are plugged into the same router now.
    pub fn share_a_network(&self, a: &str, b: &str) -> bool {
        let place = |host: &str| self.behind.get(host).and_then(Option::as_deref);
        place(a).is_some() && place(a) == place(b)
    }

    /// The router that a machine stands behind; none: in the public realm.
    fn place(&self, host: &str) -> Result<Option<&str>, TopologyError> {
        let unknown = || TopologyError::Unknown { kind: "host", name: host.to_owned() };
        self.behind.get(host).map(Option::as_deref).ok_or_else(unknown)
    }

    fn chain(&self, router: Option<&str>) -> Result<&[Gate], TopologyError> {
        let Some(name) = router else { return Ok(&[]) };
        let unknown = || TopologyError::Unknown { kind: "router", name: name.to_owned() };
        self.chains.get(name).map(Vec::as_slice).ok_or_else(unknown)
    }
}
