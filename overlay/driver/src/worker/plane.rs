//! The data plane's tables: meshes, sessions, selected paths.

mod away;
mod handshakes;
mod inbound;
mod outbound;
mod view;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::control::{PairReport, PathReport};
use overlay_core::ladder::Rung;
use overlay_core::wire::probe::MESH_MTU;
use overlay_core::{
    MeasuredRelay, MemberKeys, MeshId, Netmap, NodeCandidates, NodeId, PairState, Path, SessionKey,
    WireGuardKey,
};

use super::crew::{Crew, Order};
use super::mesh::{MeshPort, Pair, Place};
use super::net::Net;
use super::receivers::Receivers;
use super::reports::Notice;
use super::session::{Counts, Expired, Role, Selected, Session, SessionConfig};
use super::share::Share;
use super::slab::Slab;
use crate::control::Board;
use crate::observe::{self, Observed, Observer};
use crate::offload::{FRAME_BYTES, Merger, SEGMENT_BYTES};
use crate::stats::Stats;
use away::Away;
use handshakes::Handshakes;

/// Peers whose selected path is remembered while no mesh is shared with them. Chosen: four of the
/// largest meshes.
const MAX_REMEMBERED_PATHS: usize = 4096;

/// How often reports are made anew although nothing but byte counts changed.
const REPORT_REFRESH: Duration = Duration::from_secs(1);

/// How often an observer is told how the pairs stand, and how often where a mesh has many of them.
/// Chosen: finer than a reader of a figure sees, and no more than a disk takes beside other work.
const OBSERVE_EVERY: Duration = Duration::from_millis(200);
const OBSERVE_MANY_EVERY: Duration = Duration::from_millis(500);
/// More pairs of one mesh than this are many.
const MANY_PAIRS: usize = 32;

/// Everything that packets are handled with.
pub(super) struct Plane {
    pub(super) net: Net,
    /// What the core must hear; taken after every few packets.
    pub(super) notices: VecDeque<Notice>,
    meshes: Slab<MeshPort>,
    mesh_slots: HashMap<MeshId, usize>,
    sessions: Slab<Session>,
    session_slots: HashMap<SessionKey, usize>,
    receivers: Receivers,
    handshakes: Handshakes,
    /// The session that the round of timers goes on with, if it is not over.
    tick_from: Option<usize>,
    /// Which peers' sessions are here.
    share: Share,
    /// The workers that have the others'.
    pub(super) crew: Crew,
    away: Away,
    paths: HashMap<NodeId, Selected>,
    /// What the selected paths carry, where that is less than usual.
    mtus: HashMap<NodeId, usize>,
    /// The relay channels of the peers, by the newest ticket.
    channels: HashMap<NodeId, Path>,
    merger: Merger<usize>,
    /// The packet that was opened last, behind room for the virtio header.
    plain: Box<[u8]>,
    /// The frame that was read last from a device.
    frame: Box<[u8]>,
    scratch: Box<[u8; SEGMENT_BYTES]>,
    board: Arc<Board>,
    refreshed: Instant,
    /// Told of what happens, if anybody wants to know.
    pub(super) observer: Option<Observer>,
    observed: Instant,
}

impl Plane {
    /// `share` says which sessions are this worker's; `crew` has the others, unless there are none or this is
    /// one of it.
    pub(super) fn new(net: Net, board: Arc<Board>, now: Instant, share: Share, crew: Crew) -> Self {
        Self {
            net,
            notices: VecDeque::new(),
            meshes: Slab::new(),
            mesh_slots: HashMap::new(),
            sessions: Slab::new(),
            session_slots: HashMap::new(),
            receivers: Receivers::default(),
            handshakes: Handshakes::default(),
            tick_from: None,
            share,
            crew,
            away: Away::default(),
            paths: HashMap::new(),
            mtus: HashMap::new(),
            channels: HashMap::new(),
            merger: Merger::new(usize::MAX),
            plain: vec![0; FRAME_BYTES].into_boxed_slice(),
            frame: vec![0; FRAME_BYTES].into_boxed_slice(),
            scratch: Box::new([0; SEGMENT_BYTES]),
            board,
            refreshed: now,
            observer: None,
            observed: now,
        }
    }

