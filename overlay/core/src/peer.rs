//! Everything about one peer: its relay channels, the search for a direct path, the path in use, and
//! a session for each mesh that both are in.

mod by_chance;
mod hints;
mod liveness;
mod probing;
mod report;
mod sleep;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::NodeId;
use crate::chance::Chance;
use crate::context::{Context, earlier};
use crate::ids::{MeshId, SessionKey};
use crate::io::{Output, Path};
use crate::ledger::PingLedger;
use crate::netmap::{Member, NodeCandidates};
use crate::path::{Selected, Surroundings};
use crate::relays::Relays;
use crate::search::Search;
use crate::session::{Initiation, Session};
use crate::wire::{ControlFrame, Ticket};
use hints::Hints;

/// The least time that is given to an answer before its endpoint counts as silent.
const LEAST_PATIENCE: Duration = Duration::from_millis(400);

/// With more peers than this, relays are not asked at once for channels to those that nobody expects to be
/// talked with: a job of hundreds, in which each node talks with a few, has thousands of other pairs.
const FEW_PEERS: usize = 32;

/// For each peer that long: a job of 257 takes less than a minute, and the relay 1,300 requests a second.
const SPREAD_PER_PEER: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    rng: ChaCha8Rng,
    relays: Relays,
    search: Search,
    pings: PingLedger,
    selected: Option<Selected>,
    /// The inner MTU that the driver was told last.
    route_mtu: usize,
    sessions: BTreeMap<MeshId, Session>,
    hints: Hints,
    chance: Chance,
    /// When the pair last had a reason to be awake.
    stirred: Option<Instant>,
    /// It slept, and the peer has not been heard since.
    waking: bool,
}

/// How a session begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joining {
    pub(crate) mesh: MeshId,
    pub(crate) joined_at: Instant,
    /// Nobody expects the two to talk.
    pub(crate) lazy: bool,
}

impl Peer {
    pub(crate) fn new(id: NodeId, rng: ChaCha8Rng) -> Self {
        Self {
            id,
            rng,
            relays: Relays::default(),
            search: Search::new(),
            pings: PingLedger::default(),
            selected: None,
            route_mtu: crate::wire::probe::MESH_MTU,
            sessions: BTreeMap::new(),
            hints: Hints::default(),
            chance: Chance::default(),
            stirred: None,
            waking: false,
        }
    }

    pub(crate) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// A relay channel, new or with a newer ticket.
    pub(crate) fn on_ticket(&mut self, ctx: &Context<'_>, relay: SocketAddr, ticket: Ticket) {
        let is_expected = self.sessions.values().any(|session| !session.is_lazy());
        let start = if ctx.peers <= FEW_PEERS || is_expected {
            ctx.now
        } else {
            let spread = SPREAD_PER_PEER * u32::try_from(ctx.peers).unwrap_or(u32::MAX);
            ctx.now + spread.mul_f64(self.rng.random())
        };
        self.relays.on_ticket((ctx.now, start), relay, ticket, &mut self.rng);
    }

    /// Which relays run: channels at others are forgotten once they are silent.
    pub(crate) fn on_relays_running(&mut self, runs: impl Fn(SocketAddr) -> bool) {
        self.relays.on_running(runs);
    }

    pub(crate) fn on_candidates(&mut self, ctx: &Context<'_>, candidates: &NodeCandidates) {
        let stood = self.search.activity();
        let changed = self.search.on_candidates(ctx.now, candidates, ctx.own, &mut self.rng);
        if changed && self.relays.best().is_none() {
            self.on_path_available(ctx.now);
        }
        let only_word = !changed && self.search.activity() != stood;
        if self.is_asleep() || only_word {
            return;
        }
        // A peer that announces itself may have moved, or may have started again without keys.
        if let Some(selected) = &mut self.selected {
            selected.question_now();
        }
    }

    /// A frame of a relay. Whether it was for one of this peer's channels.
    pub(crate) fn on_control(
        &mut self,
        ctx: &mut Context<'_>,
        from: SocketAddr,
        frame: &ControlFrame,
    ) -> bool {
        let (taken, new) = self.relays.on_frame(from, frame, &mut self.rng, ctx);
        if let Some(path) = new {
            self.on_relay_bound(ctx, path);
        }
        taken
    }

    /// How many of this peer's channels that relay holds.
    pub(crate) fn bound_at(&self, relay: SocketAddr) -> usize {
        self.relays.bound_at(relay)
    }

