//! The node: takes inputs, drains its children, gives outputs.
//!
//! # How a pair comes about
//!
//! 1. The coordinator tells both nodes the [`RelayTicket`]: each binds its address to the pair's
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
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::budget::PunchBudget;
use crate::candidates::OwnCandidates;
use crate::context::{Context, earlier};
use crate::homes::Homes;
use crate::io::{Input, Output, Path};
use crate::keeper::Keeper;
use crate::mesh::{MAX_MESHES, Mesh};
use crate::nat::NatProbe;
use crate::netmap::{Candidate, CandidateKind, Netmap, NodeCandidates, RelayTicket};
use crate::path::KEEPALIVE;
use crate::peer::{Joining, Peer};
use crate::relays::MAX_CHANNELS;
use crate::wire::{Probe, Ticket};
use crate::{MeshId, NodeId, SessionKey};

pub use view::{NodeView, Stats};

/// The most peers that a node knows at once. Chosen: two meshes of the largest size.
pub const MAX_PEERS: usize = 2 * crate::netmap::MAX_MEMBERS;

/// A timer that is due although it has just fired is put off by this. Never happens unless a child is
/// wrong, see [`Stats::stalled_timers`].
const STALLED_TIMER: Duration = Duration::from_millis(1);

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
                    self.on_resumed();
                }
            }
            Input::RelayWay(relay) => {
                self.with_all_peers(|peer, ctx| peer.on_relay_way(ctx, relay));
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
            new_mappings: self.budget.spent(self.now),
            meshes: self.meshes.iter().map(|(id, mesh)| (*id, mesh.epoch)).collect(),
            pairs: self.peers.values().flat_map(|peer| peer.pairs(&self.own)).collect(),
            stats: self.stats,
        }
    }

    /// The machine stood still, or the clock jumped: nothing that was known needs to hold any more.
    fn on_resumed(&mut self) {
        self.stats.resumptions += 1;
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

    fn on_join(&mut self, mesh: MeshId) {
        if self.meshes.contains_key(&mesh) {
            return;
        }
        if self.meshes.len() >= MAX_MESHES {
            self.stats.orders_refused += 1;
            return;
        }
        self.meshes.insert(mesh, Mesh::new(self.now));
        self.nat.check_now(self.now);
    }

    fn on_netmap(&mut self, netmap: Netmap) {
        let id = netmap.mesh;
        let Some(mesh) = self.meshes.get_mut(&id) else {
            self.stats.netmaps_refused += 1;
            return;
        };
        let joined_at = mesh.joined_at;
        let Ok(changes) = mesh.apply(self.config.id, netmap) else {
            self.stats.netmaps_refused += 1;
            return;
        };
        for peer in changes.removed {
            self.with_peer(peer, |peer, ctx| peer.remove_session(ctx, id));
        }
        let own = self.config.id;
        for member in changes.added {
            let lazy = !changes.expected.contains(&member.node);
            let joining = Joining { mesh: id, joined_at, lazy };
            self.with_peer(member.node, |peer, ctx| peer.add_session(ctx, own, joining, &member));
        }
        for node in changes.expected {
            self.with_peer(node, |peer, ctx| peer.want(ctx, id));
        }
        self.forget_strangers();
    }

    fn on_leave(&mut self, id: MeshId) {
        let Some(mesh) = self.meshes.remove(&id) else { return };
        for peer in mesh.peers() {
            self.with_peer(peer, |peer, ctx| peer.remove_session(ctx, id));
        }
        self.forget_strangers();
    }

    fn on_ticket(&mut self, ticket: &RelayTicket) {
        match Ticket::from_hex(&ticket.sealed) {
            Ok(sealed) if sealed.channel == ticket.channel => {
                self.with_peer(ticket.peer, |peer, ctx| peer.on_ticket(ctx, ticket.relay, sealed));
            }
            Ok(_) | Err(_) => self.stats.orders_refused += 1,
        }
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
    }

    fn with_all_peers(&mut self, mut act: impl FnMut(&mut Peer, &mut Context<'_>)) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            self.with_peer(id, &mut act);
        }
    }

    /// Lets a peer, known or new, do something, then what is due; reports it and sets its timer.
    fn with_peer(&mut self, id: NodeId, act: impl FnOnce(&mut Peer, &mut Context<'_>)) {
        if id == self.config.id || (!self.peers.contains_key(&id) && self.peers.len() >= MAX_PEERS)
        {
            self.stats.orders_refused += 1;
            return;
        }
        let (seed, made) = (self.config.seed, &mut self.peers_made);
        self.peers.entry(id).or_insert_with(|| {
            *made += 1;
            Peer::new(id, stream_for(seed, id, *made))
        });
        let (peers, mut ctx) = self.lend();
        let Some(peer) = peers.get_mut(&id) else { return };
        act(peer, &mut ctx);
        peer.fire_due_timers(&mut ctx);
        peer.report_changes(&mut ctx);
        let mut next = peer.next_timer(&ctx);
        self.note_exchanges(id);
        if next.is_some_and(|at| at <= self.now) {
            self.stats.stalled_timers += 1;
            next = Some(self.now + STALLED_TIMER);
        }
        self.set_deadline(id, next);
    }

    /// Remembers whose exchanges have begun.
    fn note_exchanges(&mut self, id: NodeId) {
        // Those of channels that are gone stay; whoever waits for an answer then asks again.
        if self.asked.len() + self.exchanges.len() > MAX_PEERS * MAX_CHANNELS {
            self.asked.clear();
        }
        for (former, nonce) in self.exchanges.drain(..) {
            self.asked.remove(&former);
            self.asked.insert(nonce, id);
        }
    }

    /// The peers, and what each of them is lent while it works.
    fn lend(&mut self) -> (&mut BTreeMap<NodeId, Peer>, Context<'_>) {
        let context = Context {
            now: self.now,
            own: &self.own,
            budget: &mut self.budget,
            keepalive: self.keepalive,
            may_chance: self.may_chance,
            outer: &self.outer,
            reports: &mut self.reports,
            lost: &mut self.lost,
            in_doubt: &mut self.in_doubt,
            exchanges: &mut self.exchanges,
            outputs: &mut self.outputs,
            stats: &mut self.stats,
        };
        (&mut self.peers, context)
    }

    /// The same for a session that must exist.
    fn with_session(
        &mut self,
        session: SessionKey,
        act: impl FnOnce(&mut Peer, &mut Context<'_>) -> bool,
    ) {
        let mut known = false;
        if self.peers.contains_key(&session.peer) {
            self.with_peer(session.peer, |peer, ctx| known = act(peer, ctx));
        }
        self.stats.unknown_sessions += u64::from(!known);
    }

    fn set_deadline(&mut self, id: NodeId, at: Option<Instant>) {
        if let Some(old) = self.deadline_of.remove(&id) {
            self.deadlines.remove(&(old, id));
        }
        if let Some(at) = at {
            self.deadline_of.insert(id, at);
            self.deadlines.insert((at, id));
        }
    }

    /// Forgets peers without a session, unless a netmap that may name them is still to come.
    fn forget_strangers(&mut self) {
        if self.meshes.values().any(|mesh| mesh.epoch == 0) {
            return;
        }
        let strangers: Vec<_> =
            self.peers.iter().filter(|(_, peer)| !peer.has_sessions()).map(|(id, _)| *id).collect();
        for id in strangers {
            self.peers.remove(&id);
            self.outer.remove(&id);
            self.set_deadline(id, None);
        }
    }
}

/// What a node's paths depend on: its own addresses, and what its NAT makes of them.
fn whereabouts(announced: &NodeCandidates) -> Vec<Candidate> {
    let is_own = |candidate: &&Candidate| {
        matches!(candidate.kind, CandidateKind::Host | CandidateKind::Reflexive)
    };
    announced.candidates.iter().filter(is_own).copied().collect()
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

/// A random stream of its own for each peer, so that one peer's doings do not change another's draws.
fn stream_for(seed: u64, peer: NodeId, made: u64) -> ChaCha8Rng {
    let mut name = [0u8; 8];
    name.copy_from_slice(&peer.0[..8]);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 is the node's own.
    rng.set_stream(u64::from_be_bytes(name).wrapping_add(made).max(1));
    rng
}
