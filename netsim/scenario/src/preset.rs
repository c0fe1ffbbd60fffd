//! The networks that a machine can be behind, by the names that scenario files use.

use netsim_sim::nat::Preset as NatPreset;
use netsim_sim::topology::{NatSpec, RouterSpec};
use netsim_sim::{Firewall, NatProfile, Stateful};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands between a machine and the public network.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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
    /// Another port for each destination, one after the other: its ports can be guessed.
    SymmetricSequential,
    /// Another port for each address, but the same for all ports of an address.
    AddressSymmetric,
    /// A home router behind a carrier's translator as RFC 6888 wants it.
    CarrierGrade,
    /// A cheap home router: mappings live 30 s, and there is room for 256.
    ShortLived,
    /// A home router that lets no UDP through.
    UdpBlocked,
    /// A home router that lets only TCP to ports 80 and 443 through.
    WebOnly,
    /// A home router that lets only TCP to a proxy through, which asks for a password.
    ProxyOnly,
    /// A router that forwards IPv6 only, and lets in what was asked for.
    Ipv6Only,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::None,
        Self::Home,
        Self::FullCone,
        Self::Restricted,
        Self::Carrier,
        Self::Symmetric,
        Self::SymmetricSequential,
        Self::AddressSymmetric,
        Self::CarrierGrade,
        Self::ShortLived,
        Self::UdpBlocked,
        Self::WebOnly,
        Self::ProxyOnly,
        Self::Ipv6Only,
    ];

    /// The name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Home => "home",
            Self::FullCone => "full-cone",
            Self::Restricted => "restricted",
            Self::Carrier => "carrier",
            Self::Symmetric => "symmetric",
            Self::SymmetricSequential => "symmetric-sequential",
            Self::AddressSymmetric => "address-symmetric",
            Self::CarrierGrade => "carrier-grade",
            Self::ShortLived => "short-lived",
            Self::UdpBlocked => "udp-blocked",
            Self::WebOnly => "web-only",
            Self::ProxyOnly => "proxy-only",
            Self::Ipv6Only => "ipv6-only",
        }
    }

    /// The translators on the way out, the machine's own router first.
    pub fn chain(self) -> Vec<NatProfile> {
        self.kinds().iter().filter_map(|router| router.nat.profile()).collect()
    }

    /// The routers of a machine behind such a network, the outermost first: `NAME-r0` is the
    /// machine's own. One that translates nothing is one too.
    pub fn routers(self, machine: &str) -> Vec<RouterSpec> {
        let kinds = self.kinds();
        let name = |index: usize| format!("{machine}-r{index}");
        let outside = |index: usize| (index + 1 < kinds.len()).then(|| name(index + 1));
        let router = |(index, kind): (usize, &RouterSpec)| RouterSpec {
            name: name(index),
            behind: outside(index),
            ..kind.clone()
        };
        kinds.iter().enumerate().rev().map(router).collect()
    }

    /// The routers on the way out, the machine's own first, without names. There is always one: a
    /// public machine's translates nothing.
    pub(crate) fn kinds(self) -> Vec<RouterSpec> {
        let nats = |presets: &[NatPreset]| {
            let router = |nat: &NatPreset| RouterSpec {
                nat: NatSpec::Preset(*nat),
                ..RouterSpec::default()
            };
            presets.iter().map(router).collect()
        };
        let walled = |firewall| {
            let nat = NatSpec::Preset(NatPreset::Home);
            vec![RouterSpec { nat, firewall, ..RouterSpec::default() }]
        };
        match self {
            Self::None => nats(&[NatPreset::None]),
            Self::Home => nats(&[NatPreset::Home]),
            Self::FullCone => nats(&[NatPreset::FullCone]),
            Self::Restricted => nats(&[NatPreset::Restricted]),
            Self::Carrier => nats(&[NatPreset::Home, NatPreset::Home]),
            Self::Symmetric => nats(&[NatPreset::Symmetric]),
            Self::SymmetricSequential => nats(&[NatPreset::SymmetricSequential]),
            Self::AddressSymmetric => nats(&[NatPreset::AddressSymmetric]),
            Self::CarrierGrade => nats(&[NatPreset::Home, NatPreset::CarrierGrade]),
            Self::ShortLived => nats(&[NatPreset::ShortLived]),
            Self::UdpBlocked => walled(Firewall::UdpBlocked),
            Self::WebOnly => walled(Firewall::Tcp80443Only),
            Self::ProxyOnly => walled(Firewall::ProxyOnly),
            Self::Ipv6Only => vec![RouterSpec {
                stateful: Some(Stateful::default()),
                ipv6: true,
                ipv6_only: true,
                ..RouterSpec::default()
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_serde_reads() {
        for preset in Preset::ALL {
            let read: Preset = serde_json::from_str(&format!("\"{}\"", preset.name())).unwrap();
            assert_eq!(read, preset);
            let routers = preset.routers("vol-1");
            assert_eq!(routers.last().map(|own| own.name.as_str()), Some("vol-1-r0"));
            assert_eq!(routers[0].behind, None);
        }
    }
}