    /// Tells the observer, if there is one.
    pub(super) fn observe(&mut self, observed: impl FnOnce() -> Observed) {
        if let Some(observer) = &mut self.observer {
            observer(&observed());
        }
    }

    /// Takes what the other workers' sessions noticed.
    pub(super) fn hear_crew(&mut self) {
        self.crew.hear(&mut self.notices);
    }

    /// The counters of all workers.
    pub(super) fn stats(&self) -> Stats {
        self.net.stats.plus(&self.crew.stats())
    }

    pub(super) fn has_sessions(&self) -> bool {
        !self.session_slots.is_empty() || !self.away.is_empty()
    }

    pub(super) fn meshes(&self) -> impl Iterator<Item = (usize, &MeshPort)> {
        self.meshes.iter()
    }

    pub(super) fn mesh(&mut self, id: MeshId) -> Option<&mut MeshPort> {
        self.meshes.get_mut(*self.mesh_slots.get(&id)?)
    }

    pub(super) fn add_mesh(&mut self, mesh: MeshPort) {
        let keys = MemberKeys { wireguard: mesh.secret.public(), host: mesh.host };
        self.board.update(|board| board.join(mesh.id, keys));
        let id = mesh.id;
        let slot = self.meshes.insert(mesh);
        self.mesh_slots.insert(id, slot);
        self.observe(|| Observed::Joined(id));
    }

    /// Takes a newer netmap's version and this node's index over. Returns false for an old netmap.
    pub(super) fn apply_netmap(&mut self, node: NodeId, netmap: &Netmap) -> bool {
        let version = (netmap.era, netmap.epoch);
        let Some(mesh) = self.mesh(netmap.mesh).filter(|mesh| version > mesh.version) else {
            return false;
        };
        let is_other_era = mesh.version.0 != netmap.era;
        mesh.version = version;
        mesh.netmap = Some(netmap.clone());
        if let Some(member) = netmap.members.iter().find(|member| member.node == node) {
            mesh.set_own_index(member.index);
            let (id, index) = (mesh.id, member.index);
            self.crew.order_all(|| Order::OwnIndex(id, index));
        }
        if is_other_era {
            // A coordinator that was started anew knows nothing of the pairs.
            self.board.update(|board| board.report_again(netmap.mesh));
        }
        true
    }

    /// Forgets a mesh and what is left of its sessions.
    pub(super) fn remove_mesh(&mut self, id: MeshId, report: Vec<PairReport>) {
        let Some(slot) = self.mesh_slots.remove(&id) else { return };
        let of_mesh = |key: &&SessionKey| key.mesh == id;
        let left: Vec<_> = self.session_slots.keys().filter(of_mesh).copied().collect();
        for key in left {
            self.remove_session(key);
        }
        for key in self.away.sessions_of(id) {
            self.forget_away(key);
        }
        self.crew.order_all(|| Order::Leave(id));
        self.meshes.remove(slot);
        self.observe(|| Observed::Pairs { mesh: id, pairs: report.clone() });
        self.observe(|| Observed::Left(id));
        self.board.update(|board| board.leave(id, report));
    }

    /// The coordinator gave a relay channel to a peer.
    pub(super) fn add_channel(&mut self, peer: NodeId, channel: Path) {
        if self.channels.len() < MAX_REMEMBERED_PATHS {
            self.channels.insert(peer, channel);
        }
        let owner = self.share.owner(peer);
        if !self.share.is_own(owner) {
            self.crew.order(owner, Order::Channel(peer, channel));
        }
        for (_, session) in self.sessions.iter_mut().filter(|(_, s)| s.key.peer == peer) {
            session.fallback = Some(channel);
        }
    }

    pub(super) fn add_session(&mut self, now: Instant, names: SessionNames, counts: Arc<Counts>) {
        let SessionNames { key, peer_key, index, role } = names;
        self.remove_session(key);
        let receiver = self.unused_receiver();
        let Some(&mesh) = self.mesh_slots.get(&key.mesh) else { return };
        let Some(port) = self.meshes.get_mut(mesh) else { return };
        let config = SessionConfig { key, mesh, index, peer_key, role, counts };
        let mut session = Session::new(now, config, port.secret.inner(), receiver);
        session.fallback = self.channels.get(&key.peer).copied();
        if let Some(mtu) = self.mtus.get(&key.peer) {
            session.route_mtu = *mtu;
        }
        if let Some(selected) = self.paths.get(&key.peer) {
            session.select(&mut self.net, *selected);
        }
        let slot = self.sessions.insert(session);
        self.session_slots.insert(key, slot);
        self.receivers.insert(receiver, slot);
        port.add_member(index, peer_key, Place::Here(slot));
    }

