//! Peers at work: each is lent what it needs of the node, and its next timer is set when it has done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{MAX_PEERS, Node};
use crate::context::Context;
use crate::peer::Peer;
use crate::relays::MAX_CHANNELS;
use crate::{NodeId, SessionKey};

/// A timer that is due although it has just fired is put off by this. Never happens unless a child is
/// wrong, see [`Stats::stalled_timers`](super::Stats::stalled_timers).
const STALLED_TIMER: Duration = Duration::from_millis(1);

impl Node {
    pub(super) fn with_all_peers(&mut self, mut act: impl FnMut(&mut Peer, &mut Context<'_>)) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            self.with_peer(id, &mut act);
        }
    }

    /// Lets a peer, known or new, do something, then what is due; reports it and sets its timer.
    pub(super) fn with_peer(&mut self, id: NodeId, act: impl FnOnce(&mut Peer, &mut Context<'_>)) {
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
            peers: self.peers.len(),
            budget: &mut self.budget,
            home: self.kept_home,
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
    pub(super) fn with_session(
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

    pub(super) fn set_deadline(&mut self, id: NodeId, at: Option<Instant>) {
        if let Some(old) = self.deadline_of.remove(&id) {
            self.deadlines.remove(&(old, id));
        }
        if let Some(at) = at {
            self.deadline_of.insert(id, at);
            self.deadlines.insert((at, id));
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
