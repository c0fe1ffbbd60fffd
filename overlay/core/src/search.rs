//! The search for a direct path to one peer: which endpoints are on trial, and when again.
//!
//! It starts when the first session with the peer is up, since its pings travel inside it. Every
//! candidate of the peer that is worth it (`plan`), and every endpoint from which an authentic packet
//! of the peer has come (*peer-reflexive*: what a NAT made of the peer's ping to us), gets a
//! [`Trial`]. Both sides do that at the same time, so both NATs are opened from inside.
//!
//! The search is *settled* when a direct path is in use, or when nothing is expected of any endpoint
//! soon while both sides' candidates are known. A search without success is repeated with small
//! budgets after 5 s, 60 s, and then every 10 minutes, as long as the pair has data to send; new
//! candidates renew it at once. A pair without data rests: nothing is sent, nothing is forgotten.

mod plan;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use crate::candidates::OwnCandidates;
use crate::context::{Context, earlier, jittered, rung};
use crate::explain::Evidence;
use crate::netmap::{Activity, Candidate, CandidateKind, MAX_CANDIDATES, NodeCandidates};
use crate::tier::{Standing, Tier};
use crate::trial::{Origin, Trial};
use plan::Known;
pub(crate) use plan::Part;

/// The most endpoints of one peer on trial: its candidates, guesses, and as many peer-reflexive ones.
pub(crate) const MAX_TRIALS: usize = 2 * MAX_CANDIDATES + plan::MAX_GUESSES;

/// Between searches without success (reference: overlay §2.4, t5).
const RETRY_GAPS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
const RETRY_REST: Duration = Duration::from_secs(600);

/// How often the proven paths that are not in use are asked whether they have become better.
const RECHECK: Duration = Duration::from_secs(60);

/// How long an answer speaks for its endpoint when another one falls silent.
const FRESH: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Search {
    started: bool,
    resting: bool,
    settled: bool,
    fell_silent: bool,
    known: Known,
    trials: BTreeMap<SocketAddr, Trial>,
    retries: u32,
    retry_at: Option<Instant>,
    recheck_at: Option<Instant>,
}

