//! Everything about one peer: its relay channel, the search for a direct path, the path in use, and
//! a session for each mesh that both are in.

mod report;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::NodeId;
use crate::context::{Context, earlier};
use crate::ids::{MeshId, SessionKey};
use crate::io::{Output, Path};
use crate::ledger::{Ping, PingLedger};
use crate::netmap::{Member, NodeCandidates};
use crate::path::{Due, Selected};
use crate::relay_client::RelayChannel;
use crate::search::Search;
use crate::session::{Initiation, Session};
use crate::wire::probe::MIN_PING;
use crate::wire::{ControlFrame, Probe, Ticket};

/// How much faster another direct path must be to replace the one in use (reference: iroh, 5 ms).
const FASTER_BY: Duration = Duration::from_millis(5);

/// The least time that is given to an answer before its endpoint counts as silent.
const LEAST_PATIENCE: Duration = Duration::from_millis(400);

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    rng: ChaCha8Rng,
    relay: Option<RelayChannel>,
    relay_rtt: Option<Duration>,
    search: Search,
    pings: PingLedger,
    selected: Option<Selected>,
    sessions: BTreeMap<MeshId, Session>,
}

impl Peer {
    pub(crate) fn new(id: NodeId, rng: ChaCha8Rng) -> Self {
        Self {
            id,
            rng,
            relay: None,
            relay_rtt: None,
            search: Search::new(),
            pings: PingLedger::default(),
            selected: None,
            sessions: BTreeMap::new(),
        }
    }

    pub(crate) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// A relay channel, new or with a newer ticket.
    pub(crate) fn on_ticket(&mut self, ctx: &Context<'_>, relay: SocketAddr, ticket: Ticket) {
        let renewed = self.relay.as_mut().is_some_and(|channel| channel.renew(relay, ticket));
        if !renewed {
            self.relay = Some(RelayChannel::new(ctx.now, relay, ticket));
        }
    }

    pub(crate) fn on_candidates(&mut self, ctx: &Context<'_>, candidates: &NodeCandidates) {
        let changed = self.search.on_candidates(ctx.now, candidates, ctx.own, &mut self.rng);
        let is_bound = self.relay.as_ref().is_some_and(RelayChannel::is_bound);
        if changed && !is_bound {
            self.on_path_available(ctx.now);
        }
        // A peer that announces itself may have moved, or may have started again without keys.
        if let Some(selected) = &mut self.selected {
            selected.question_now();
        }
    }

    /// A frame of a relay. Whether it was for this peer's channel.
    pub(crate) fn on_control(
        &mut self,
        ctx: &mut Context<'_>,
        from: SocketAddr,
        frame: &ControlFrame,
    ) -> bool {
        let Some(channel) = &mut self.relay else { return false };
        let was_bound = channel.is_bound();
        let taken = channel.on_frame(from, frame, &mut self.rng, ctx);
        if !was_bound && channel.is_bound() {
            let path = channel.path();
            self.on_relay_bound(ctx, path);
        }
        taken
    }

    /// This node's own addresses have changed: everything that depends on them is asked anew.
    pub(crate) fn on_local_change(&mut self, ctx: &Context<'_>) {
        if let Some(channel) = &mut self.relay {
            channel.refresh_now(ctx.now);
        }
        if let Some(selected) = &mut self.selected {
            selected.question_now();
        }
        self.search.renew(ctx.now, ctx.own, &mut self.rng);
    }

    pub(crate) fn add_session(
        &mut self,
        ctx: &mut Context<'_>,
        own: NodeId,
        mesh: MeshId,
        joined_at: Instant,
        member: &Member,
    ) {
        let initiator = own < self.id;
        let session =
            Session::new(ctx.now, joined_at, initiator, member.wireguard_key, member.index);
        ctx.outputs.push(Output::AddSession {
            session: SessionKey { mesh, peer: self.id },
            peer_key: session.peer_key,
            index: session.index,
            initiator: session.is_initiator(),
        });
        self.sessions.insert(mesh, session);
        // A further mesh on the same pair begins on the path that the pair already has.
        self.tell_path(ctx);
    }

    pub(crate) fn remove_session(&mut self, ctx: &mut Context<'_>, mesh: MeshId) {
        if self.sessions.remove(&mesh).is_some() {
            ctx.outputs.push(Output::RemoveSession(SessionKey { mesh, peer: self.id }));
        }
        if self.sessions.is_empty() {
            self.search.stop();
            self.selected = None;
            self.pings = PingLedger::default();
        }
    }

