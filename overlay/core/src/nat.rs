//! What the NAT in front of this node does, measured on the data socket itself.
//!
//! ```text
//!   coordinator ──saw you at─┐
//!   reflectors ───saw you at─┼──▶ mapping, ports, reflexive endpoints ──▶ candidates
//!   relays ───────saw you at─┘
//!   reflector's other port ──answers──▶ filtering        own reflexive endpoint ──answers──▶ hairpin
//! ```
//!
//! Observers that see the same endpoint tell that the mapping does not depend on the destination; those
//! that see different ones, how ports are chosen. When an observer's answer changes although the mapping did not
//! depend on the destination, the node's address has changed, and what others saw is of the past.

mod reflector;
mod seen;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::context::earlier;
use crate::netmap::{NatTraits, ObservedFiltering, ObservedMapping};
use crate::wire::ControlFrame;
use reflector::Reflector;
use seen::{Observer, Seen};

/// The most reflectors that are asked. Chosen: two addresses with two ports each.
pub(crate) const MAX_REFLECTORS: usize = 4;

/// How long an answer from an unexpected port is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests for such an answer: one may be lost.
const SPECIAL_ATTEMPTS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct NatProbe {
    rng: ChaCha8Rng,
    reflectors: Vec<Reflector>,
    /// In the other family of addresses. Its silence says nothing of UDP.
    other: Option<Reflector>,
    seen: Seen,
    /// Whether the reflector knows such questions at all: silence means nothing otherwise.
    support: Question<bool>,
    filtering: Question<ObservedFiltering>,
    own_port: Option<u16>,
    /// Nobody who is asked sees this node's own packets.
    blind: bool,
}

/// Something that is asked a few times and known afterwards.
#[derive(Debug)]
struct Question<T> {
    nonce: [u8; 8],
    attempts: u32,
    due: Option<Instant>,
    answer: Option<T>,
}

impl<T> Question<T> {
    fn new() -> Self {
        Self { nonce: [0; 8], attempts: 0, due: None, answer: None }
    }

    fn ask(&mut self, now: Instant, rng: &mut ChaCha8Rng) {
        self.nonce = rng.random();
        self.attempts = 0;
        self.due = Some(now);
    }

    fn settle(&mut self, answer: T) {
        self.due = None;
        self.answer = Some(answer);
    }

    fn is_asked(&self, nonce: [u8; 8]) -> bool {
        self.due.is_some() && self.attempts > 0 && self.nonce == nonce
    }

    /// Whether to ask once more, or `silence` is the answer.
    fn fire(&mut self, now: Instant, silence: T) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        if self.attempts >= SPECIAL_ATTEMPTS {
            self.settle(silence);
            return false;
        }
        self.attempts += 1;
        self.due = Some(now + PATIENCE / SPECIAL_ATTEMPTS);
        true
    }
}

/// What an answer was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nobody had asked.
    No,
    /// Nothing new.
    AsKnown,
    /// The candidates may have changed.
    News,
}