impl Search {
    pub(crate) fn new() -> Self {
        Self {
            started: false,
            resting: false,
            settled: false,
            fell_silent: false,
            known: Known::default(),
            trials: BTreeMap::new(),
            retries: 0,
            retry_at: None,
            recheck_at: None,
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// What this node could do for meeting the peer by chance.
    pub(crate) fn part(&self, own: &OwnCandidates) -> Option<Part> {
        self.known.part(own)
    }

    /// What is known of an endpoint.
    pub(crate) fn trial(&self, endpoint: SocketAddr) -> Option<&Trial> {
        self.trials.get(&endpoint)
    }

    /// How an endpoint compares with others.
    pub(crate) fn standing(&self, endpoint: SocketAddr) -> Standing {
        let tier = Tier::of(endpoint, self.known.kind(endpoint));
        Standing { tier, rtt: self.trial(endpoint).and_then(Trial::rtt) }
    }

    /// The best endpoint besides that one which is proven and has answered lately.
    pub(crate) fn alternative(&self, now: Instant, to: SocketAddr) -> Option<SocketAddr> {
        let is_fresh = |trial: &&Trial| trial.endpoint != to && trial.is_proven_within(now, FRESH);
        let rank = |trial: &&Trial| {
            let Standing { tier, rtt } = self.standing(trial.endpoint);
            (tier, rtt)
        };
        self.trials.values().filter(is_fresh).min_by_key(rank).map(|trial| trial.endpoint)
    }

    /// The peer's announced endpoints, for a handshake without a relay.
    pub(crate) fn announced(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.known.candidates().iter().map(|candidate| candidate.endpoint)
    }

    /// The peer's candidates, unless they are those already known.
    ///
    /// The control stream keeps the order, so any other sequence is taken as newer: a peer or a
    /// coordinator that has started again counts anew.
    pub(crate) fn on_candidates(
        &mut self,
        now: Instant,
        candidates: &NodeCandidates,
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        if !self.known.take(candidates) {
            return false;
        }
        let known = &self.known;
        self.trials.retain(|endpoint, trial| {
            trial.is_proven()
                || trial.origin != Origin::Announced
                || known.kind(*endpoint).is_some()
        });
        self.renew(now, own, rng);
        true
    }

    /// What the peer's owner lets its jobs do.
    pub(crate) fn activity(&self) -> Activity {
        self.known.activity()
    }

    /// The peer itself, or another peer, names endpoints: each is worth a trial, nothing more.
    pub(crate) fn on_hint(
        &mut self,
        now: Instant,
        candidates: &[Candidate],
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) {
        for candidate in candidates.iter().take(MAX_CANDIDATES) {
            if own.is_worthwhile(candidate.endpoint, &self.known.seen()) {
                self.poke(now, candidate.endpoint, own, rng);
            }
        }
    }

    /// The first session is up: pings can be sent.
    pub(crate) fn start(&mut self, now: Instant, own: &OwnCandidates, rng: &mut ChaCha8Rng) {
        if !self.started {
            self.started = true;
            self.renew(now, own, rng);
        }
    }

    /// No session is left.
    pub(crate) fn stop(&mut self) {
        let known = std::mem::take(&mut self.known);
        *self = Self { known, ..Self::new() };
    }

    /// Something has changed, here or there: every endpoint gets a whole budget again.
    pub(crate) fn renew(&mut self, now: Instant, own: &OwnCandidates, rng: &mut ChaCha8Rng) {
        if !self.started {
            return;
        }
        self.retries = 0;
        self.retry_at = None;
        let planned = self.known.plan(own);
        for trial in self.trials.values_mut() {
            if trial.origin != Origin::Announced || self.known.kind(trial.endpoint).is_some() {
                trial.renew(now);
            }
        }
        for planned in planned {
            self.add(now, planned.endpoint, planned.origin, planned.delay, own, rng);
        }
        if self.resting {
            self.rest();
        }
    }

    /// An authentic packet of the peer came directly from there. Whether the endpoint is on trial now.
    pub(crate) fn on_peer_ping(
        &mut self,
        now: Instant,
        endpoint: SocketAddr,
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        self.poke(now, endpoint, own, rng)
    }

    fn poke(
        &mut self,
        now: Instant,
        endpoint: SocketAddr,
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        match self.trials.get_mut(&endpoint) {
            Some(trial) => {
                trial.on_peer_ping(now);
                true
            }
            None => self.add(now, endpoint, Origin::PeerReflexive, Duration::ZERO, own, rng),
        }
    }

    /// A ping to that endpoint was answered. Whether the path is proven now.
    pub(crate) fn on_pong(
        &mut self,
        now: Instant,
        endpoint: SocketAddr,
        size: usize,
        took: Duration,
    ) -> bool {
        let Some(trial) = self.trials.get_mut(&endpoint) else { return false };
        trial.on_pong(now, size, took);
        trial.is_proven()
    }

    /// A direct path is in use: the search has succeeded.
    pub(crate) fn on_promoted(&mut self, now: Instant) {
        self.fell_silent = false;
        self.retries = 0;
        self.retry_at = None;
        self.recheck_at = Some(now + RECHECK);
        for trial in self.trials.values_mut() {
            trial.ease();
        }
    }

    /// The direct path in use fell silent. What was proven of other endpoints is of the past too,
    /// but they are tried at once.
    pub(crate) fn on_silent(&mut self, now: Instant, endpoint: SocketAddr) {
        self.fell_silent = true;
        for trial in self.trials.values_mut() {
            trial.reset();
            if trial.endpoint != endpoint {
                trial.renew(now);
            }
        }
    }

    /// The pair has no data: silence, until there is some.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
        self.retry_at = None;
        self.recheck_at = None;
        self.trials.values_mut().for_each(Trial::rest);
        self.settled |= self.started;
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting
    }

    /// The pair has data again: what worked before is tried at once, the rest as after a first failure.
    pub(crate) fn wake(&mut self, now: Instant, own: &OwnCandidates, rng: &mut ChaCha8Rng) {
        if !std::mem::take(&mut self.resting) {
            return;
        }
        // What was announced meanwhile is new.
        for planned in self.known.plan(own) {
            self.add(now, planned.endpoint, planned.origin, planned.delay, own, rng);
        }
        for trial in self.trials.values_mut().filter(|trial| trial.has_carried()) {
            trial.wake(now);
        }
        let gap = rung(&RETRY_GAPS, RETRY_REST, self.retries);
        self.retry_at = Some(now + jittered(rng, gap));
    }

    /// The pings that are due. `patience` is how long their answers may take.
    pub(crate) fn fire_due_timers(
        &mut self,
        patience: Duration,
        is_direct: bool,
        rng: &mut ChaCha8Rng,
        ctx: &mut Context<'_>,
    ) -> Vec<(SocketAddr, usize)> {
        let now = ctx.now;
        if !self.started || self.resting {
            return Vec::new();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.retries = self.retries.saturating_add(1);
            let planned = self.known.plan(ctx.own);
            self.trials.retain(|endpoint, trial| {
                trial.is_answered()
                    || trial.origin == Origin::Announced
                        && planned.iter().any(|planned| planned.endpoint == *endpoint)
            });
            self.trials.values_mut().for_each(|trial| trial.retry(now));
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = is_direct.then_some(now + RECHECK);
            self.trials.values_mut().for_each(|trial| trial.recheck(now));
        }
        let mut due = Vec::new();
        for trial in self.trials.values_mut() {
            if trial.is_due(now)
                && let Err(later) = ctx.budget.admit(now, trial.endpoint)
            {
                ctx.stats.pings_postponed += 1;
                trial.postpone(jitter_after(rng, now, later));
            }
            due.extend(trial.fire_due_timers(now, patience).map(|size| (trial.endpoint, size)));
        }
        let is_known = self.known.is_announced() && ctx.own.is_complete();
        let all_settled = self.trials.values().all(Trial::is_settled);
        self.settled |= is_direct || (is_known && all_settled);
        let rests = self.trials.values().all(Trial::is_at_rest) && !self.trials.is_empty();
        if is_direct {
            self.retry_at = None;
        } else if rests && self.retry_at.is_none() {
            let gap = rung(&RETRY_GAPS, RETRY_REST, self.retries);
            self.retry_at = Some(now + jittered(rng, gap));
        }
        due
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        if self.resting || !self.started {
            return None;
        }
        let trials = self.trials.values().filter_map(Trial::next_timer).min();
        earlier(trials, earlier(self.retry_at, self.recheck_at))
    }

    /// For the sentence that explains a relayed pair.
    pub(crate) fn evidence(&self, own: &OwnCandidates) -> Evidence {
        let small_only = |trial: &&Trial| trial.is_answered() && !trial.is_proven();
        Evidence {
            own_mapping: own.mapping(),
            own_nat: own.nat(),
            peer_mapping: self.known.mapping(),
            peer_nat: self.known.nat(),
            own_known: own.is_complete(),
            peer_known: self.known.is_announced(),
            settled: self.settled,
            resting: self.resting,
            fell_silent: self.fell_silent,
            endpoints: self.trials.len(),
            pings: self.trials.values().map(Trial::sent_ever).sum(),
            small_only: self.trials.values().filter(small_only).count(),
        }
    }

    fn add(
        &mut self,
        now: Instant,
        endpoint: SocketAddr,
        origin: Origin,
        delay: Duration,
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        if !self.started || self.resting || !own.may_reach(endpoint) {
            return false;
        }
        if self.trials.contains_key(&endpoint) {
            return true;
        }
        if self.trials.len() >= MAX_TRIALS && !self.forget_one() {
            return false;
        }
        self.trials.insert(endpoint, Trial::new(now, endpoint, origin, delay, rng));
        true
    }

    /// Makes room by forgetting an endpoint that nobody announced and that has come to nothing.
    fn forget_one(&mut self) -> bool {
        let is_dead = |trial: &&Trial| {
            trial.origin != Origin::Announced && trial.is_at_rest() && !trial.is_answered()
        };
        let dead = self.trials.values().find(is_dead).map(|trial| trial.endpoint);
        dead.is_some_and(|endpoint| self.trials.remove(&endpoint).is_some())
    }
}

/// A little after that time: those that wait for it do not all come at once.
fn jitter_after(rng: &mut ChaCha8Rng, now: Instant, at: Instant) -> Instant {
    let wait = at.saturating_duration_since(now);
    now + wait + jittered(rng, Duration::from_millis(200))
}

/// The kinds that only the peer's NAT gives.
pub(crate) fn is_translated(kind: CandidateKind) -> bool {
    match kind {
        CandidateKind::Reflexive | CandidateKind::PeerReported => true,
        CandidateKind::Host
        | CandidateKind::PortMapped
        | CandidateKind::OperatorSet
        | CandidateKind::Other => false,
    }
}
