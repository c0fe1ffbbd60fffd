//! Measures what the network in front of this machine does to UDP.
//!
//! What depends on the destination is known of the data socket itself (the core's mapping). The rest is
//! asked with sockets of its own, which nothing has been sent from before: the reflector answers to
//! where, and from where, it is told ([`ReflectElsewhere`](overlay_core::wire::ControlFrame::ReflectElsewhere)).

mod asker;
mod report;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlay_core::CandidateKind;
use overlay_core::netmap::{ObservedFiltering, ObservedMapping, ObservedPorts};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use asker::{Asker, Elsewhere};
pub use report::{Ipv6, Lifetime, NetReport, ports};

use crate::Overlay;
use crate::view::{Reflector, Seen, View};

/// How long the control session may take to come up. Chosen: several handshakes on a slow line.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the mapping may take to be known: the ladder of a reflector check (3.1 s).
const MAPPING_PATIENCE: Duration = Duration::from_millis(3200);

/// How often the view is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(50);

/// Silences after which mappings are tried. Chosen: around what is common (30, 60, 120 and 180 s; RFC
/// 4787 REQ-5 asks for 120 s at least).
pub const LIFETIMES: [Duration; 8] = [
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(28),
    Duration::from_secs(35),
    Duration::from_secs(55),
    Duration::from_secs(65),
    Duration::from_secs(115),
    Duration::from_secs(185),
];

impl Overlay {
    /// Measures the network. Takes a few seconds, and as long as the longest of `lifetimes` (silences
    /// after which a mapping is tried; none: the lifetime is not measured).
    pub async fn netcheck(&self, lifetimes: &[Duration]) -> NetReport {
        // Without a session in time the report says that UDP does not get through.
        let _ = timeout(CONNECT_PATIENCE, self.until_seen()).await;
        let _ = timeout(MAPPING_PATIENCE, self.until_mapped()).await;
        let view = self.view().await;
        let Some((view, seen)) = view.and_then(|view| view.seen.map(|seen| (view, seen))) else {
            return NetReport { ipv6: own_ipv6(&[]), ..NetReport::blocked() };
        };
        let hosts = hosts_of(&view);
        let local = source_towards(seen.reflector);
        // One at another address of the same family, which nothing that is measured here has sent to.
        let other = view.reflectors.iter().copied().find(|it| {
            it.at.ip() != seen.reflector.ip() && it.at.is_ipv4() == seen.reflector.is_ipv4()
        });
        let (filter, hairpin, ipv6, lifetime) = tokio::join!(
            filtering(seen, other),
            hairpin(seen),
            self.ipv6(seen, &hosts),
            lifetime(seen, lifetimes)
        );
        if let Some(lifetime) = lifetime.filter(|lifetime| lifetime.at_least_s > 0) {
            self.learned_lifetime(Duration::from_secs(lifetime.at_least_s)).await;
        }
        if filter.round_trip.is_none() && self.tunnelled() {
            return NetReport { ipv6, ..NetReport::blocked() };
        }
        let is_own = local.is_some_and(|ip| ip == seen.observed.ip());
        let mapping = if is_own { ObservedMapping::None } else { view.node.mapping };
        NetReport {
            udp: true,
            observed: Some(seen.observed),
            mapping,
            filtering: filter.filtering,
            ports: if is_own { ObservedPorts::Unknown } else { view.node.nat.ports },
            second_address: filter.asked_other,
            port_preserved: filter.port_preserved,
            hairpin: if is_own { None } else { hairpin },
            mapping_lifetime: lifetime,
            ipv6,
            round_trip_us: filter.round_trip.and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
        }
    }

    async fn until_seen(&self) {
        while self.view().await.is_some_and(|view| view.seen.is_none()) {
            sleep(LOOK).await;
        }
    }

    async fn until_mapped(&self) {
        let unknown =
            |view: View| view.seen.is_some() && view.node.mapping == ObservedMapping::Unknown;
        while self.view().await.is_some_and(unknown) {
            sleep(LOOK).await;
        }
    }

    async fn ipv6(&self, seen: Seen, hosts: &[IpAddr]) -> Ipv6 {
        let found = tokio::net::lookup_host(self.server()).await;
        let Some(address) = found.ok().and_then(|mut found| found.find(SocketAddr::is_ipv6)) else {
            return own_ipv6(hosts);
        };
        let reflector = SocketAddr::new(address.ip(), seen.reflector.port());
        let Ok(asker) = Asker::new(reflector, seen.token).await else { return own_ipv6(hosts) };
        match asker.reflect().await {
            Some(_) => Ipv6::Works,
            None => own_ipv6(hosts),
        }
    }
}