    /// One keepalive holds every channel at that relay, or does no more.
    pub(crate) fn on_kept(&mut self, ctx: &Context<'_>, relay: SocketAddr, kept: bool) {
        self.relays.set_kept(ctx.now, relay, kept);
    }

    /// That relay sees this node elsewhere from now on.
    pub(crate) fn on_relay_way(&mut self, ctx: &mut Context<'_>, relay: SocketAddr) {
        self.restart_relays(ctx, Some(relay));
    }

    fn restart_relays(&mut self, ctx: &mut Context<'_>, at: Option<SocketAddr>) {
        for path in self.relays.restart(ctx.now, at) {
            ctx.outputs.push(Output::RelayWidth { path, whole: false });
        }
    }

    /// This node's own addresses have changed: everything that depends on them is asked anew.
    pub(crate) fn on_local_change(&mut self, ctx: &mut Context<'_>) {
        self.restart_relays(ctx, None);
        if self.is_asleep() {
            return;
        }
        if let Some(selected) = &mut self.selected {
            selected.question_now();
        }
        self.search.renew(ctx.now, ctx.own, &mut self.rng);
        self.hints.begin(ctx.now);
    }

    /// This machine stood still, for longer than anybody waits: the other side has given it up, and
    /// its keys may be too old.
    pub(crate) fn on_resumed(&mut self, ctx: &mut Context<'_>) {
        self.on_local_change(ctx);
        self.sessions.values_mut().for_each(|session| session.renew_keys(ctx.now));
    }

    pub(crate) fn add_session(
        &mut self,
        ctx: &mut Context<'_>,
        own: NodeId,
        joining: Joining,
        member: &Member,
    ) {
        let Joining { mesh, joined_at, lazy } = joining;
        self.wake(ctx);
        let initiator = own < self.id;
        let session =
            Session::new(ctx.now, joined_at, initiator, member.wireguard_key, member.index, lazy);
        ctx.outputs.push(Output::AddSession {
            session: SessionKey { mesh, peer: self.id },
            peer_key: session.peer_key,
            index: session.index,
            initiator: session.is_initiator(),
            lazy,
        });
        self.sessions.insert(mesh, session);
        if !lazy {
            self.relays.hurry(ctx.now);
        }
        // A further mesh on the same pair begins on the path that the pair already has.
        self.tell_path(ctx);
    }

    /// The two are expected to talk, from now on.
    pub(crate) fn want(&mut self, ctx: &Context<'_>, mesh: MeshId) {
        if let Some(session) = self.sessions.get_mut(&mesh) {
            session.want(ctx.now);
            self.relays.hurry(ctx.now);
        }
    }

    /// The peer's part of that mesh's job has ended, or it is back. Whether the session is known.
    pub(crate) fn on_part_ended(&mut self, mesh: MeshId, ended: bool) -> bool {
        let session = self.sessions.get_mut(&mesh);
        session.map(|session| session.part_ended = ended).is_some()
    }

    pub(crate) fn remove_session(&mut self, ctx: &mut Context<'_>, mesh: MeshId) {
        if self.sessions.remove(&mesh).is_some() {
            ctx.outputs.push(Output::RemoveSession(SessionKey { mesh, peer: self.id }));
        }
        if self.sessions.is_empty() {
            self.search.stop();
            self.selected = None;
            self.pings = PingLedger::default();
            self.end_chance(ctx);
        }
    }

