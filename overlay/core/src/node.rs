//! The node: takes inputs, drains its children, gives outputs.
//!
//! # How a pair comes about
//!
//! 1. The coordinator tells both nodes the [`RelayTicket`](crate::netmap::RelayTicket): each binds its address to the pair's
//!    channel (`relay_client`). It passes on the candidates of each, and then the netmap, which
//!    makes the session (`mesh`, `session`).
//! 2. The node with the lower id sends the WireGuard initiation through the relay. The first
//!    authentic packet makes the pair *established*; the relay carries data from that moment.
//! 3. Both sides ping every endpoint of the other *inside the session* (`search`, `trial`), which
//!    opens both NATs from inside. An answered ping of full size proves an endpoint, and what is
//!    sent moves there (`path`). Nothing is lost, since both sides receive on all paths.
//! 4. Silence moves it back to the relay, at first with copies on both paths. So does the end of the
//!    data, silently: an idle pair costs nothing, and goes direct again with its next data.
//!
//! What is learned about endpoints, relays and NATs belongs to the pair of nodes (`peer`) and serves
//! all meshes that both are in; only the session belongs to one mesh.
//!
//! # What holds at all times
//!
//! - Nothing that comes from the network is an error: what is not understood, not asked for or too
//!   much is counted in [`Stats`] and ignored.
//! - Every collection has a limit ([`MAX_PEERS`], `MAX_MESHES`, `MAX_TRIALS`, `MAX_PINGS`,
//!   `MAX_KEEPERS`, `MAX_REFLECTORS`, [`MAX_CANDIDATES`](crate::netmap::MAX_CANDIDATES)).
//! - The same seed and inputs give the same outputs: one ChaCha8 stream per peer, ordered maps.
//! - A wakeup makes progress: after it, no timer is due.

mod control;
mod hints;
mod lend;
mod orders;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::budget::PunchBudget;
use crate::candidates::OwnCandidates;
use crate::context::earlier;
use crate::homes::Homes;
use crate::io::{Input, Output, Path};
use crate::keeper::Keeper;
use crate::mesh::Mesh;
use crate::nat::NatProbe;
use crate::netmap::{Candidate, CandidateKind, NodeCandidates, ObservedMapping};
use crate::path::KEEPALIVE;
use crate::peer::Peer;
use crate::wire::Probe;
use crate::{MeshId, NodeId, SessionKey};

pub use view::{NodeView, Stats};

/// The most peers that a node knows at once. Chosen: two meshes of the largest size.
pub const MAX_PEERS: usize = 2 * crate::netmap::MAX_MEMBERS;

/// A wakeup that comes later than this was slept through: the machine stood still. Chosen: far more than
/// a busy machine's delays, far less than what a peer takes for death.
const SLEPT_THROUGH: Duration = Duration::from_secs(5);

/// The share of a mapping's life after which it is refreshed.
const REFRESH_SHARE: f64 = 0.7;

/// Bounds of the keepalive that a learned lifetime gives.
const KEEPALIVE_RANGE: (Duration, Duration) = (Duration::from_secs(7), Duration::from_secs(25));

/// What a [`Node`] is made from.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub id: NodeId,
    /// Seeds its random numbers: same seed and inputs, same outputs. Must be unpredictable in use.
    pub seed: u64,
}