    pub(super) fn remove_session(&mut self, key: SessionKey) {
        let Some(slot) = self.session_slots.remove(&key) else { return };
        let Some(session) = self.sessions.remove(slot) else { return };
        self.receivers.remove(&session.receiver);
        if let Some(mesh) = self.meshes.get_mut(session.mesh) {
            mesh.remove_member(session.index, session.peer_key, Place::Here(slot));
            mesh.keep_counts(key.peer, &session.counts);
        }
    }

    pub(super) fn use_path(&mut self, peer: NodeId, primary: Path, also: Option<Path>) {
        let selected = Selected { primary, also };
        self.remember_path(peer, selected);
        for (_, session) in self.sessions.iter_mut().filter(|(_, s)| s.key.peer == peer) {
            session.select(&mut self.net, selected);
        }
    }

    fn remember_path(&mut self, peer: NodeId, selected: Selected) {
        if self.paths.len() >= MAX_REMEMBERED_PATHS {
            let keys = self.session_slots.keys().chain(self.away.keys());
            let in_use: Vec<_> = keys.map(|key| key.peer).collect();
            self.paths.retain(|peer, _| in_use.contains(peer));
        }
        self.paths.insert(peer, selected);
    }

    /// Longer packets do not pass on the path to that peer.
    pub(super) fn set_route_mtu(&mut self, peer: NodeId, mtu: usize) {
        if mtu >= MESH_MTU {
            self.mtus.remove(&peer);
        } else if self.mtus.len() < MAX_REMEMBERED_PATHS {
            self.mtus.insert(peer, mtu);
        }
        for (_, session) in self.sessions.iter_mut().filter(|(_, s)| s.key.peer == peer) {
            session.route_mtu = mtu;
        }
    }

