//! The search for a direct path to one peer: which endpoints are on trial, and when again.
//!
//! It starts when the first session with the peer is up, since its pings travel inside it. Every
//! candidate that the peer has announced, and every endpoint from which an authentic ping of the peer
//! has come (*peer-reflexive*: what a NAT made of the peer's ping to us), gets a [`Trial`]. Both
//! sides do that at the same time, so both NATs are opened from inside. The search is *settled* when a
//! direct path is in use, or when nothing is expected of any endpoint soon while both sides'
//! candidates are known. A search without success rests and is repeated with small budgets after
//! 5 s, 60 s, and then every 10 minutes; new candidates renew it at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use crate::candidates::OwnCandidates;
use crate::context::{earlier, jittered, rung};
use crate::explain::Evidence;
use crate::netmap::{MAX_CANDIDATES, NodeCandidates, ObservedMapping};
use crate::trial::{Origin, Trial};

/// The most endpoints of one peer on trial: its candidates and as many peer-reflexive ones.
pub(crate) const MAX_TRIALS: usize = 2 * MAX_CANDIDATES;

/// Between searches without success (reference: overlay §2.4, t5).
const RETRY_GAPS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
const RETRY_REST: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub(crate) struct Search {
    started: bool,
    settled: bool,
    fell_silent: bool,
    /// Of the candidates that were taken last.
    sequence: Option<u64>,
    mapping: ObservedMapping,
    announced: Vec<SocketAddr>,
    trials: BTreeMap<SocketAddr, Trial>,
    retries: u32,
    retry_at: Option<Instant>,
}

impl Search {
    pub(crate) fn new() -> Self {
        Self {
            started: false,
            settled: false,
            fell_silent: false,
            sequence: None,
            mapping: ObservedMapping::Unknown,
            announced: Vec::new(),
            trials: BTreeMap::new(),
            retries: 0,
            retry_at: None,
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// What is known of an endpoint.
    pub(crate) fn trial(&self, endpoint: SocketAddr) -> Option<&Trial> {
        self.trials.get(&endpoint)
    }

    /// The peer's announced endpoints, for a handshake without a relay.
    pub(crate) fn announced(&self) -> &[SocketAddr] {
        &self.announced
    }

    /// The peer's candidates, unless they are those already known.
    ///
    /// The control stream keeps the order, so any other sequence is taken as newer: a peer that
    /// has started again counts from 1.
    pub(crate) fn on_candidates(
        &mut self,
        now: Instant,
        candidates: &NodeCandidates,
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let mut announced: Vec<SocketAddr> =
            candidates.candidates.iter().map(|candidate| candidate.endpoint).collect();
        announced.truncate(MAX_CANDIDATES);
        if self.sequence == Some(candidates.sequence)
            && self.announced == announced
            && self.mapping == candidates.mapping
        {
            return false;
        }
        self.sequence = Some(candidates.sequence);
        self.mapping = candidates.mapping;
        self.announced = announced;
        let announced = &self.announced;
        self.trials.retain(|endpoint, trial| {
            trial.is_proven() || trial.origin != Origin::Announced || announced.contains(endpoint)
        });
        self.renew(now, own, rng);
        true
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
        self.started = false;
        self.settled = false;
        self.fell_silent = false;
        self.retries = 0;
        self.retry_at = None;
        self.trials.clear();
    }

    /// Something has changed, here or there: every endpoint gets a whole budget again.
    pub(crate) fn renew(&mut self, now: Instant, own: &OwnCandidates, rng: &mut ChaCha8Rng) {
        if !self.started {
            return;
        }
        self.retries = 0;
        self.retry_at = None;
        for trial in self.trials.values_mut() {
            trial.renew(now);
        }
        for endpoint in self.announced.clone() {
            self.add(now, endpoint, Origin::Announced, own, rng);
        }
    }

    /// An authentic ping of the peer came directly from there. Whether the endpoint is on trial now.
    pub(crate) fn on_peer_ping(
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
            None => self.add(now, endpoint, Origin::PeerReflexive, own, rng),
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
    pub(crate) fn on_promoted(&mut self) {
        self.fell_silent = false;
        self.retries = 0;
        self.retry_at = None;
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

    /// The pings that are due. `patience` is how long their answers may take.
    pub(crate) fn fire_due_timers(
        &mut self,
        now: Instant,
        patience: Duration,
        is_direct: bool,
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> Vec<(SocketAddr, usize)> {
        if !self.started {
            return Vec::new();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.retries = self.retries.saturating_add(1);
            self.trials.values_mut().for_each(|trial| trial.retry(now));
        }
        let due: Vec<_> = self
            .trials
            .values_mut()
            .filter_map(|trial| Some((trial.endpoint, trial.fire_due_timers(now, patience)?)))
            .collect();
        let is_known = self.sequence.is_some() && own.is_complete();
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
        let trials = self.trials.values().filter_map(Trial::next_timer).min();
        earlier(trials, self.retry_at)
    }

    /// For the sentence that explains a relayed pair.
    pub(crate) fn evidence(&self, own: &OwnCandidates) -> Evidence {
        let small_only = |trial: &&Trial| trial.is_answered() && !trial.is_proven();
        Evidence {
            own_mapping: own.mapping(),
            peer_mapping: self.mapping,
            own_known: own.is_complete(),
            peer_known: self.sequence.is_some(),
            settled: self.settled,
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
        own: &OwnCandidates,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        if !self.started || !own.may_reach(endpoint) {
            return false;
        }
        if self.trials.contains_key(&endpoint) {
            return true;
        }
        if self.trials.len() >= MAX_TRIALS && !self.forget_one() {
            return false;
        }
        self.trials.insert(endpoint, Trial::new(now, endpoint, origin, rng));
        true
    }

    /// Makes room by forgetting a peer-reflexive endpoint that has come to nothing.
    fn forget_one(&mut self) -> bool {
        let is_dead = |trial: &&Trial| {
            trial.origin == Origin::PeerReflexive && trial.is_at_rest() && !trial.is_answered()
        };
        let dead = self.trials.values().find(is_dead).map(|trial| trial.endpoint);
        dead.is_some_and(|endpoint| self.trials.remove(&endpoint).is_some())
    }
}