/// One node of the overlay. See the crate for how it is driven.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    now: Instant,
    own: OwnCandidates,
    nat: NatProbe,
    budget: PunchBudget,
    homes: Homes,
    /// The home relay, while it holds this node's channels.
    kept_home: Option<SocketAddr>,
    keepers: BTreeMap<SocketAddr, Keeper>,
    keeper_rng: ChaCha8Rng,
    keepalive: Duration,
    may_chance: bool,
    outer: BTreeMap<NodeId, Vec<IpAddr>>,
    /// Where peers have said that they see this node, since the last look.
    reports: Vec<(NodeId, SocketAddr)>,
    /// Peers that cannot be heard, since the last look.
    lost: Vec<NodeId>,
    /// A path fell silent: this node's own address may have changed.
    in_doubt: bool,
    /// Exchanges with relays that began while a peer worked.
    exchanges: Vec<([u8; 8], [u8; 8])>,
    /// Whose exchange with a relay has that nonce.
    asked: BTreeMap<[u8; 8], NodeId>,
    meshes: BTreeMap<MeshId, Mesh>,
    peers: BTreeMap<NodeId, Peer>,
    /// The next timer of each peer, in order.
    deadlines: BTreeSet<(Instant, NodeId)>,
    deadline_of: BTreeMap<NodeId, Instant>,
    /// Peers made so far: a peer that is forgotten and comes back draws other numbers.
    peers_made: u64,
    outputs: Vec<Output>,
    stats: Stats,
}

/// The side effects of one input, in the order in which they must happen.
#[must_use = "the outputs must be carried out"]
#[derive(Debug)]
pub struct Outputs<'a>(std::vec::Drain<'a, Output>);

