//! The networks that a machine can be behind, by the names that scenario files use.

use netsim_sim::NatProfile;
use netsim_sim::topology::{NatSpec, RouterSpec};
use serde::Deserialize;

/// What stands between a machine and the public network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Nothing: a public address.
    None,
    /// An ordinary home router: endpoint-independent mapping, address-and-port-dependent filtering.
    Home,
    /// A router that lets everybody in through an open mapping: endpoint-independent both ways.
    FullCone,
    /// A router that lets in whatever comes from an address that was written to.
    Restricted,
    /// A home router behind its carrier's translator of the same kind: two in a row.
    Carrier,
    /// Another random port for each destination, address-and-port-dependent filtering.
    Symmetric,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Home, Self::FullCone, Self::Restricted, Self::Carrier, Self::Symmetric];

    /// The name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Home => "home",
            Self::FullCone => "full-cone",
            Self::Restricted => "restricted",
            Self::Carrier => "carrier",
            Self::Symmetric => "symmetric",
        }
    }

    /// The translators on the way out, the machine's own router first.
    pub fn chain(self) -> Vec<NatProfile> {
        match self {
            Self::None => vec![],
            Self::Home => vec![NatProfile::HOME],
            Self::FullCone => vec![NatProfile::FULL_CONE],
            Self::Restricted => vec![NatProfile::RESTRICTED],
            Self::Carrier => vec![NatProfile::HOME, NatProfile::HOME],
            Self::Symmetric => vec![NatProfile::SYMMETRIC],
        }
    }

    /// The routers of a machine behind such a network, the outermost first: `NAME-r0` is the
    /// machine's own. One that translates nothing is one too.
    pub fn routers(self, machine: &str) -> Vec<RouterSpec> {
        let chain = self.chain();
        let name = |index: usize| format!("{machine}-r{index}");
        (0..chain.len().max(1))
            .rev()
            .map(|index| RouterSpec {
                name: name(index),
                behind: (index + 1 < chain.len()).then(|| name(index + 1)),
                nat: chain.get(index).map_or_else(NatSpec::default, |nat| NatSpec::Axes(*nat)),
                ..RouterSpec::default()
            })
            .collect()
    }
}
