//! What was measured, as data and in words.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use overlay_core::netmap::{ObservedFiltering, ObservedMapping, ObservedPorts};
use serde::{Deserialize, Serialize};

/// What the network in front of this machine does to UDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetReport {
    /// UDP reaches the coordinator and comes back.
    pub udp: bool,
    /// The endpoint that the coordinator sees.
    pub observed: Option<SocketAddr>,
    /// How outer ports are chosen (RFC 4787 §4.1).
    pub mapping: ObservedMapping,
    /// How the ports of new mappings follow each other, where the mapping depends on the destination.
    #[serde(default)]
    pub ports: ObservedPorts,
    /// What is let in (RFC 4787 §5).
    pub filtering: ObservedFiltering,
    /// Reflectors at two addresses were asked. Otherwise `by-address` may be `open`, and `endpoint-independent` may be a
    /// mapping that depends on the address: it cannot be known before a relay runs at another address.
    #[serde(default)]
    pub second_address: bool,
    /// The outer port is the inner one; none when it is not known.
    pub port_preserved: Option<bool>,
    /// A packet to the own outer endpoint comes back in; none without a NAT, or when it is not known.
    pub hairpin: Option<bool>,
    /// How long a mapping lives without packets; none when it was not measured.
    pub mapping_lifetime: Option<Lifetime>,
    /// What there is of IPv6.
    pub ipv6: Ipv6,
    /// Round trip time to the reflector, microseconds.
    pub round_trip_us: Option<u64>,
}

/// What there is of IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6 {
    /// No global address.
    #[default]
    None,
    /// A global address, and no answer by it (or the coordinator has none).
    AddressOnly,
    /// The coordinator's reflector answers by it.
    Works,
}

/// A mapping lives that long without packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// After that many seconds of silence it was there.
    pub at_least_s: u64,
    /// After that many it was gone; none when it outlived every trial.
    pub below_s: Option<u64>,
}

/// What the trials say together; none when they say nothing, or contradict each other.
pub(super) fn lifetime(alive: Option<Duration>, dead: Option<Duration>) -> Option<Lifetime> {
    if alive.is_none() && dead.is_none() {
        return None;
    }
    let alive = alive.unwrap_or_default();
    (dead.is_none_or(|dead| alive < dead))
        .then(|| Lifetime { at_least_s: alive.as_secs(), below_s: dead.map(|d| d.as_secs()) })
}

impl NetReport {
    /// Nothing came back.
    pub(super) fn blocked() -> Self {
        Self {
            udp: false,
            observed: None,
            mapping: ObservedMapping::Unknown,
            ports: ObservedPorts::Unknown,
            filtering: ObservedFiltering::Unknown,
            second_address: false,
            port_preserved: None,
            hairpin: None,
            mapping_lifetime: None,
            ipv6: Ipv6::None,
            round_trip_us: None,
        }
    }
}

impl fmt::Display for NetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.udp {
            writeln!(
                f,
                "UDP: blocked, no answer from the coordinator: jobs' networks cannot use direct paths"
            )?;
            return writeln!(f, "IPv6: {}", ipv6(self.ipv6));
        }
        write!(f, "UDP: works")?;
        match self.round_trip_us {
            Some(us) => writeln!(f, ", {:.1} ms to the coordinator", us as f64 / 1000.0)?,
            None => writeln!(f, ", but the second reflector does not answer")?,
        }
        writeln!(f, "NAT: {}{}", mapping(self.mapping), ports(self.mapping, self.ports))?;
        writeln!(f, "incoming: {}", filtering(self.filtering, self.second_address))?;
        let is_open_question = match (self.mapping, self.filtering) {
            (ObservedMapping::EndpointIndependent, _) | (_, ObservedFiltering::ByAddress) => true,
            (
                ObservedMapping::Unknown
                | ObservedMapping::None
                | ObservedMapping::EndpointDependent,
                _,
            ) => false,
        };
        if is_open_question && !self.second_address {
            writeln!(
                f,
                "  all reflectors have one address, so that it cannot be known whether the NAT looks at addresses: \
                 a relay on another machine (`coordinator relay`) would tell"
            )?;
        }
        if self.mapping != ObservedMapping::None {
            writeln!(f, "ports: {}", tell(self.port_preserved, "kept", "changed on the way out"))?;
            let (works, fails) = ("works", "does not work (two of its machines need their LAN)");
            writeln!(f, "hairpin: {}", tell(self.hairpin, works, fails))?;
        }
        if let Some(lifetime) = self.mapping_lifetime {
            writeln!(f, "silent mappings live: {lifetime}")?;
        }
        writeln!(f, "IPv6: {}", ipv6(self.ipv6))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.below_s {
            Some(below) => write!(f, "{} s or more, less than {below} s", self.at_least_s),
            None => write!(f, "{} s or more", self.at_least_s),
        }
    }
}

fn ipv6(ipv6: Ipv6) -> &'static str {
    match ipv6 {
        Ipv6::None => "no global address",
        Ipv6::AddressOnly => "a global address, but no answer from the coordinator by it",
        Ipv6::Works => "works",
    }
}