impl Iterator for Outputs<'_> {
    type Item = Output;

    fn next(&mut self) -> Option<Output> {
        self.0.next()
    }
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        Self {
            config,
            now,
            own: OwnCandidates::new(config.id),
            nat: NatProbe::new(ChaCha8Rng::seed_from_u64(config.seed)),
            budget: PunchBudget::default(),
            homes: Homes::new(config.seed),
            kept_home: None,
            keepers: BTreeMap::new(),
            keeper_rng: keeper_stream(config.seed),
            keepalive: KEEPALIVE,
            may_chance: false,
            outer: BTreeMap::new(),
            reports: Vec::new(),
            lost: Vec::new(),
            in_doubt: false,
            exchanges: Vec::new(),
            asked: BTreeMap::new(),
            meshes: BTreeMap::new(),
            peers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            peers_made: 0,
            outputs: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Advances the node to `now` and applies `input`.
    ///
    /// Returns the side effects in the order in which they must happen. They borrow the node, so a
    /// second input cannot be applied before they are taken; those that are not taken are lost. A
    /// `now` earlier than the last one counts as the last one.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Outputs<'_> {
        let slept = self.next_wakeup().is_some_and(|wakeup| now > wakeup + SLEPT_THROUGH);
        self.now = self.now.max(now);
        if slept {
            self.on_resumed();
        }
        match input {
            Input::HostEndpoints(endpoints) => {
                self.own.on_hosts(endpoints);
                self.nat.on_hosts(self.own.hosts());
                self.nat.check_now(self.now);
                self.on_own_candidates();
            }
            Input::PortMapped(endpoints) => {
                self.own.on_port_mapped(endpoints);
                self.on_own_candidates();
            }
            Input::OperatorEndpoints(endpoints) => {
                self.own.on_operator_set(endpoints);
                self.on_own_candidates();
            }
            Input::Welcome { observed, reflector, reflector_token } => {
                self.nat.on_welcome(self.now, observed, reflector, reflector_token);
                self.on_own_candidates();
            }
            Input::OtherReflector { at, token } => {
                self.nat.add_other_reflector(self.now, at, token);
            }
            Input::MappingLifetime(lifetime) => {
                let (least, most) = KEEPALIVE_RANGE;
                self.keepalive = lifetime.mul_f64(REFRESH_SHARE).clamp(least, most);
            }
            Input::Tunnelled(tunnelled) => {
                if self.nat.set_blind(tunnelled) {
                    self.on_own_candidates();
                    self.begin_anew();
                }
            }
            Input::RelayWay(relay) => {
                // It is as far as that way is long.
                self.homes.check_now(self.now);
                self.with_all_peers(|peer, ctx| peer.on_relay_way(ctx, relay));
            }
            Input::Activity(activity) => {
                self.own.on_activity(activity);
                self.on_own_candidates();
            }
            Input::BirthdayProbing(allowed) => self.may_chance = allowed,
            Input::Resumed => self.on_resumed(),
            Input::JoinMesh(mesh) => self.on_join(mesh),
            Input::Netmap(netmap) => self.on_netmap(netmap),
            Input::Member { mesh, node, ended } => {
                self.with_session(SessionKey { mesh, peer: node }, |peer, _| {
                    peer.on_part_ended(mesh, ended)
                });
            }
            Input::LeaveMesh(mesh) => self.on_leave(mesh),
            Input::Candidates(candidates) => {
                if candidates.node != self.config.id && self.outer.len() < MAX_PEERS {
                    self.outer.insert(candidates.node, seen_at(&candidates));
                }
                self.with_peer(candidates.node, |peer, ctx| peer.on_candidates(ctx, &candidates));
            }
            Input::Ticket(ticket) => self.on_ticket(&ticket),
            Input::Relays(offers) => self.on_relays(&offers),
            Input::Control { from, bytes } => self.on_control(from, bytes),
            Input::Authenticated { session, via, data } => {
                self.with_session(session, |peer, ctx| {
                    peer.on_authenticated(ctx, session.mesh, via, data)
                });
            }
            Input::Sent(session) => {
                self.with_session(session, |peer, ctx| peer.on_sent(ctx, session.mesh));
            }
            Input::Probe { session, via, bytes } => self.on_probe(session, via, bytes),
            Input::Wakeup => {}
        }
        self.fire_due_timers();
        Outputs(self.outputs.drain(..))
    }

    /// When the node wants an [`Input::Wakeup`] at the latest; none: not before another input.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let peers = self.deadlines.first().map(|(at, _)| *at);
        let keepers = self.keepers.values().map(Keeper::next_timer).min();
        let measuring = earlier(self.nat.next_timer(), self.homes.next_timer());
        earlier(earlier(peers, keepers), measuring)
    }

    /// Counters since the node was made.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What the node knows, for status output.
    pub fn snapshot(&self) -> NodeView {
        NodeView {
            candidates: self.own.announced().cloned(),
            mapping: self.own.mapping(),
            nat: self.own.nat(),
            udp_silent: self.nat.is_silent(),
            relays: self
                .keepers
                .iter()
                .filter(|(_, keeper)| keeper.is_keeping())
                .map(|(relay, keeper)| (*relay, keeper.rtt()))
                .collect(),
            homes: self.homes.measured(),
            new_mappings: self.budget.spent(self.now),
            meshes: self.meshes.iter().map(|(id, mesh)| (*id, mesh.epoch)).collect(),
            pairs: self.peers.values().flat_map(|peer| peer.pairs(&self.own)).collect(),
            stats: self.stats,
        }
    }

    /// The machine stood still, or the clock jumped: nothing that was known needs to hold any more.
    fn on_resumed(&mut self) {
        self.stats.resumptions += 1;
        self.begin_anew();
    }

    /// Nothing that was known of the ways needs to hold any more.
    fn begin_anew(&mut self) {
        self.nat.check_now(self.now);
        self.homes.check_now(self.now);
        for keeper in self.keepers.values_mut() {
            keeper.check_now(self.now);
        }
        self.with_all_peers(|peer, ctx| peer.on_resumed(ctx));
    }

    fn on_own_candidates(&mut self) {
        self.own.on_nat(self.nat.reflexive(), self.nat.mapping(), self.nat.traits());
        let before = self.own.announced().map(whereabouts);
        let Some(announcement) = self.own.take_announcement() else { return };
        let has_moved = before.is_some_and(|before| before != whereabouts(&announcement));
        self.outputs.push(Output::Announce(announcement));
        if !has_moved {
            return;
        }
        self.homes.check_now(self.now);
        self.with_all_peers(|peer, ctx| peer.on_local_change(ctx));
    }

    fn on_probe(&mut self, session: SessionKey, via: Path, bytes: &[u8]) {
        let Ok(probe) = Probe::decode(bytes) else {
            self.stats.probes_refused += 1;
            return;
        };
        self.with_session(session, |peer, ctx| peer.on_probe(ctx, session.mesh, via, probe));
        if let Probe::Hint { purpose, endpoints } = probe {
            self.on_hint(session, purpose, &endpoints);
        }
    }

    fn fire_due_timers(&mut self) {
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= self.now
        {
            self.with_peer(id, |_, _| ());
        }
        self.fire_keepers();
        self.seek_lost();
        let reports = std::mem::take(&mut self.reports);
        if !reports.is_empty() {
            for (by, endpoint) in reports {
                self.own.on_peer_report(self.now, by, endpoint);
            }
            self.on_own_candidates();
        }
        if std::mem::take(&mut self.in_doubt) {
            self.nat.check_now(self.now);
        }
        let is_active = self.needs_reflector();
        let (requests, has_news) = self.nat.fire_due_timers(self.now, is_active);
        for (to, frame) in requests {
            self.outputs.push(Output::Transmit { to, bytes: frame.encode() });
        }
        if has_news {
            self.on_own_candidates();
        }
        let (requests, order) = self.homes.fire_due_timers(self.now);
        for (to, frame) in requests {
            self.outputs.push(Output::Transmit { to, bytes: frame.encode() });
        }
        self.outputs.extend(order.map(Output::RelaysMeasured));
        self.look_at_home();
    }
}

