//! One WireGuard session: who starts it, when to try again, and what was reported about it.
//!
//! The node with the lower id is the initiator, so that two initiations never cross. It initiates
//! over the relay as soon as the channel is bound; when there is no relay after a second, or the
//! relay has not brought an answer after five attempts, also over the peer's candidates.
//!
//! A *lazy* session, between members that are not expected to talk, begins with the first data of
//! either side. Either side may start it then, the one that is not the initiator a little later.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use crate::context::{jittered, rung};
use crate::ids::WireGuardKey;
use crate::io::PairState;

/// Gaps between initiations, then [`LADDER_REST`] with jitter.
const LADDER: [Duration; 9] = [
    Duration::from_millis(100),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(1600),
    Duration::from_millis(2400),
    Duration::from_millis(2400),
];
const LADDER_REST: Duration = Duration::from_secs(5);

/// How long to wait for a relay before the handshake goes out without one.
const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// Attempts over the relay alone.
const RELAY_ATTEMPTS: u32 = 5;

/// The other side's advantage over this one, where both may want a lazy session at the same time.
const COURTESY: Duration = Duration::from_millis(400);

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) peer_key: WireGuardKey,
    pub(crate) index: u16,
    pub(crate) reported: Option<PairState>,
    /// The peer's part of the job is over: nobody wonders why it is silent.
    pub(crate) part_ended: bool,
    initiator: bool,
    lazy: bool,
    joined_at: Instant,
    /// When the peer became known: the relay gets its time from then.
    added_at: Instant,
    established_after: Option<Duration>,
    attempt: u32,
    due: Option<Instant>,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        joined_at: Instant,
        initiator: bool,
        peer_key: WireGuardKey,
        index: u16,
        lazy: bool,
    ) -> Self {
        Self {
            peer_key,
            index,
            reported: None,
            part_ended: false,
            initiator,
            joined_at,
            added_at: now,
            established_after: None,
            attempt: 0,
            due: (initiator && !lazy).then_some(now),
            lazy,
        }
    }

    /// The session is expected to be used: no more waiting for data.
    pub(crate) fn want(&mut self, now: Instant) {
        if std::mem::take(&mut self.lazy) && self.initiator && !self.is_established() {
            self.added_at = now;
            self.due = Some(now);
        }
    }

    /// Nobody expects it to be used, and nobody has used it.
    pub(crate) fn is_lazy(&self) -> bool {
        self.lazy && !self.is_established()
    }

    /// The job has something to send.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        if self.lazy && !self.is_established() && self.due.is_none() {
            self.added_at = now;
            self.due = Some(if self.initiator { now } else { now + COURTESY });
        }
    }

    pub(crate) fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// From joining the mesh to the first authenticated packet.
    pub(crate) fn established_after(&self) -> Option<Duration> {
        self.established_after
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established_after.is_some()
    }

    /// An authentic packet has come. Whether it was the first.
    pub(crate) fn on_authenticated(&mut self, now: Instant) -> bool {
        self.due = None;
        self.attempt = 0;
        let first = self.established_after.is_none();
        self.established_after.get_or_insert(now.saturating_duration_since(self.joined_at));
        first
    }

    /// A way to the peer has come up: use it at once, if the handshake is still wanted.
    pub(crate) fn on_path_available(&mut self, now: Instant) {
        if self.due.is_some() {
            self.attempt = 0;
            self.due = Some(now);
        }
    }

    /// The keys may be gone at the other end: shake hands again.
    pub(crate) fn renew_keys(&mut self, now: Instant) {
        if self.initiator && self.due.is_none() && self.is_established() {
            self.due = Some(now);
        }
    }

    /// The peer slept: its keys are void, whoever started last time.
    pub(crate) fn wake(&mut self, now: Instant) {
        if self.due.is_none() && self.is_established() {
            self.added_at = now;
            self.due = Some(now);
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an initiation is due, and whether it goes to the peer's candidates too.
    pub(crate) fn fire_due_timers(
        &mut self,
        now: Instant,
        has_relay: bool,
        rng: &mut ChaCha8Rng,
    ) -> Option<Initiation> {
        self.due.filter(|due| *due <= now)?;
        let patience_ends = self.added_at + RELAY_PATIENCE;
        if !has_relay && now < patience_ends {
            self.due = Some(patience_ends);
            return None;
        }
        let everywhere = !has_relay || self.attempt >= RELAY_ATTEMPTS;
        let rest = jittered(rng, LADDER_REST);
        self.due = Some(now + rung(&LADDER, rest, self.attempt));
        self.attempt = self.attempt.saturating_add(1);
        Some(if everywhere { Initiation::Everywhere } else { Initiation::RelayOnly })
    }
}

/// Where an initiation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initiation {
    /// Over the relay and the selected path.
    RelayOnly,
    /// To the peer's candidates too.
    Everywhere,
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_handshake_that_is_lost_is_repeated_within_half_a_second() {
        let (start, mut rng) = (Instant::now(), ChaCha8Rng::seed_from_u64(1));
        let mut session = Session::new(start, start, true, WireGuardKey([1; 32]), 1, false);
        let mut now = start;
        for attempt in 0..4 {
            assert!(session.fire_due_timers(now, true, &mut rng).is_some(), "attempt {attempt}");
            let next = session.next_timer().unwrap();
            assert!(next > now && next - now <= Duration::from_millis(500), "attempt {attempt}");
            now = next;
        }
        session.on_authenticated(now);
        assert_eq!(session.next_timer(), None);
    }
}
