//! What a router lets through at all, whoever asks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nat::{Filtering, Refresh};
use crate::units::seconds;

/// What a packet is, as far as routers care; its content is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A datagram.
    Udp,
    /// A segment. Connections are the caller's business: routers see packets with ports.
    Tcp,
}

/// Which kinds of traffic a router lets through, in both directions. Ports are those of the far
/// end. What stays inside the router's network does not meet it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    /// All of it.
    #[default]
    None,
    /// No UDP, as on some company networks.
    UdpBlocked,
    /// TCP to ports 80 and 443 only: a guest network that is for the web.
    #[serde(rename = "tcp-80-443-only")]
    Tcp80443Only,
    /// TCP to and from the network's proxy only, inside or outside; with no proxy set, nothing.
    ProxyOnly,
}

impl Firewall {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::UdpBlocked, Self::Tcp80443Only, Self::ProxyOnly];

    /// Whether a packet passes. `inner` is the machine inside, `remote` the far end.
    pub fn permits(
        self,
        protocol: Protocol,
        inner: IpAddr,
        remote: SocketAddr,
        proxy: Option<IpAddr>,
    ) -> bool {
        let is_tcp = protocol == Protocol::Tcp;
        match self {
            Self::None => true,
            Self::UdpBlocked => is_tcp,
            Self::Tcp80443Only => is_tcp && matches!(remote.port(), 80 | 443),
            Self::ProxyOnly => {
                is_tcp && proxy.is_some_and(|proxy| proxy == inner || proxy == remote.ip())
            }
        }
    }
}

/// Who may come in where nothing is translated (IPv6, or IPv4 without NAT): a stateful filter.
///
/// The default is what Linux routers do: address-and-port-dependent, two minutes, which is also
/// the least that RFC 6092 REC-14 allows for UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Stateful {
    /// From whom packets are let in.
    pub filtering: Filtering,
    /// How long a permission lives without packets; TCP's is [`crate::nat::TCP_LIFETIME`].
    #[serde(rename = "lifetime-s", with = "seconds")]
    pub lifetime: Duration,
    /// Which packets keep it alive.
    pub refresh: Refresh,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_lets_through_what_it_says() {
        let inner: IpAddr = "10.1.0.1".parse().unwrap();
        let proxy: IpAddr = "198.18.0.9".parse().unwrap();
        let remote = |text: &str| text.parse::<SocketAddr>().unwrap();
        let cases = [
            (Protocol::Udp, remote("198.18.0.1:443")),
            (Protocol::Tcp, remote("198.18.0.1:443")),
            (Protocol::Tcp, remote("198.18.0.1:6443")),
            (Protocol::Tcp, remote("198.18.0.9:3128")),
        ];
        let passes = |firewall: Firewall| {
            cases.map(|(protocol, to)| firewall.permits(protocol, inner, to, Some(proxy)))
        };
        assert_eq!(passes(Firewall::None), [true; 4]);
        assert_eq!(passes(Firewall::UdpBlocked), [false, true, true, true]);
        assert_eq!(passes(Firewall::Tcp80443Only), [false, true, false, false]);
        assert_eq!(passes(Firewall::ProxyOnly), [false, false, false, true]);
        assert!(!Firewall::ProxyOnly.permits(Protocol::Tcp, inner, cases[1].1, None));
        assert!(Firewall::ProxyOnly.permits(Protocol::Tcp, proxy, cases[1].1, Some(proxy)));
    }

    #[test]
    fn names_are_those_of_scenario_files() {
        let names = Firewall::ALL.map(|firewall| serde_json::to_string(&firewall).unwrap());
        let expected = ["\"none\"", "\"udp-blocked\"", "\"tcp-80-443-only\"", "\"proxy-only\""];
        assert_eq!(names, expected);
    }
}