/// What a node's paths depend on: its own addresses, and what its NAT makes of them. Where each destination has
/// a port of its own, a further one says nothing of the others.
fn whereabouts(announced: &NodeCandidates) -> Vec<Candidate> {
    let is_symmetric = announced.mapping == ObservedMapping::EndpointDependent;
    let place = |candidate: &Candidate| match candidate.kind {
        CandidateKind::Host => Some(*candidate),
        CandidateKind::Reflexive => {
            let port = if is_symmetric { 0 } else { candidate.endpoint.port() };
            let endpoint = SocketAddr::new(candidate.endpoint.ip(), port);
            Some(Candidate { endpoint, ..*candidate })
        }
        CandidateKind::PortMapped
        | CandidateKind::OperatorSet
        | CandidateKind::PeerReported
        | CandidateKind::Other => None,
    };
    announced.candidates.iter().filter_map(place).collect()
}

/// The public addresses of a peer.
fn seen_at(candidates: &NodeCandidates) -> Vec<IpAddr> {
    let few = candidates.candidates.iter().take(crate::netmap::MAX_CANDIDATES);
    let outer = few.filter(|candidate| candidate.kind == CandidateKind::Reflexive);
    outer.map(|candidate| candidate.endpoint.ip()).collect()
}

/// The last stream: peers' streams begin at 1 and hardly reach it.
fn keeper_stream(seed: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netmap::NatTraits;

    #[test]
    fn a_further_port_of_a_symmetric_nat_is_no_move() {
        let seen_at = |mapping, endpoint: &str| {
            let (kind, endpoint) = (CandidateKind::Reflexive, endpoint.parse().unwrap());
            whereabouts(&NodeCandidates {
                node: NodeId([1; 32]),
                sequence: 1,
                mapping,
                nat: NatTraits::default(),
                activity: Default::default(),
                candidates: vec![Candidate { endpoint, kind }],
            })
        };
        let (here, port, there) = ("198.51.100.1:4000", "198.51.100.1:4001", "198.51.100.2:4000");
        for (mapping, is_move) in [
            (ObservedMapping::EndpointDependent, false),
            (ObservedMapping::EndpointIndependent, true),
        ] {
            assert_eq!(seen_at(mapping, here) != seen_at(mapping, port), is_move, "{mapping:?}");
            assert_ne!(seen_at(mapping, here), seen_at(mapping, there), "{mapping:?}");
        }
    }
}