impl NatProbe {
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            reflectors: Vec::new(),
            other: None,
            seen: Seen::default(),
            support: Question::new(),
            filtering: Question::new(),
            own_port: None,
            blind: false,
        }
    }

    /// Whether what others see is a tunnel's other end, which says nothing. Whether that is new.
    pub(crate) fn set_blind(&mut self, blind: bool) -> bool {
        let is_new = std::mem::replace(&mut self.blind, blind) != blind;
        if is_new {
            self.seen.forget();
            self.reflectors.clear();
            self.other = None;
            self.forget_answers();
        }
        is_new
    }

    /// The coordinator sees this node there, and names a reflector.
    pub(crate) fn on_welcome(
        &mut self,
        now: Instant,
        observed: SocketAddr,
        reflector: SocketAddr,
        token: [u8; 16],
    ) {
        if self.blind {
            return;
        }
        if self.seen.on_coordinator(observed) {
            self.forget_answers();
        }
        self.add_reflector(now, reflector, token);
        self.check_now(now);
    }

    /// A further reflector, or one with a newer token.
    pub(crate) fn add_reflector(&mut self, now: Instant, at: SocketAddr, token: [u8; 16]) {
        if self.blind {
            return;
        }
        if let Some(known) = self.reflectors.iter_mut().find(|known| known.at == at) {
            known.token = token;
            known.check_now(now);
        } else if self.reflectors.len() < MAX_REFLECTORS {
            self.reflectors.push(Reflector::new(now, at, token));
        }
    }

    /// One in the other family of addresses, which is asked while this machine has an address of that family.
    pub(crate) fn add_other_reflector(&mut self, now: Instant, at: SocketAddr, token: [u8; 16]) {
        if !self.blind {
            self.other = Some(Reflector::new(now, at, token));
        }
    }

    /// The other reflector, where it can be asked.
    fn other(&self) -> Option<&Reflector> {
        self.other.as_ref().filter(|other| self.seen.has_host_like(other.at))
    }

    /// Something about the network may have changed.
    pub(crate) fn check_now(&mut self, now: Instant) {
        let reflectors = self.reflectors.iter_mut().chain(&mut self.other);
        reflectors.for_each(|reflector| reflector.check_now(now));
    }

    /// A relay that this node is bound to saw it there.
    pub(crate) fn on_relay_saw(
        &mut self,
        now: Instant,
        relay: SocketAddr,
        observed: SocketAddr,
    ) -> Taken {
        self.observe(now, relay, observed)
    }

    /// A reflector's answer, or one from a port that was not asked.
    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: [u8; 8],
        observed: SocketAddr,
        is_active: bool,
    ) -> Taken {
        if self.support.is_asked(nonce) {
            self.support.settle(true);
            self.ask_more(now);
            return Taken::AsKnown;
        }
        if self.filtering.is_asked(nonce) {
            return self.on_other_port(from);
        }
        let rng = &mut self.rng;
        let is_answer =
            |reflector: &mut Reflector| reflector.on_response(now, from, nonce, is_active, rng);
        if !self.reflectors.iter_mut().chain(&mut self.other).any(is_answer) {
            return Taken::No;
        }
        let taken = self.observe(now, from, observed);
        self.ask_more(now);
        taken
    }

    fn on_other_port(&mut self, from: SocketAddr) -> Taken {
        let same_address = self.reflectors.iter().any(|reflector| reflector.at.ip() == from.ip());
        self.filtering.settle(if same_address {
            ObservedFiltering::ByAddress
        } else {
            ObservedFiltering::Open
        });
        Taken::News
    }

    fn observe(&mut self, now: Instant, by: SocketAddr, observed: SocketAddr) -> Taken {
        // What comes through a tunnel has no place.
        if self.blind || observed.ip().is_unspecified() {
            return Taken::AsKnown;
        }
        match self.seen.on_observed(Observer::At(by), observed) {
            seen::News::Nothing => Taken::AsKnown,
            seen::News::More => Taken::News,
            seen::News::Moved => {
                self.forget_answers();
                self.check_now(now);
                Taken::News
            }
        }
    }

    /// Another network, another NAT.
    fn forget_answers(&mut self) {
        self.support = Question::new();
        self.filtering = Question::new();
    }

    /// The mapping is known: now for the filter, once.
    fn ask_more(&mut self, now: Instant) {
        let is_translated = matches!(
            self.seen.mapping(),
            ObservedMapping::EndpointIndependent | ObservedMapping::EndpointDependent
        );
        if !is_translated || self.filtering.answer.is_some() || self.filtering.due.is_some() {
            return;
        }
        match (self.support.answer, self.support.due) {
            (Some(true), _) => self.filtering.ask(now, &mut self.rng),
            (None, None) => self.support.ask(now, &mut self.rng),
            (Some(false) | None, _) => {}
        }
    }

    /// The requests that are due. The last value: whether something is known now that was not.
    pub(crate) fn fire_due_timers(
        &mut self,
        now: Instant,
        is_active: bool,
    ) -> (Vec<(SocketAddr, ControlFrame)>, bool) {
        let mut requests = Vec::new();
        let has_other = self.other().is_some();
        let other = self.other.iter_mut().filter(|_| has_other);
        for reflector in self.reflectors.iter_mut().chain(other) {
            requests.extend(reflector.fire_due_timers(now, is_active, &mut self.rng));
        }
        if self.support.fire(now, false)
            && let Some(first) = self.reflectors.first()
        {
            let (token, nonce) = (first.token, self.support.nonce);
            let frame = ControlFrame::ReflectElsewhere { token, nonce, port: 0, from_other: false };
            requests.push((first.at, frame));
        }
        let knew = self.filtering.answer.is_some();
        if self.filtering.fire(now, ObservedFiltering::ByAddressAndPort)
            && let Some(first) = self.reflectors.first()
        {
            let (token, nonce) = (first.token, self.filtering.nonce);
            let frame = ControlFrame::ReflectElsewhere { token, nonce, port: 0, from_other: true };
            requests.push((first.at, frame));
        }
        (requests, knew != self.filtering.answer.is_some())
    }

    /// UDP does not get through: every reflector was asked in full, and none has answered.
    pub(crate) fn is_silent(&self) -> bool {
        !self.reflectors.is_empty() && self.reflectors.iter().all(Reflector::has_failed)
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let reflectors = self.reflectors.iter().chain(self.other());
        let reflectors = reflectors.filter_map(Reflector::next_timer).min();
        earlier(reflectors, earlier(self.support.due, self.filtering.due))
    }

    /// The machine's own endpoints: what others see there is not translated.
    pub(crate) fn on_hosts(&mut self, hosts: &[SocketAddr]) {
        self.seen.on_hosts(hosts);
        self.own_port = hosts.first().map(SocketAddr::port);
    }

    /// Where others see this node, one endpoint for each family.
    pub(crate) fn reflexive(&self) -> Vec<SocketAddr> {
        self.seen.reflexive()
    }

    pub(crate) fn mapping(&self) -> ObservedMapping {
        self.seen.mapping()
    }

    pub(crate) fn traits(&self) -> NatTraits {
        let blocked = ObservedFiltering::Nobody;
        let filtering =
            if self.blind { blocked } else { self.filtering.answer.unwrap_or_default() };
        NatTraits { ports: self.seen.ports(self.own_port), filtering }
    }
}

#[cfg(test)]
mod tests;
