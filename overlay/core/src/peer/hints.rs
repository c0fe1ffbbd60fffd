//! Telling the peer where this node is, without the coordinator: inside the session, through relays
//! and through common peers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Peer;
use crate::context::Context;
use crate::ids::{MeshId, SessionKey};
use crate::io::{Output, Path};
use crate::netmap::{Candidate, CandidateKind, MAX_CANDIDATES};
use crate::wire::Probe;
use crate::wire::probe::Purpose;

/// When this node's whereabouts are told after a change: by the last time the relays know its address.
const GAPS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(600), Duration::from_millis(1800)];

/// How often a peer may ask to pass something on.
const ASK_GAP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hints {
    told: usize,
    due: Option<Instant>,
    asked_at: Option<Instant>,
}

impl Hints {
    /// This node has moved.
    pub(super) fn begin(&mut self, now: Instant) {
        self.told = 0;
        self.due = GAPS.first().map(|gap| now + *gap);
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due
    }

    fn fire(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.told += 1;
            self.due = GAPS.get(self.told).map(|gap| now + *gap);
        }
        is_due
    }
}

impl Peer {
    /// Whether a session of that mesh is up.
    pub(crate) fn is_established_in(&self, mesh: MeshId) -> bool {
        self.sessions.get(&mesh).is_some_and(|session| session.is_established())
    }

    /// The meshes that both are in.
    pub(crate) fn meshes(&self) -> Vec<MeshId> {
        self.sessions.keys().copied().collect()
    }

    /// Nothing speaks against the path in use.
    pub(crate) fn is_heard(&self) -> bool {
        self.selected.as_ref().is_some_and(|selected| !selected.is_doubted())
    }

    /// Where the peer's packets come from, if they come directly.
    pub(crate) fn seen_at(&self) -> Option<SocketAddr> {
        match self.selected.as_ref()?.primary {
            Path::Direct(endpoint) => Some(endpoint),
            Path::Relayed { .. } => None,
        }
    }

    /// The peer, or somebody else about it, names endpoints.
    pub(crate) fn on_hint(&mut self, ctx: &mut Context<'_>, endpoints: &[Option<SocketAddr>]) {
        let kind = CandidateKind::PeerReported;
        let candidates: Vec<_> =
            endpoints.iter().flatten().map(|to| Candidate { endpoint: *to, kind }).collect();
        self.search.on_hint(ctx.now, &candidates, ctx.own, &mut self.rng);
        if let Some(selected) = self.selected.as_mut().filter(|selected| selected.is_direct()) {
            selected.question_now();
        }
    }

    /// Whether the peer may ask to pass something on, this time.
    pub(crate) fn may_ask(&mut self, now: Instant) -> bool {
        let may = self.hints.asked_at.is_none_or(|at| now >= at + ASK_GAP);
        if may {
            self.hints.asked_at = Some(now);
        }
        may
    }

    /// Asks the peer to tell that node where this one is.
    pub(crate) fn ask_to_pass_on(&mut self, ctx: &mut Context<'_>, lost: crate::NodeId) {
        let endpoints = own_endpoints(ctx);
        self.send_hint(ctx, Purpose::PassOn(lost), &endpoints);
    }

    /// Tells the peer, on the path in use and through every relay.
    pub(crate) fn send_hint(
        &mut self,
        ctx: &mut Context<'_>,
        purpose: Purpose,
        endpoints: &[Option<SocketAddr>],
    ) {
        let Some((mesh, _)) = self.sessions.iter().find(|(_, session)| session.is_established())
        else {
            return;
        };
        let mut slots = [None; MAX_CANDIDATES];
        slots.iter_mut().zip(endpoints).for_each(|(slot, endpoint)| *slot = *endpoint);
        let bytes = Probe::Hint { purpose, endpoints: slots }.encode();
        let primary = self.selected.as_ref().map(|selected| selected.primary);
        let relayed = self.relays.bound();
        let direct = primary.filter(|primary| !relayed.contains(primary));
        let session = SessionKey { mesh: *mesh, peer: self.id };
        for via in relayed.into_iter().chain(direct) {
            ctx.outputs.push(Output::Probe { session, via, bytes: bytes.clone() });
        }
    }

    pub(super) fn fire_hints(&mut self, ctx: &mut Context<'_>) {
        if self.hints.fire(ctx.now) {
            let endpoints = own_endpoints(ctx);
            self.send_hint(ctx, Purpose::Here, &endpoints);
        }
    }
}

fn own_endpoints(ctx: &Context<'_>) -> [Option<SocketAddr>; MAX_CANDIDATES] {
    let mut endpoints = [None; MAX_CANDIDATES];
    let known = ctx.own.announced().into_iter().flat_map(|own| &own.candidates);
    endpoints.iter_mut().zip(known).for_each(|(slot, known)| *slot = Some(known.endpoint));
    endpoints
}
