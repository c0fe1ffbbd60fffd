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
//! 4. Silence moves it back to the relay, at first with copies on both paths.
//!
//! What is learned about endpoints, relays and NATs belongs to the pair of nodes (`peer`) and serves
//! all meshes that both are in; only the session belongs to one mesh.
//!
//! # What holds at all times
//!
//! - Nothing that comes from the network is an error: what is not understood, not asked for or too
//!   much is counted in [`Stats`] and ignored.
//! - Every collection has a limit ([`MAX_PEERS`], `MAX_MESHES`, `MAX_TRIALS`, `MAX_PINGS`,
//!   [`MAX_CANDIDATES`](crate::netmap::MAX_CANDIDATES)).
//! - The same seed and inputs give the same outputs: one ChaCha8 stream per peer, ordered maps.
//! - A wakeup makes progress: after it, no timer is due.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::candidates::OwnCandidates;
use crate::context::{Context, earlier};
use crate::io::{Input, Output, PairState, Path};
use crate::mesh::{MAX_MESHES, Mesh};
use crate::netmap::{Netmap, NodeCandidates, ObservedMapping, RelayTicket};
use crate::peer::Peer;
use crate::reflect::ReflectClient;
use crate::wire::{ControlFrame, Probe, Ticket};
use crate::{MeshId, NodeId, SessionKey};

/// The most peers that a node knows at once. Chosen: two meshes of the largest size.
pub const MAX_PEERS: usize = 2 * crate::netmap::MAX_MEMBERS;

/// A timer that is due although it has just fired is put off by this. Never happens unless a child is
/// wrong, see [`Stats::stalled_timers`].
const STALLED_TIMER: Duration = Duration::from_millis(1);

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
    reflect: ReflectClient,
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

/// Counters since the node was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Control frames that could not be read, or that nobody had asked for.
    pub control_refused: u64,
    /// Probes that could not be read, and pongs that nobody had asked for.
    pub probes_refused: u64,
    /// Endpoints of peers that were not worth a trial, or one too many.
    pub endpoints_refused: u64,
    /// Reports about sessions that this node does not have.
    pub unknown_sessions: u64,
    /// Netmaps that were too old, malformed, or of a mesh that this node has not joined.
    pub netmaps_refused: u64,
    /// Tickets that could not be read, and whatever was about one peer or mesh too many.
    pub orders_refused: u64,
    /// WireGuard initiations asked for.
    pub initiations: u64,
    /// Pings sent.
    pub pings_sent: u64,
    /// Times that a direct path was taken into use.
    pub promotions: u64,
    /// Times that a direct path was given up for the relay.
    pub demotions: u64,
    /// Timers that were still due after they had fired: a defect, to be reported.
    pub stalled_timers: u64,
}