    /// WireGuard opened a packet of that session. Whether the session is known.
    pub(crate) fn on_authenticated(
        &mut self,
        ctx: &mut Context<'_>,
        mesh: MeshId,
        via: Path,
        data: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&mesh) else { return false };
        session.on_authenticated(ctx.now);
        if self.selected.is_none() {
            let path =
                if self.relays.is_bound(via) { via } else { self.relays.best().unwrap_or(via) };
            self.select(ctx, path);
        }
        self.wake_heard(ctx, via);
        self.search.start(ctx.now, ctx.own, &mut self.rng);
        self.on_heard(ctx, via, data);
        true
    }

    /// The job sent packets in that session. Whether the session is known.
    pub(crate) fn on_sent(&mut self, ctx: &mut Context<'_>, mesh: MeshId) -> bool {
        if !self.sessions.contains_key(&mesh) {
            return false;
        }
        self.wake(ctx);
        if let Some(session) = self.sessions.get_mut(&mesh) {
            session.on_sent(ctx.now);
        }
        if self.selected.is_none() {
            self.relays.hurry(ctx.now);
        }
        if let Some(selected) = &mut self.selected {
            selected.on_sent(ctx.now);
            self.search.wake(ctx.now, ctx.own, &mut self.rng);
        }
        true
    }

    pub(crate) fn next_timer(&self, ctx: &Context<'_>) -> Option<Instant> {
        let around = self.surroundings(ctx);
        let (is_wanted, in_use) = self.relays_in_use(ctx.now);
        let relays = self.relays.next_timer(ctx.now, is_wanted, in_use);
        let selected = self.selected.as_ref();
        let selected =
            earlier(selected.and_then(|selected| selected.next_timer(&around)), self.rest_timer());
        let sessions = self.sessions.values().filter_map(Session::next_timer).min();
        let search = earlier(self.search.next_timer(), self.hints.next_timer());
        let search = earlier(earlier(search, self.chance.next_timer()), self.sleep_timer(ctx));
        earlier(earlier(relays, selected), earlier(sessions, search))
    }

    /// Does what is due. Afterwards no timer is due any more.
    pub(crate) fn fire_due_timers(&mut self, ctx: &mut Context<'_>) {
        self.fire_sleep(ctx);
        // The selected path goes first: its silence may call for the relay and for new keys.
        self.fire_selected(ctx);
        let (is_wanted, in_use) = self.relays_in_use(ctx.now);
        for (path, size) in self.relays.fire_due_timers(is_wanted, in_use, &mut self.rng, ctx) {
            self.send_ping(ctx, path, size);
        }
        self.fire_sessions(ctx);
        self.fire_hints(ctx);
        let relay_rtt = self.relays.best().and_then(|best| self.relays.rtt(best));
        let patience = relay_rtt.map_or(LEAST_PATIENCE, |rtt| (rtt * 2).max(LEAST_PATIENCE));
        let is_direct = self.is_direct();
        let pings = self.search.fire_due_timers(patience, is_direct, &mut self.rng, ctx);
        for (endpoint, size) in pings {
            self.send_ping(ctx, Path::Direct(endpoint), size);
        }
        self.fire_chance(ctx);
    }

    fn fire_sessions(&mut self, ctx: &mut Context<'_>) {
        let is_due = |session: &Session| session.next_timer().is_some_and(|due| due <= ctx.now);
        if !self.sessions.values().any(is_due) {
            return;
        }
        let relayed = self.relays.bound();
        let selected = self.selected.as_ref().map(|selected| selected.primary);
        let direct = self.search.announced().filter(|to| ctx.own.may_reach(*to));
        let direct: Vec<Path> = direct.map(Path::Direct).collect();
        for (mesh, session) in &mut self.sessions {
            let has_way = !relayed.is_empty() || selected.is_some();
            let Some(initiation) = session.fire_due_timers(ctx.now, has_way, &mut self.rng) else {
                continue;
            };
            let mut via = relayed.clone();
            via.extend(selected.filter(|path| !relayed.contains(path)));
            if initiation == Initiation::Everywhere {
                via.extend(direct.iter().filter(|path| Some(**path) != selected));
            }
            if !via.is_empty() {
                ctx.stats.initiations += 1;
                let session = SessionKey { mesh: *mesh, peer: self.id };
                ctx.outputs.push(Output::Initiate { session, via });
            }
        }
    }

    fn on_relay_bound(&mut self, ctx: &mut Context<'_>, path: Path) {
        self.on_path_available(ctx.now);
        let Some(selected) = &self.selected else { return };
        let is_better = match selected.primary {
            Path::Relayed { .. } => !self.relays.is_bound(selected.primary),
            // The handshake went out without a relay; what the path carries is not known.
            Path::Direct(endpoint) => {
                !self.search.trial(endpoint).is_some_and(|trial| trial.is_proven())
            }
        };
        if is_better {
            self.select(ctx, path);
        }
    }

    fn on_path_available(&mut self, now: Instant) {
        self.sessions.values_mut().for_each(|session| session.on_path_available(now));
    }

    fn is_direct(&self) -> bool {
        self.selected.as_ref().is_some_and(Selected::is_direct)
    }

    fn surroundings(&self, ctx: &Context<'_>) -> Surroundings {
        let rtt = self.selected.as_ref().and_then(|selected| self.rtt(selected.primary));
        let can_rest = self.relays.best().is_some();
        Surroundings { rtt, can_rest, keepalive: ctx.keepalive }
    }

    /// Smoothed round trip time of a path.
    fn rtt(&self, path: Path) -> Option<Duration> {
        match path {
            Path::Direct(endpoint) => self.search.trial(endpoint).and_then(|trial| trial.rtt()),
            Path::Relayed { .. } => self.relays.rtt(path),
        }
    }
}
