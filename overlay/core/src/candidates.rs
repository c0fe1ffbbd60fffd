//! This node's own candidates, and which endpoints are worth a probe at all.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::NodeId;
use crate::netmap::{
    Activity, Candidate, CandidateKind, MAX_CANDIDATES, NatTraits, NodeCandidates, ObservedMapping,
};
use crate::tier::is_private;

/// Ports below this are never probed: services and their gateways live there (a probe to port 162
/// once tripped a router's SNMP helper), overlay sockets do not.
const LOWEST_PORT: u16 = 1024;

/// Host addresses that are announced; the rest of [`MAX_CANDIDATES`] is for what others see.
const MAX_HOSTS: usize = 5;

/// Endpoints of one further kind that are announced.
const MAX_OF_KIND: usize = 2;

/// How long a peer's word about this node's endpoint counts.
const REPORT_LIFE: Duration = Duration::from_secs(120);

/// Endpoints that peers have reported and that are remembered.
const MAX_REPORTS: usize = 8;

/// Where this node may be reached, as far as it knows.
#[derive(Debug)]
pub(crate) struct OwnCandidates {
    id: NodeId,
    hosts: Vec<SocketAddr>,
    port_mapped: Vec<SocketAddr>,
    operator_set: Vec<SocketAddr>,
    reports: Vec<Report>,
    /// What the reflectors see, one for each family that they see this node in.
    reflexive: Vec<SocketAddr>,
    mapping: ObservedMapping,
    nat: NatTraits,
    activity: Activity,
    announced: Option<NodeCandidates>,
}

/// Peers saw this node's packets come from there.
#[derive(Debug)]
struct Report {
    endpoint: SocketAddr,
    first_by: NodeId,
    /// Two peers say the same: one alone may lie, or have a mapping of its own.
    agreed: bool,
    last: Instant,
}

impl OwnCandidates {
    pub(crate) fn new(id: NodeId) -> Self {
        Self {
            id,
            hosts: Vec::new(),
            port_mapped: Vec::new(),
            operator_set: Vec::new(),
            reports: Vec::new(),
            reflexive: Vec::new(),
            mapping: ObservedMapping::Unknown,
            nat: NatTraits::default(),
            activity: Activity::default(),
            announced: None,
        }
    }

    /// The machine's own addresses; those that nobody else could use are left out.
    pub(crate) fn on_hosts(&mut self, hosts: Vec<SocketAddr>) {
        self.hosts = few(hosts, MAX_CANDIDATES - 1);
    }

    /// Mappings that a router gave on request.
    pub(crate) fn on_port_mapped(&mut self, endpoints: Vec<SocketAddr>) {
        self.port_mapped = few(endpoints, MAX_OF_KIND);
    }

    /// Endpoints that the operator named.
    pub(crate) fn on_operator_set(&mut self, endpoints: Vec<SocketAddr>) {
        self.operator_set = few(endpoints, MAX_OF_KIND);
    }

    /// What the owner lets jobs do.
    pub(crate) fn on_activity(&mut self, activity: Activity) {
        self.activity = activity;
    }

    /// What the reflectors make of it.
    pub(crate) fn on_nat(
        &mut self,
        reflexive: Vec<SocketAddr>,
        mapping: ObservedMapping,
        nat: NatTraits,
    ) {
        self.reflexive = reflexive;
        self.mapping = mapping;
        self.nat = nat;
    }

    /// A peer saw this node's packets come from there.
    pub(crate) fn on_peer_report(&mut self, now: Instant, by: NodeId, endpoint: SocketAddr) {
        self.reports.retain(|report| now < report.last + REPORT_LIFE);
        if let Some(report) = self.reports.iter_mut().find(|report| report.endpoint == endpoint) {
            report.agreed |= report.first_by != by;
            report.last = now;
        } else if self.reports.len() < MAX_REPORTS && is_usable(endpoint) {
            self.reports.push(Report { endpoint, first_by: by, agreed: false, last: now });
        }
    }

    /// The machine's own addresses.
    pub(crate) fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// The coordinator has said where it sees this node.
    pub(crate) fn is_complete(&self) -> bool {
        !self.reflexive.is_empty()
    }

    /// What is known of the mapping behaviour.
    pub(crate) fn mapping(&self) -> ObservedMapping {
        self.mapping
    }

    /// What else is known of the NAT.
    pub(crate) fn nat(&self) -> NatTraits {
        self.nat
    }

    /// What was announced last.
    pub(crate) fn announced(&self) -> Option<&NodeCandidates> {
        self.announced.as_ref()
    }