/// What a node knows, for status output.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// The node's own candidates as last announced.
    pub candidates: Option<NodeCandidates>,
    /// What is known of the mapping behaviour of the NAT in front of it.
    pub mapping: ObservedMapping,
    /// The meshes that it has joined, with the epoch of the netmap (0: none yet).
    pub meshes: Vec<(MeshId, u64)>,
    /// Every pair.
    pub pairs: Vec<(SessionKey, PairState)>,
    /// Counters.
    pub stats: Stats,
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        Self {
            config,
            now,
            own: OwnCandidates::new(config.id),
            reflect: ReflectClient::new(ChaCha8Rng::seed_from_u64(config.seed)),
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
        self.now = self.now.max(now);
        match input {
            Input::HostEndpoints(endpoints) => {
                self.own.on_hosts(endpoints);
                self.reflect.check_now(self.now);
                self.on_own_candidates();
            }
            Input::Welcome { observed, reflector, reflector_token } => {
                self.own.on_reflexive(observed);
                self.reflect.on_reflector(self.now, reflector, reflector_token);
                self.on_own_candidates();
            }
            Input::JoinMesh(mesh) => self.on_join(mesh),
            Input::Netmap(netmap) => self.on_netmap(netmap),
            Input::LeaveMesh(mesh) => self.on_leave(mesh),
            Input::Candidates(candidates) => {
                self.with_peer(candidates.node, |peer, ctx| peer.on_candidates(ctx, &candidates));
            }
            Input::Ticket(ticket) => self.on_ticket(&ticket),
            Input::Control { from, bytes } => self.on_control(from, bytes),
            Input::Authenticated { session, via, data: _ } => {
                self.with_session(session, |peer, ctx| {
                    peer.on_authenticated(ctx, session.mesh, via)
                });
            }
            Input::Sent(session) => {
                self.with_session(session, |peer, _| peer.on_sent(session.mesh));
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
        earlier(peers, self.reflect.next_timer())
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
            meshes: self.meshes.iter().map(|(id, mesh)| (*id, mesh.epoch)).collect(),
            pairs: self.peers.values().flat_map(|peer| peer.pairs(&self.own)).collect(),
            stats: self.stats,
        }
    }

    fn on_own_candidates(&mut self) {
        let before = self.own.announced().map(|last| last.candidates.clone());
        let Some(announcement) = self.own.take_announcement() else { return };
        let has_moved = before.is_some_and(|before| before != announcement.candidates);
        self.outputs.push(Output::Announce(announcement));
        if !has_moved {
            return;
        }
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            self.with_peer(id, |peer, ctx| peer.on_local_change(ctx));
        }
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
        self.reflect.check_now(self.now);
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
            self.with_peer(member.node, |peer, ctx| {
                peer.add_session(ctx, own, id, joined_at, &member);
            });
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

    fn on_control(&mut self, from: SocketAddr, bytes: &[u8]) {
        let taken = match ControlFrame::decode(bytes) {
            Ok(ControlFrame::ReflectResponse { nonce, observed }) => {
                self.on_reflected(from, nonce, observed)
            }
            Ok(frame) => self.on_relay_frame(from, &frame),
            Err(_) => false,
        };
        self.stats.control_refused += u64::from(!taken);
    }

    fn on_reflected(&mut self, from: SocketAddr, nonce: [u8; 8], observed: SocketAddr) -> bool {
        let is_active = !self.meshes.is_empty();
        let asked = self.reflect.on_response(self.now, from, nonce, is_active);
        if asked {
            self.own.on_second_reflection(observed);
            self.on_own_candidates();
        }
        asked
    }

    fn on_relay_frame(&mut self, from: SocketAddr, frame: &ControlFrame) -> bool {
        let mut taken_by = None;
        for (id, peer) in &mut self.peers {
            let mut ctx = Context {
                now: self.now,
                own: &self.own,
                outputs: &mut self.outputs,
                stats: &mut self.stats,
            };
            if peer.on_control(&mut ctx, from, frame) {
                taken_by = Some(*id);
                break;
            }
        }
        if let Some(id) = taken_by {
            self.with_peer(id, |_, _| ());
        }
        taken_by.is_some()
    }

    fn on_probe(&mut self, session: SessionKey, via: Path, bytes: &[u8]) {
        match Probe::decode(bytes) {
            Ok(probe) => {
                self.with_session(session, |peer, ctx| peer.on_probe(ctx, session.mesh, via, probe))
            }
            Err(_) => self.stats.probes_refused += 1,
        }
    }

    fn fire_due_timers(&mut self) {
        let is_active = !self.meshes.is_empty();
        if let Some((to, frame)) = self.reflect.fire_due_timers(self.now, is_active) {
            self.outputs.push(Output::Transmit { to, bytes: frame.encode() });
        }
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= self.now
        {
            self.with_peer(id, |_, _| ());
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
        let peer = self.peers.entry(id).or_insert_with(|| {
            *made += 1;
            Peer::new(id, stream_for(seed, id, *made))
        });
        let mut ctx = Context {
            now: self.now,
            own: &self.own,
            outputs: &mut self.outputs,
            stats: &mut self.stats,
        };
        act(peer, &mut ctx);
        peer.fire_due_timers(&mut ctx);
        peer.report_changes(&mut ctx);
        let mut next = peer.next_timer();
        if next.is_some_and(|at| at <= self.now) {
            self.stats.stalled_timers += 1;
            next = Some(self.now + STALLED_TIMER);
        }
        self.set_deadline(id, next);
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
            self.set_deadline(id, None);
        }
    }
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
