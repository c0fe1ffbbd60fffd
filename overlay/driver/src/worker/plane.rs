//! The data plane's tables: meshes, sessions, selected paths.

mod away;
mod handshakes;
mod inbound;
mod outbound;
mod reporting;
mod sessions;
mod timers;
mod view;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use overlay_core::control::PairReport;
use overlay_core::wire::probe::MESH_MTU;
use overlay_core::{
    MeasuredRelay, MemberKeys, MeshId, Netmap, NodeCandidates, NodeId, Path, SessionKey,
    WireGuardKey,
};

use super::crew::{Crew, Order};
use super::mesh::{MeshPort, Place};
use super::net::Net;
use super::reports::Notice;
use super::session::{Counts, Role, Selected, Session, SessionConfig};
use super::share::Share;
use super::slab::Slab;
use crate::control::Board;
use crate::observe::{Observed, Observer};
use crate::offload::{FRAME_BYTES, Merger, SEGMENT_BYTES};
use crate::stats::Stats;
use away::Away;
use handshakes::Handshakes;
use sessions::Sessions;

/// Peers whose selected path is remembered while no mesh is shared with them. Chosen: four of the
/// largest meshes.
const MAX_REMEMBERED_PATHS: usize = 4096;

/// Everything that packets are handled with.
pub(super) struct Plane {
    pub(super) net: Net,
    /// What the core must hear; taken after every few packets.
    pub(super) notices: VecDeque<Notice>,
    meshes: Slab<MeshPort>,
    mesh_slots: HashMap<MeshId, usize>,
    sessions: Sessions,
    handshakes: Handshakes,
    /// The round of timers is not over: it goes on in the next turn.
    is_ticking: bool,
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
            sessions: Sessions::new(now),
            handshakes: Handshakes::default(),
            is_ticking: false,
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
        let left: Vec<_> = self.sessions.keys().filter(|key| key.mesh == id).collect();
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
        self.sessions.each_of(peer, |session| session.fallback = Some(channel));
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
        let slot = self.sessions.insert(now, session);
        port.add_member(index, peer_key, Place::Here(slot));
    }

    pub(super) fn remove_session(&mut self, key: SessionKey) {
        let Some((slot, session)) = self.sessions.remove(key) else { return };
        if let Some(mesh) = self.meshes.get_mut(session.mesh) {
            mesh.remove_member(session.index, session.peer_key, Place::Here(slot));
            mesh.keep_counts(key.peer, &session.counts);
        }
    }

    pub(super) fn use_path(&mut self, peer: NodeId, primary: Path, also: Option<Path>) {
        let selected = Selected { primary, also };
        self.remember_path(peer, selected);
        let Self { sessions, net, .. } = self;
        sessions.each_of(peer, |session| session.select(net, selected));
    }

    fn remember_path(&mut self, peer: NodeId, selected: Selected) {
        if self.paths.len() >= MAX_REMEMBERED_PATHS {
            let keys = self.sessions.keys().chain(self.away.keys().copied());
            let in_use: HashSet<_> = keys.map(|key| key.peer).collect();
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
        self.sessions.each_of(peer, |session| session.route_mtu = mtu);
    }

    pub(super) fn probe(&mut self, now: Instant, key: SessionKey, via: Path, packet: &[u8]) {
        let Some(slot) = self.sessions.slot(key) else { return };
        self.wake(now, slot);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.probe(&mut self.net, via, packet);
        }
    }

    /// Whether a session of this worker's has no keys.
    pub(super) fn lacks_keys(&self, key: SessionKey) -> bool {
        self.sessions.of_key(key).is_some_and(|session| !session.has_keys())
    }

    /// Sends the owner's ping, once there are keys.
    pub(super) fn ask(&mut self, now: Instant, key: SessionKey, via: Path, packet: &[u8]) {
        let Some(slot) = self.sessions.slot(key) else { return };
        self.wake(now, slot);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.ask(&mut self.net, now, via, packet);
        }
        self.sessions.schedule(now, slot);
    }

    pub(super) fn announce_candidates(&mut self, candidates: NodeCandidates) {
        self.board.update(|board| board.candidates = Some(candidates));
    }

    pub(super) fn announce_relays(&mut self, measured: Vec<MeasuredRelay>) {
        self.board.update(|board| board.measured(measured));
    }

    /// A random number below 2^24 that says whose it is: an outsider cannot guess it, a former session's packets miss it.
    fn unused_receiver(&self) -> u32 {
        loop {
            let receiver = self.share.receiver(rand::random());
            if self.sessions.of_receiver(receiver).is_none() {
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

#[cfg(test)]
mod tests;