    /// The candidates to announce, none when nothing has changed since.
    pub(crate) fn take_announcement(&mut self) -> Option<NodeCandidates> {
        let candidates = self.candidates();
        if candidates.is_empty() && self.announced.is_none() {
            return None;
        }
        let last = self.announced.as_ref().map_or(0, |last| last.sequence);
        let announcement = NodeCandidates {
            node: self.id,
            sequence: last + 1,
            mapping: self.mapping,
            nat: self.nat,
            candidates,
            activity: self.activity,
        };
        let again = NodeCandidates { sequence: last, ..announcement.clone() };
        if self.announced.as_ref() == Some(&again) {
            return None;
        }
        self.announced = Some(announcement.clone());
        Some(announcement)
    }

    /// By kind, each endpoint once. A reflexive endpoint that depends on the destination is
    /// announced all the same: a peer that filters by address must send to that address to let this
    /// node's packets in.
    fn candidates(&self) -> Vec<Candidate> {
        let others = self.reflexive.len() + self.port_mapped.len() + self.operator_set.len();
        let hosts = self.hosts.iter().take(MAX_HOSTS.max(MAX_CANDIDATES.saturating_sub(others)));
        let reported = self.reports.iter().filter(|report| report.agreed);
        let by_kind = [
            (CandidateKind::Host, hosts.copied().collect::<Vec<_>>()),
            (CandidateKind::Reflexive, self.reflexive.clone()),
            (CandidateKind::PortMapped, self.port_mapped.clone()),
            (CandidateKind::OperatorSet, self.operator_set.clone()),
            (CandidateKind::PeerReported, reported.map(|report| report.endpoint).collect()),
        ];
        let mut candidates: Vec<Candidate> = Vec::new();
        for (kind, endpoints) in by_kind {
            for endpoint in endpoints {
                let is_new = candidates.iter().all(|known| known.endpoint != endpoint);
                if is_new && is_usable(endpoint) && candidates.len() < MAX_CANDIDATES {
                    candidates.push(Candidate { endpoint, kind });
                }
            }
        }
        candidates
    }

    /// Whether a peer's endpoint may be probed from here at all.
    ///
    /// Not this node itself (homes use the same private addresses), not a family that this machine
    /// does not have, and the loopback only where this node's own candidates are there.
    pub(crate) fn may_reach(&self, endpoint: SocketAddr) -> bool {
        let same_family = self.hosts.is_empty()
            || self.hosts.iter().any(|host| host.is_ipv4() == endpoint.is_ipv4());
        let loopback_ok =
            !endpoint.ip().is_loopback() || self.hosts.iter().any(|host| host.ip().is_loopback());
        is_usable(endpoint) && same_family && loopback_ok && !self.hosts.contains(&endpoint)
    }

    /// Whether an announced endpoint of a peer that others see at `seen` is worth a probe.
    ///
    /// A private address is, where both may be on one site: seen at the same address, or on the same
    /// network. Anywhere else a probe would only trouble a stranger's machine or this node's router.
    pub(crate) fn is_worthwhile(&self, endpoint: SocketAddr, seen: &[SocketAddr]) -> bool {
        let ip = endpoint.ip();
        if !is_private(ip) || ip.is_loopback() || self.reflexive.is_empty() || seen.is_empty() {
            return true;
        }
        let is_inside = |seen: &SocketAddr| is_private(seen.ip());
        self.shares_address(seen)
            || self.reflexive.iter().any(is_inside)
            || seen.iter().any(is_inside)
            || self.hosts.iter().any(|host| same_network(host.ip(), ip))
    }

    /// Whether others see this node at that address.
    pub(crate) fn is_seen_at(&self, ip: IpAddr) -> bool {
        self.reflexive.iter().any(|own| own.ip() == ip)
    }

    /// Whether others see both nodes at one address: they are behind one NAT.
    pub(crate) fn shares_address(&self, seen: &[SocketAddr]) -> bool {
        self.reflexive.iter().any(|own| seen.iter().any(|seen| seen.ip() == own.ip()))
    }
}

/// The usable ones, each once.
fn few(endpoints: Vec<SocketAddr>, most: usize) -> Vec<SocketAddr> {
    let mut few = Vec::new();
    for endpoint in endpoints {
        if few.len() < most && is_usable(endpoint) && !few.contains(&endpoint) {
            few.push(endpoint);
        }
    }
    few
}

/// The usual size of a site's network: /24, and /64.
fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

pub(crate) fn is_usable(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        // Without its interface a link-local address means nothing to others.
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    endpoint.port() >= LOWEST_PORT && !ip.is_unspecified() && !ip.is_multicast() && !link_local
}

#[cfg(test)]
mod tests;
