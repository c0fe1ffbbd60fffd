//! The network part of `agent status`: told by the running agent.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use overlay_core::control::{PairReport, PathReport};
use overlay_core::netmap::{NatTraits, ObservedMapping};
use overlay_core::{Candidate, MeshId, NodeId};
use overlay_driver::netcheck::ports;
use overlay_driver::{MeshView, Overlay, View, Way};
use serde::{Deserialize, Serialize};

use crate::owner::NetworkUse;

/// Nodes that an error names.
const NAMED: usize = 8;

/// How the network stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// The node's own id.
    pub node: NodeId,
    /// The coordinator's control endpoint.
    pub coordinator: String,
    /// The control session is up.
    pub connected: bool,
    /// UDP does not get through: coordinator and relay are reached over TLS.
    pub tunnelled: bool,
    /// How packets reach the coordinator's relay.
    #[serde(default)]
    pub way: Way,
    /// The relays that answer, with their round trip times in microseconds; the first is this node's home relay.
    #[serde(default)]
    pub relays: Vec<(SocketAddr, u64)>,
    /// Where the UDP socket is bound.
    pub local: SocketAddr,
    /// Where the coordinator sees it.
    pub observed: Option<SocketAddr>,
    /// How the NAT in front chooses ports.
    pub mapping: ObservedMapping,
    /// What else is known of that NAT.
    pub nat: NatTraits,
    /// What is announced to peers.
    pub candidates: Vec<Candidate>,
    /// Bytes sent and received by the UDP socket.
    pub udp_bytes: (u64, u64),
    /// What the owner grants to jobs' networks and archives, and what of it is used.
    #[serde(default)]
    pub granted: NetworkUse,
    /// The jobs' networks.
    pub meshes: Vec<MeshStatus>,
}

/// One job's network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// The job's number.
    pub job: u64,
    /// Its launch.
    pub generation: u32,
    /// Every pair had a path: the job was started.
    pub open: bool,
    /// Its pairs.
    pub pairs: Vec<PairStatus>,
}

/// One pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatus {
    /// The other node's host name; its id before the members are known.
    pub name: String,
    /// The other node's address in the job.
    pub address: Option<Ipv4Addr>,
    /// Path, round trip time, bytes, and why it is relayed.
    pub report: PairReport,
}

impl NetworkStatus {
    /// Of a running overlay.
    pub fn of(overlay: &Overlay, view: &View, granted: NetworkUse) -> Self {
        let own = view.node.candidates.as_ref();
        Self {
            node: view.id,
            coordinator: overlay.server().to_owned(),
            connected: overlay.connected(),
            tunnelled: overlay.tunnelled(),
            way: overlay.way(),
            relays: view.node.homes.iter().map(|(at, rtt)| (*at, micros(*rtt))).collect(),
            local: overlay.local_addr(),
            observed: view
                .seen
                .map(|seen| seen.observed)
                .filter(|seen| !overlay.tunnelled() && !seen.ip().is_unspecified()),
            mapping: view.node.mapping,
            nat: own.map(|own| own.nat).unwrap_or_default(),
            candidates: own.map(|own| own.candidates.clone()).unwrap_or_default(),
            udp_bytes: (view.stats.udp_sent_bytes, view.stats.udp_received_bytes),
            granted,
            meshes: view.meshes.iter().map(MeshStatus::of).collect(),
        }
    }

    /// The node that `text` names (a host name, an address in a job, or the beginning of an id, four
    /// digits or more).
    ///
    /// # Errors
    /// A sentence: nobody is called so, or several are.
    pub fn find(&self, text: &str) -> Result<NodeId, String> {
        let called = self.pairs().filter(|(_, pair)| pair.is_called(text));
        let mut found = called.map(|(_, pair)| pair.report.peer);
        let Some(node) = found.next() else {
            return Err(self.unknown(text));
        };
        if found.any(|other| other != node) {
            return Err(format!("{text:?} names several nodes: use a host name or more digits"));
        }
        Ok(node)
    }