fn hosts_of(view: &View) -> Vec<IpAddr> {
    let candidates = view.node.candidates.iter().flat_map(|own| &own.candidates);
    let hosts = candidates.filter(|candidate| candidate.kind == CandidateKind::Host);
    hosts.map(|candidate| candidate.endpoint.ip()).collect()
}

fn own_ipv6(hosts: &[IpAddr]) -> Ipv6 {
    let is_global = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => !ip.is_unique_local() && !ip.is_loopback(),
    };
    if hosts.iter().any(is_global) { Ipv6::AddressOnly } else { Ipv6::None }
}

/// The address that this machine's packets to `target` leave with: asked of the routing table.
fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

struct Filter {
    filtering: ObservedFiltering,
    /// A reflector at another address was asked.
    asked_other: bool,
    port_preserved: Option<bool>,
    round_trip: Option<Duration>,
}

/// Whether an answer from another address or port comes in, and whether ports are kept.
async fn filtering(seen: Seen, other: Option<Reflector>) -> Filter {
    let unknown = Filter {
        filtering: ObservedFiltering::Unknown,
        asked_other: false,
        port_preserved: None,
        round_trip: None,
    };
    let Ok(asker) = Asker::new(seen.reflector, seen.token).await else { return unknown };
    let Some((observed, round_trip)) = asker.reflect().await else { return unknown };
    let from_elsewhere = match other {
        Some(other) => from_other_address(other, observed, &asker).await,
        None => None,
    };
    let from_other = Elsewhere { port: 0, from_other: true };
    let filtering = if from_elsewhere == Some(true) {
        ObservedFiltering::Open
    } else if asker.ask_elsewhere(from_other, &asker).await {
        ObservedFiltering::ByAddress
    } else {
        ObservedFiltering::ByAddressAndPort
    };
    Filter {
        filtering,
        asked_other: from_elsewhere.is_some(),
        port_preserved: asker.port().map(|port| port == observed.port()),
        round_trip: Some(round_trip),
    }
}

/// Whether what a reflector sends comes in, to whose address `asker` has never sent anything: a socket of its own asks
/// for it. None where that reflector does not answer, or sees this machine at another address.
async fn from_other_address(other: Reflector, observed: SocketAddr, asker: &Asker) -> Option<bool> {
    let asking = Asker::new(other.at, other.token).await.ok()?;
    let (seen, _) = asking.reflect().await?;
    let to_asker = Elsewhere { port: observed.port(), from_other: false };
    match seen.ip() == observed.ip() {
        true => Some(asking.ask_elsewhere(to_asker, asker).await),
        false => None,
    }
}

/// Whether a packet to this machine's own outer endpoint comes back in.
async fn hairpin(seen: Seen) -> Option<bool> {
    let inner = Asker::new(seen.reflector, seen.token).await.ok()?;
    let outer = Asker::new(seen.reflector, seen.token).await.ok()?;
    let (target, _) = inner.reflect().await?;
    // The sender needs a mapping too, or some routers would not know where it is.
    outer.reflect().await?;
    Some(outer.reaches(&inner, target).await)
}

/// The longest silence that a mapping survived, and the shortest that it did not.
async fn lifetime(seen: Seen, silences: &[Duration]) -> Option<Lifetime> {
    let mut trials = JoinSet::new();
    for &silence in silences {
        trials.spawn(async move { (silence, survives(seen, silence).await) });
    }
    let results = trials.join_all().await;
    let alive = results.iter().filter(|(_, result)| *result == Some(true)).map(|(at, _)| *at);
    let dead = results.iter().filter(|(_, result)| *result == Some(false)).map(|(at, _)| *at);
    report::lifetime(alive.max(), dead.min())
}

/// Whether the mapping of a socket still leads to it after that silence. The answer is asked for by
/// another socket: asking from the same one would make the mapping anew.
async fn survives(seen: Seen, silence: Duration) -> Option<bool> {
    let silent = Asker::new(seen.reflector, seen.token).await.ok()?;
    let (observed, _) = silent.reflect().await?;
    sleep(silence).await;
    let asking = Asker::new(seen.reflector, seen.token).await.ok()?;
    asking.reflect().await?;
    let to_silent = Elsewhere { port: observed.port(), from_other: false };
    Some(asking.ask_elsewhere(to_silent, &silent).await)
}