    pub(super) fn probe(&mut self, key: SessionKey, via: Path, packet: &[u8]) {
        let slot = self.session_slots.get(&key).copied();
        if let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) {
            session.probe(&mut self.net, via, packet);
        }
    }

    pub(super) fn announce_candidates(&mut self, candidates: NodeCandidates) {
        self.board.update(|board| board.candidates = Some(candidates));
    }

    pub(super) fn announce_relays(&mut self, measured: Vec<MeasuredRelay>) {
        self.board.update(|board| board.measured(measured));
    }

    pub(super) fn pair_changed(&mut self, key: SessionKey, state: PairState) {
        let is_observed = self.observer.is_some();
        let Some(port) = self.mesh(key.mesh) else { return };
        port.changed = true;
        let before = port.pairs.entry(key.peer).or_default().state.replace(state.clone());
        if !is_observed || !observe::is_news(before.as_ref(), &state) {
            return;
        }
        let mut members = port.netmap.iter().flat_map(|netmap| &netmap.members);
        let member = members.find(|member| member.node == key.peer);
        let member = member.map(|member| (member.name.clone(), member.index));
        let PairReport { path, rtt_us, .. } = state.report(key.peer, 0, 0);
        let reason = observe::reason(&state, path);
        let (mesh, peer) = (key.mesh, key.peer);
        self.observe(|| Observed::Path { mesh, peer, member, path, rtt_us, reason });
    }

    /// How the pairs of a mesh stand, with the bytes counted so far.
    pub(super) fn pairs(&self, id: MeshId) -> Vec<PairReport> {
        let mesh = self.mesh_slots.get(&id).and_then(|slot| self.meshes.get(*slot));
        let Some(mesh) = mesh else { return Vec::new() };
        let detour = self.net.socket.detour();
        let is_open = detour.is_open();
        let report = |(peer, pair): (&NodeId, &Pair)| {
            let key = SessionKey { mesh: id, peer: *peer };
            let session = self.session_slots.get(&key).and_then(|slot| self.sessions.get(*slot));
            let counts = session.map(|session| &session.counts).or_else(|| self.away.counts(key));
            let (sent, received) = counts.map_or((0, 0), |counts| counts.read());
            let state = pair.state.as_ref()?;
            let sent = pair.sent_before + sent;
            let mut report = state.report(*peer, sent, pair.received_before + received);
            if is_open
                && let PathReport::Relayed { relay } = report.path
                && let Some(rung) = detour.leads_to(relay)
            {
                report.explain = explain_way(rung, &report.explain);
            }
            Some(report)
        };
        mesh.pairs.iter().filter_map(report).collect()
    }

    /// Puts the reports that changed on the board.
    pub(super) fn publish(&mut self, now: Instant) {
        let refresh = now.duration_since(self.refreshed) >= REPORT_REFRESH;
        if refresh {
            self.refreshed = now;
        }
        let stale: Vec<MeshId> =
            self.meshes.iter().filter(|(_, m)| m.changed || refresh).map(|(_, m)| m.id).collect();
        for id in stale {
            self.publish_mesh(id);
        }
    }

    /// Puts a mesh's report on the board, and returns it.
    pub(super) fn publish_mesh(&mut self, id: MeshId) -> Vec<PairReport> {
        let pairs = self.pairs(id);
        if let Some(mesh) = self.mesh(id) {
            mesh.changed = false;
            self.board.update(|board| board.report(id, pairs.clone()));
        }
        pairs
    }

    /// Tells the observer how the pairs stand, if it is time to.
    fn observe_pairs(&mut self, now: Instant) {
        if self.observer.is_none() || now.duration_since(self.observed) < OBSERVE_EVERY {
            return;
        }
        let has_many = self.meshes.iter().any(|(_, mesh)| mesh.pairs.len() > MANY_PAIRS);
        if has_many && now.duration_since(self.observed) < OBSERVE_MANY_EVERY {
            return;
        }
        self.observed = now;
        let meshes: Vec<MeshId> = self.meshes.iter().map(|(_, mesh)| mesh.id).collect();
        for mesh in meshes {
            let pairs = self.pairs(mesh);
            self.observe(|| Observed::Pairs { mesh, pairs });
        }
    }

    /// WireGuard's timers and the reports that were held back; every 100 ms. Where many sessions begin handshakes,
    /// as when their keys are equally old, the round goes on in the next turns.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.tick_from.is_none() {
            for (_, mesh) in self.meshes.iter_mut() {
                // It looks at the clock itself and starts anew once a second.
                mesh.limiter.reset_count();
            }
            self.observe_pairs(now);
        }
        let mut begun = 0;
        for slot in self.tick_from.take().unwrap_or(0)..self.sessions.slots() {
            if begun == handshakes::PER_TURN {
                self.tick_from = Some(slot);
                return;
            }
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            match session.tick(&mut self.net, now, &mut self.notices) {
                Ok(has_begun) => begun += usize::from(has_begun),
                Err(Expired) => self.renew(slot),
            }
        }
    }

    fn renew(&mut self, slot: usize) {
        let receiver = self.unused_receiver();
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(mesh) = self.meshes.get(session.mesh) else { return };
        self.receivers.remove(&session.receiver);
        self.receivers.insert(receiver, slot);
        session.renew(mesh.secret.inner(), receiver);
    }

    /// A random number below 2^24 that says whose it is: an outsider cannot guess it, a former session's packets miss it.
    fn unused_receiver(&self) -> u32 {
        loop {
            let receiver = self.share.receiver(rand::random());
            if !self.receivers.contains_key(&receiver) {
                return receiver;
            }
        }
    }
}

/// The names of a new session.
#[derive(Clone, Copy)]
pub(super) struct SessionNames {
    pub(super) key: SessionKey,
    pub(super) peer_key: WireGuardKey,
    /// The peer's index in the mesh.
    pub(super) index: u16,
    pub(super) role: Role,
}

/// Why a pair is relayed, and why by that way.
fn explain_way(rung: Rung, explain: &str) -> String {
    if rung.is_stream() {
        // There is no other reason, and nothing else to be done about it.
        return format!("this node's network lets no UDP through: relayed over {rung}");
    }
    format!("{explain} (this node's packets to the relay go in {rung}, since plain UDP does worse)")
}

#[cfg(test)]
mod tests;