    /// Why there is no such node, and which there are.
    fn unknown(&self, text: &str) -> String {
        if self.meshes.is_empty() {
            return format!(
                "no job with a network runs on this node, so it has no way to {text:?}: networks come and go \
                 with jobs (`-t mesh`)"
            );
        }
        let mut names: Vec<&str> = self.pairs().map(|(_, pair)| pair.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let more = if names.len() > NAMED { ", ..." } else { "" };
        names.truncate(NAMED);
        match names[..] {
            [] => format!(
                "no node that shares a job's network with this one is called {text:?}: there is none yet"
            ),
            _ => {
                let names = names.join(", ");
                format!(
                    "no other node that shares a job's network with this one is called {text:?}: \
                     there are {names}{more}"
                )
            }
        }
    }

    /// The pairs with that node, one for each network that both are in.
    pub fn pairs_with(&self, node: NodeId) -> impl Iterator<Item = (MeshId, &PairStatus)> {
        self.pairs().filter(move |(_, pair)| pair.report.peer == node)
    }

    fn pairs(&self) -> impl Iterator<Item = (MeshId, &PairStatus)> {
        self.meshes.iter().flat_map(|mesh| {
            let id = MeshId { job: mesh.job, generation: mesh.generation };
            mesh.pairs.iter().map(move |pair| (id, pair))
        })
    }
}

impl MeshStatus {
    fn of(mesh: &MeshView) -> Self {
        let members = || mesh.netmap.iter().flat_map(|netmap| &netmap.members);
        let pair = |report: &PairReport| {
            let member = members().find(|member| member.node == report.peer);
            PairStatus {
                name: member.map_or_else(|| report.peer.to_string(), |member| member.name.clone()),
                address: member.map(|member| mesh.id.ipv4(member.index)),
                report: report.clone(),
            }
        };
        let mut pairs: Vec<_> = mesh.pairs.iter().map(pair).collect();
        pairs.sort_by_key(|pair| pair.address);
        Self { job: mesh.id.job, generation: mesh.id.generation, open: mesh.is_open, pairs }
    }
}

impl PairStatus {
    fn is_called(&self, text: &str) -> bool {
        let id = self.report.peer.to_string();
        self.name == text
            || self.address.is_some_and(|address| text.parse() == Ok(address))
            || (text.len() >= 4 && id.starts_with(text))
    }

