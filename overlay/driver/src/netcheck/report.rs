//! What was measured, as data and in words.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use overlay_core::netmap::{ObservedFiltering, ObservedMapping};
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
    /// What is let in (RFC 4787 §5). With one reflector `by-address` may be `open`, too.
    pub filtering: ObservedFiltering,
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
            filtering: ObservedFiltering::Unknown,
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
        writeln!(f, "NAT: {}", mapping(self.mapping))?;
        writeln!(f, "incoming: {}", filtering(self.filtering))?;
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

fn filtering(filtering: ObservedFiltering) -> &'static str {
    match filtering {
        ObservedFiltering::Unknown => "not known",
        ObservedFiltering::Open => "from everywhere",
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
}