fn mapping(mapping: ObservedMapping) -> &'static str {
    match mapping {
        ObservedMapping::Unknown => "not known yet",
        ObservedMapping::None => "none, this machine has a public address",
        ObservedMapping::EndpointIndependent => {
            "the same outer port for every destination that was asked: direct paths are likely"
        }
        ObservedMapping::EndpointDependent => {
            "a new outer port for every destination: direct paths only to peers that let in every \
             port of an address that they sent to"
        }
    }
}

/// How the ports of a NAT that takes new ones follow each other.
pub fn ports(mapping: ObservedMapping, ports: ObservedPorts) -> String {
    match (mapping, ports) {
        (ObservedMapping::EndpointDependent, ObservedPorts::Sequential(step)) => {
            let way = if step < 0 { "down" } else { "up" };
            format!(
                "; symmetric, ports go {way} by {}: can be predicted, which makes more paths direct",
                step.unsigned_abs()
            )
        }
        (ObservedMapping::EndpointDependent, ObservedPorts::Random) => {
            "; symmetric, ports are random: cannot be predicted".to_owned()
        }
        _ => String::new(),
    }
}

fn filtering(filtering: ObservedFiltering, second_address: bool) -> &'static str {
    match filtering {
        ObservedFiltering::Unknown => "not known",
        ObservedFiltering::Open => {
            "from everywhere, as soon as anything was sent (endpoint-independent, a full cone)"
        }
        ObservedFiltering::ByAddress if second_address => {
            "from every port of an address that was sent to (address-dependent)"
        }
        ObservedFiltering::ByAddress => "from every port of an address that was sent to, at least",
        ObservedFiltering::ByAddressAndPort => "only from the address and port that was sent to",
        ObservedFiltering::Nobody => "from nowhere",
    }
}

fn tell(known: Option<bool>, yes: &'static str, no: &'static str) -> &'static str {
    known.map_or("not known", |known| if known { yes } else { no })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_lies_between_the_trials() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(lifetime(None, None), None);
        let found = |at_least_s, below_s| Some(Lifetime { at_least_s, below_s });
        assert_eq!(lifetime(seconds(28), seconds(35)), found(28, Some(35)));
        assert_eq!(lifetime(seconds(185), None), found(185, None));
        assert_eq!(lifetime(None, seconds(10)), found(0, Some(10)));
        assert_eq!(lifetime(seconds(35), seconds(28)), None, "a contradiction is not told");
    }

    #[test]
    fn words_say_what_it_means() {
        let report = NetReport {
            udp: true,
            mapping: ObservedMapping::EndpointDependent,
            filtering: ObservedFiltering::ByAddressAndPort,
            port_preserved: Some(false),
            mapping_lifetime: Some(Lifetime { at_least_s: 28, below_s: Some(35) }),
            ..NetReport::blocked()
        };
        let text = report.to_string();
        for expected in ["a new outer port for every destination", "28 s or more, less than 35 s"] {
            assert!(text.contains(expected), "{text}");
        }
        let blocked = NetReport::blocked().to_string();
        assert!(blocked.starts_with("UDP: blocked") && blocked.ends_with("no global address\n"));
    }

    #[test]
    fn what_cannot_be_known_with_one_address_is_said_and_how_to_make_it_known() {
        let cone = NetReport {
            udp: true,
            mapping: ObservedMapping::EndpointIndependent,
            filtering: ObservedFiltering::ByAddress,
            ..NetReport::blocked()
        };
        let text = cone.to_string();
        assert!(text.contains("all reflectors have one address") && text.contains("at least"));
        assert!(text.contains("`coordinator relay`"), "{text}");
        let known = NetReport { second_address: true, ..cone.clone() };
        assert!(!known.to_string().contains("all reflectors"), "{known}");
        let open = NetReport { filtering: ObservedFiltering::Open, ..known };
        assert!(open.to_string().contains("endpoint-independent, a full cone"), "{open}");
        // What an older agent says.
        let mut json = serde_json::to_value(&cone).unwrap();
        json.as_object_mut().unwrap().retain(|key, _| key != "ports" && key != "second_address");
        assert_eq!(serde_json::from_value::<NetReport>(json).unwrap(), cone);
    }

    #[test]
    fn sequential_ports_are_told_from_random_ones() {
        let of = |ports| NetReport {
            udp: true,
            mapping: ObservedMapping::EndpointDependent,
            ports,
            ..NetReport::blocked()
        };
        let up = of(ObservedPorts::Sequential(1)).to_string();
        assert!(up.contains("symmetric, ports go up by 1: can be predicted"), "{up}");
        let down = of(ObservedPorts::Sequential(-2)).to_string();
        assert!(down.contains("ports go down by 2: can be predicted"), "{down}");
        let random = of(ObservedPorts::Random).to_string();
        assert!(random.contains("ports are random: cannot be predicted"), "{random}");
    }
}