    /// WireGuard opened a packet of that session. Whether the session is known.
    pub(crate) fn on_authenticated(
        &mut self,
        ctx: &mut Context<'_>,
        mesh: MeshId,
        via: Path,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&mesh) else { return false };
        session.on_authenticated(ctx.now);
        if self.selected.is_none() {
            let relay = self.relay.as_ref().filter(|channel| channel.is_bound());
            let path = relay.map_or(via, RelayChannel::path);
            self.select(ctx, path);
        }
        self.search.start(ctx.now, ctx.own, &mut self.rng);
        true
    }

    /// The job sent packets in that session. Whether the session is known.
    pub(crate) fn on_sent(&mut self, mesh: MeshId) -> bool {
        let known = self.sessions.contains_key(&mesh);
        if let Some(selected) = self.selected.as_mut().filter(|_| known) {
            selected.on_sent();
        }
        known
    }

    /// A probe came in that session. Whether the session is known.
    pub(crate) fn on_probe(
        &mut self,
        ctx: &mut Context<'_>,
        mesh: MeshId,
        via: Path,
        probe: Probe,
    ) -> bool {
        if !self.on_authenticated(ctx, mesh, via) {
            return false;
        }
        match probe {
            Probe::Ping { transaction, .. } => self.on_ping(ctx, mesh, via, transaction),
            Probe::Pong { transaction, .. } => self.on_pong(ctx, via, transaction),
        }
        true
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let relay = self.relay.as_ref().map(RelayChannel::next_timer);
        let selected = self.selected.as_ref().and_then(Selected::next_timer);
        let sessions = self.sessions.values().filter_map(Session::next_timer).min();
        earlier(earlier(relay, selected), earlier(sessions, self.search.next_timer()))
    }

    /// Does what is due. Afterwards no timer is due any more.
    pub(crate) fn fire_due_timers(&mut self, ctx: &mut Context<'_>) {
        // The selected path goes first: its silence may call for the relay and for new keys.
        self.fire_selected(ctx);
        if let Some(channel) = &mut self.relay {
            channel.fire_due_timers(&mut self.rng, ctx);
        }
        self.fire_sessions(ctx);
        let patience = self.relay_rtt.map_or(LEAST_PATIENCE, |rtt| (rtt * 2).max(LEAST_PATIENCE));
        let is_direct = self.is_direct();
        let pings =
            self.search.fire_due_timers(ctx.now, patience, is_direct, ctx.own, &mut self.rng);
        for (endpoint, size) in pings {
            self.send_ping(ctx, Path::Direct(endpoint), size);
        }
    }

    fn fire_sessions(&mut self, ctx: &mut Context<'_>) {
        let relay = self.relay.as_ref().filter(|channel| channel.is_bound());
        let relay = relay.map(RelayChannel::path);
        let selected = self.selected.as_ref().map(|selected| selected.primary);
        let direct = self.search.announced().iter().filter(|to| ctx.own.may_reach(**to));
        let direct: Vec<Path> = direct.copied().map(Path::Direct).collect();
        for (mesh, session) in &mut self.sessions {
            let has_way = relay.is_some() || selected.is_some();
            let Some(initiation) = session.fire_due_timers(ctx.now, has_way, &mut self.rng) else {
                continue;
            };
            let mut via: Vec<Path> = relay.into_iter().collect();
            via.extend(selected.filter(|path| Some(*path) != relay));
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

    fn fire_selected(&mut self, ctx: &mut Context<'_>) {
        let Some(selected) = &mut self.selected else { return };
        for due in selected.fire_due_timers(ctx.now) {
            match due {
                Due::Ping => {
                    if let Some(path) = self.selected.as_ref().map(|selected| selected.primary) {
                        self.send_ping(ctx, path, MIN_PING);
                    }
                }
                Due::Doubt => self.doubt(ctx),
                Due::GiveUp => self.give_up(ctx),
                Due::RefreshRelay => {
                    if let Some(channel) = &mut self.relay {
                        channel.refresh_now(ctx.now);
                    }
                }
                Due::RenewKeys => {
                    self.sessions.values_mut().for_each(|session| session.renew_keys(ctx.now));
                }
            }
        }
    }

    fn on_relay_bound(&mut self, ctx: &mut Context<'_>, path: Path) {
        self.on_path_available(ctx.now);
        let Some(selected) = &self.selected else { return };
        let is_better = match selected.primary {
            Path::Relayed { .. } => selected.primary != path,
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

    fn on_ping(&mut self, ctx: &mut Context<'_>, mesh: MeshId, via: Path, transaction: [u8; 8]) {
        let observed = match via {
            Path::Direct(endpoint) => Some(endpoint),
            Path::Relayed { .. } => None,
        };
        ctx.outputs.push(Output::Probe {
            session: SessionKey { mesh, peer: self.id },
            via,
            bytes: Probe::Pong { transaction, observed }.encode(),
        });
        if let Some(endpoint) = observed
            && !self.search.on_peer_ping(ctx.now, endpoint, ctx.own, &mut self.rng)
        {
            ctx.stats.endpoints_refused += 1;
        }
    }

    fn on_pong(&mut self, ctx: &mut Context<'_>, via: Path, transaction: [u8; 8]) {
        let Some(ping) = self.pings.settle(transaction, via) else {
            ctx.stats.probes_refused += 1;
            return;
        };
        let took = ctx.now.saturating_duration_since(ping.sent_at);
        if self.selected.as_mut().is_some_and(|selected| selected.on_pong(ping.path)) {
            self.tell_path(ctx);
        }
        match ping.path {
            Path::Relayed { .. } => {
                self.relay_rtt = Some(self.relay_rtt.map_or(took, |rtt| (rtt * 7 + took) / 8));
            }
            Path::Direct(endpoint) => {
                if self.search.on_pong(ctx.now, endpoint, ping.size, took)
                    && self.is_better(endpoint)
                {
                    ctx.stats.promotions += 1;
                    self.select(ctx, Path::Direct(endpoint));
                    self.search.on_promoted();
                }
            }
        }
    }

    /// Whether a proven endpoint is to replace the path in use.
    fn is_better(&self, endpoint: SocketAddr) -> bool {
        let rtt = |endpoint| self.search.trial(endpoint).and_then(|trial| trial.rtt());
        match self.selected.as_ref().map(|selected| selected.primary) {
            Some(Path::Direct(current)) if current == endpoint => false,
            Some(Path::Direct(current)) => match (rtt(endpoint), rtt(current)) {
                (Some(new), Some(old)) => new + FASTER_BY < old,
                (Some(_), None) => true,
                (None, _) => false,
            },
            Some(Path::Relayed { .. }) | None => true,
        }
    }

    fn doubt(&mut self, ctx: &mut Context<'_>) {
        let relay = self.relay.as_ref().filter(|channel| channel.is_bound());
        let relay = relay.map(RelayChannel::path);
        if let (Some(selected), Some(relay)) = (&mut self.selected, relay) {
            selected.also = Some(relay);
            self.tell_path(ctx);
        }
    }

    fn give_up(&mut self, ctx: &mut Context<'_>) {
        let relay = self.relay.as_ref().filter(|channel| channel.is_bound());
        let Some(relay) = relay.map(RelayChannel::path) else {
            // There is nothing to fall back to: look for another way.
            self.search.renew(ctx.now, ctx.own, &mut self.rng);
            return;
        };
        if let Some(Path::Direct(endpoint)) = self.selected.as_ref().map(|now| now.primary) {
            self.search.on_silent(ctx.now, endpoint);
        }
        ctx.stats.demotions += 1;
        self.select(ctx, relay);
    }

    fn is_direct(&self) -> bool {
        self.selected.as_ref().is_some_and(Selected::is_direct)
    }

    fn select(&mut self, ctx: &mut Context<'_>, path: Path) {
        self.selected = Some(Selected::new(ctx.now, path));
        self.tell_path(ctx);
    }

    fn tell_path(&self, ctx: &mut Context<'_>) {
        if let Some(Selected { primary, also, .. }) = self.selected {
            ctx.outputs.push(Output::UsePath { peer: self.id, primary, also });
        }
    }

    /// Sends a ping in any session that is up.
    fn send_ping(&mut self, ctx: &mut Context<'_>, path: Path, size: usize) {
        let session = self.sessions.iter().find(|(_, session)| session.is_established());
        let Some((mesh, _)) = session else { return };
        let transaction = self.rng.random();
        self.pings.note(Ping { transaction, path, size, sent_at: ctx.now });
        ctx.stats.pings_sent += 1;
        ctx.outputs.push(Output::Probe {
            session: SessionKey { mesh: *mesh, peer: self.id },
            via: path,
            bytes: Probe::Ping { transaction, size }.encode(),
        });
    }
}