    /// The path and, where it is not direct, why: one sentence.
    pub fn sentence(&self) -> String {
        let why = |text: &str| if text.is_empty() { String::new() } else { format!(": {text}") };
        let PairReport { path, rtt_us, explain, .. } = &self.report;
        let rtt = rtt_us.map(|us| format!(", {} ms", milliseconds(us))).unwrap_or_default();
        match path {
            PathReport::None => format!("no path yet{}", why(explain)),
            PathReport::Direct { endpoint } => {
                format!("direct, UDP to {endpoint}{rtt}{}", why(explain))
            }
            PathReport::Relayed { relay } => format!("relayed by {relay}{rtt}{}", why(explain)),
        }
    }
}

/// What carries packets to the relay, how well, and what it took to find that.
fn way_in_words(way: &Way) -> String {
    let mut words = match way.rung {
        Some(rung) => format!("by {rung}"),
        None => "no way to the coordinator's at the moment".to_owned(),
    };
    if let (Some(goodput), Some(loss)) = (way.goodput, way.loss) {
        let percent = format!("{}.{}", loss / 10, loss % 10);
        words += &format!(", {} kB/s flowed last, {percent} % lost", goodput / 1000);
    }
    if let Some(promised) = way.promised {
        words += &format!(", good for {} kB/s of TCP", promised / 1000);
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    // What is better than what carries packets, or was to carry them.
    for (rung, met) in way.met.iter().filter(|(rung, _)| way.rung.is_none_or(|used| **rung < used))
    {
        let ago = now.saturating_sub(met.unix_s);
        words += &format!("\n  {rung}: {} (tried {ago} s ago)", met.what);
    }
    // The first step is how it began; the others say what has changed since.
    for step in way.steps.iter().skip(1) {
        words += &format!("\n  {} s ago: {}", now.saturating_sub(step.unix_s), step.what);
    }
    words
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds as milliseconds, for people.
pub fn milliseconds(us: u64) -> String {
    format!("{}.{}", us / 1000, us % 1000 / 100)
}

impl fmt::Display for NetworkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.connected { "connected to" } else { "NOT connected to" };
        write!(f, "network: {state} {} from {}", self.coordinator, self.local)?;
        if self.tunnelled {
            write!(f, ", over TLS since UDP does not get through there")?;
        }
        match self.observed {
            Some(observed) => writeln!(f, ", seen as {observed}")?,
            None => writeln!(f)?,
        }
        writeln!(f, "relay: {}", way_in_words(&self.way))?;
        for (place, (at, rtt_us)) in self.relays.iter().enumerate() {
            let home = if place == 0 { ", the home relay" } else { "" };
            writeln!(f, "  {at}: {} ms{home}", milliseconds(*rtt_us))?;
        }
        let nat = match self.mapping {
            _ if self.tunnelled => "not known, since no UDP reaches coordinator and relays",
            ObservedMapping::Unknown => "not known yet",
            ObservedMapping::None => "none",
            ObservedMapping::EndpointIndependent => "keeps one outer port for all destinations",
            ObservedMapping::EndpointDependent => "takes a new outer port for every destination",
        };
        let ports =
            if self.tunnelled { String::new() } else { ports(self.mapping, self.nat.ports) };
        writeln!(f, "NAT: {nat}{ports}")?;
        writeln!(f, "traffic of jobs: {}", self.granted)?;
        for mesh in &self.meshes {
            let state = if mesh.open { "open" } else { "not open yet" };
            writeln!(f, "network of job {} (launch {}): {state}", mesh.job, mesh.generation)?;
            for pair in &mesh.pairs {
                let PairReport { sent_bytes, received_bytes, .. } = pair.report;
                writeln!(f, "  {}: {}", pair.name, pair.sentence())?;
                writeln!(f, "    sent {sent_bytes} bytes, received {received_bytes}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use overlay_core::ladder::Rung;
    use overlay_driver::Step;

    use super::*;

    fn pair(number: u8, name: &str, path: PathReport, explain: &str) -> PairStatus {
        PairStatus {
            name: name.into(),
            address: Some(Ipv4Addr::new(10, 128, 0, number)),
            report: PairReport {
                peer: NodeId([number; 32]),
                established: true,
                settled: true,
                path,
                rtt_us: Some(12_345),
                sent_bytes: 1,
                received_bytes: 2,
                established_after_ms: None,
                explain: explain.into(),
                activity: Default::default(),
            },
        }
    }

    fn status() -> NetworkStatus {
        let relay = "198.18.0.1:6444".parse().unwrap();
        let endpoint = "203.0.113.7:4000".parse().unwrap();
        NetworkStatus {
            node: NodeId([1; 32]),
            coordinator: "c.example:6443".into(),
            connected: true,
            tunnelled: false,
            way: Way {
                rung: Some(Rung::Quic),
                goodput: Some(250_000),
                loss: Some(7),
                promised: Some(900_000),
                ..Way::default()
            },
            relays: vec![("198.18.0.9:6444".parse().unwrap(), 21_000), (relay, 42_000)],
            local: "[::]:4000".parse().unwrap(),
            observed: None,
            mapping: ObservedMapping::EndpointDependent,
            nat: NatTraits::default(),
            candidates: Vec::new(),
            udp_bytes: (0, 0),
            granted: NetworkUse::default(),
            meshes: vec![MeshStatus {
                job: 7,
                generation: 1,
                open: true,
                pairs: vec![
                    pair(0x21, "vol-2", PathReport::Direct { endpoint }, ""),
                    pair(0x22, "vol-3", PathReport::Relayed { relay }, "both NATs are hard"),
                ],
            }],
        }
    }

    #[test]
    fn nodes_are_found_by_name_address_and_id() {
        let status = status();
        for text in ["vol-3", "10.128.0.34", "2222", &"22".repeat(32)] {
            assert_eq!(status.find(text).unwrap(), NodeId([0x22; 32]), "{text}");
        }
        for text in ["vol-4", "222", "10.128.0.35", ""] {
            let error = status.find(text).unwrap_err();
            assert!(error.contains("no other node") && error.contains("vol-2, vol-3"), "{error}");
        }
        let idle = NetworkStatus { meshes: Vec::new(), ..status };
        let error = idle.find("vol-3").unwrap_err();
        assert!(error.starts_with("no job with a network runs"), "{error}");
    }

    #[test]
    fn words_name_path_time_and_reason() {
        let text = status().to_string();
        let expected = [
            "vol-2: direct, UDP to 203.0.113.7:4000, 12.3 ms",
            "vol-3: relayed by 198.18.0.1:6444, 12.3 ms: both NATs are hard",
            "a new outer port for every destination",
            "  198.18.0.9:6444: 21.0 ms, the home relay\n  198.18.0.1:6444: 42.0 ms\n",
            "relay: by QUIC datagrams, 250 kB/s flowed last, 0.7 % lost, good for 900 kB/s of TCP",
        ];
        for expected in expected {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn what_each_way_met_is_told_when_none_carries() {
        let met = |what: &str| Step { unix_s: 1, what: what.to_owned() };
        let tried = [
            (Rung::Udp, "no answer"),
            (Rung::Tls, "Connection refused (os error 111)"),
            (Rung::Connect, "the proxy refused: 407 Proxy Authentication Required"),
        ];
        let way = Way {
            met: tried.into_iter().map(|(rung, what)| (rung, met(what))).collect(),
            ..Way::default()
        };
        let words = way_in_words(&way);
        for (rung, what) in tried {
            assert!(words.contains(&format!("\n  {rung}: {what} (tried ")), "{words}");
        }
        let carried = way_in_words(&Way { rung: Some(Rung::Tls), ..way.clone() });
        assert!(carried.contains("UDP: no answer") && !carried.contains("407"), "{carried}");
        let json = serde_json::to_string(&way).unwrap();
        assert!(json.contains(r#""met":{"udp":{"#), "{json}");
        assert_eq!(serde_json::from_str::<Way>(&json).unwrap(), way);
        let older = r#"{"rung":null,"goodput":null,"loss":null,"steps":[]}"#;
        assert_eq!(serde_json::from_str::<Way>(older).unwrap(), Way::default());
    }
}
