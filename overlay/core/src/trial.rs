//! A direct path on trial: when to ping one endpoint of a peer, and what the answers prove.
//!
//! ```text
//!   hoping ──pong──▶ answered ──pong of full size──▶ proven
//!     │                 │                              │ silence (the peer decides)
//!     │ budget used up  │ full size never answered     ▼
//!     └──────▶ at rest ◀┘ ◀───────────────────────── reset
//! ```
//!
//! *Full size* is what the path carries: the sizes of [`SIZES`] are tried from the largest, and the
//! largest that is answered is the path's MTU. A path that does not carry the smallest of them, which
//! IPv6 needs, is never proven.
//!
//! Small pings go out after 0, 200, 500, 1000 ms and then every second, twelve in all. The sixth
//! unanswered one, at 3 s, already *settles* the trial: the others are for networks that lose much,
//! and nobody waits for them. After the first answer the full-size ping goes at once, and at least
//! three pings more than were needed, since the peer's filter may open only by them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::context::{earlier, rung};
use crate::wire::probe::{MESH_MTU, MIN_PING};

/// Gaps between pings (reference: path-agent), then [`GAP_REST`].
const GAPS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(300), Duration::from_millis(500)];
const GAP_REST: Duration = Duration::from_secs(1);

/// Pings to an endpoint that does not answer.
const BUDGET: u32 = 12;

/// Unanswered pings after which nothing is expected of the endpoint soon: 3 s by the gaps.
const SETTLE_PINGS: u32 = 6;

/// Pings of one later attempt.
const RETRY_BUDGET: u32 = 4;

/// Full-size pings to an endpoint that answers small ones. Chosen: with a loss of 10 % each way one in
/// 20,000 trials fails by chance.
const FULL_SIZE_BUDGET: u32 = 6;

/// Inner sizes to try: the mesh's own; one for a tunnel or two on the way; the least that IPv6 allows.
pub(crate) const SIZES: [usize; 3] = [MESH_MTU, 1360, 1280];

/// Which of [`SIZES`] each full-size ping has; the largest twice first, as one may be lost.
const SIZE_OF_PING: [usize; 6] = [0, 0, 1, 2, 1, 2];

/// Pings after the first answer.
const FURTHER_PINGS: u32 = 4;

/// The least time between two pings that the peer's own pings call for.
const POKE_GAP: Duration = Duration::from_millis(50);

/// How often a peer's pings may renew a budget that is used up.
const RENEW_GAP: Duration = Duration::from_secs(5);

/// The first pings of one peer's trials go out within this time, so that not all NAT mappings of a
/// large mesh are made in the same millisecond.
const START_SPREAD_MS: u64 = 20;

/// Where an endpoint was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The peer announced it.
    Announced,
    /// An authentic packet came from there, or somebody said so.
    PeerReflexive,
    /// The peer's NAT may choose that port next.
    Guessed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) endpoint: SocketAddr,
    pub(crate) origin: Origin,
    /// Pings of this budget, and of all.
    sent: u32,
    sent_ever: u32,
    budget: u32,
    full_size_sent: u32,
    further: u32,
    due: Option<Instant>,
    last_sent: Option<Instant>,
    settles_at: Option<Instant>,
    renewed_at: Instant,
    settled: bool,
    answered: bool,
    /// The largest of [`SIZES`] that was answered.
    mtu: Option<usize>,
    /// What it carried before the pair came to rest: pings of that size save a round trip.
    carried: Option<usize>,
    /// Pings of a larger size than what is proven.
    stretches: u32,
    last_pong: Option<Instant>,
    rtt: Option<Duration>,
}

impl Trial {
    pub(crate) fn new(
        now: Instant,
        endpoint: SocketAddr,
        origin: Origin,
        delay: Duration,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let spread = delay + Duration::from_millis(rng.random_range(0..START_SPREAD_MS));
        Self {
            endpoint,
            origin,
            sent: 0,
            sent_ever: 0,
            budget: BUDGET,
            full_size_sent: 0,
            further: FURTHER_PINGS,
            due: Some(now + spread),
            last_sent: None,
            settles_at: None,
            renewed_at: now,
            settled: false,
            answered: false,
            mtu: None,
            carried: None,
            stretches: 0,
            last_pong: None,
            rtt: None,
        }
    }

    /// Full-size packets get there and small ones back.
    pub(crate) fn is_proven(&self) -> bool {
        self.mtu.is_some()
    }

    /// The inner packets that it is proven to carry.
    pub(crate) fn mtu(&self) -> Option<usize> {
        self.mtu
    }

    /// It is proven, and has answered within that time.
    pub(crate) fn is_proven_within(&self, now: Instant, time: Duration) -> bool {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= time;
        self.is_proven() && self.last_pong.is_some_and(is_fresh)
    }

    /// Small packets get there and back.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// It was proven, now or before the pair came to rest.
    pub(crate) fn has_carried(&self) -> bool {
        self.is_proven() || self.carried.is_some()
    }

    /// Nothing better is expected of it soon.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled || self.is_proven()
    }

    /// No ping is planned.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.due.is_none()
    }

    /// Smoothed round trip time.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn sent_ever(&self) -> u32 {
        self.sent_ever
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        earlier(self.due, self.settles_at)
    }

    /// The size of the ping to send, if it is time. `patience` is how long its answer may take.
    pub(crate) fn fire_due_timers(&mut self, now: Instant, patience: Duration) -> Option<usize> {
        if self.settles_at.is_some_and(|at| at <= now) {
            self.settles_at = None;
            self.settled = true;
        }
        self.due.filter(|due| *due <= now)?;
        let wants_full_size = self.answered && self.mtu.is_none();
        self.last_sent = Some(now);
        self.sent_ever = self.sent_ever.saturating_add(1);
        if wants_full_size {
            let size = rung_of_size(self.full_size_sent);
            self.full_size_sent += 1;
            self.further = self.further.saturating_sub(1);
            let last = self.full_size_sent >= FULL_SIZE_BUDGET;
            self.due = (!last).then(|| now + rung(&GAPS, GAP_REST, self.full_size_sent - 1));
            self.settles_at = last.then(|| now + patience);
            return Some(size);
        }
        let size = self.carried.filter(|_| self.sent.is_multiple_of(2)).unwrap_or(MIN_PING);
        self.sent += 1;
        self.due = Some(now + rung(&GAPS, GAP_REST, self.sent - 1));
        if self.answered {
            self.further = self.further.saturating_sub(1);
            self.due = self.due.filter(|_| self.further > 0);
            if let Some(larger) = self.larger_size() {
                self.stretches += 1;
                return Some(larger);
            }
        } else {
            if self.sent >= self.budget {
                self.due = None;
            }
            if self.sent >= SETTLE_PINGS.min(self.budget) && !self.settled {
                self.settles_at = self.settles_at.or(Some(now + patience));
            }
        }
        Some(size)
    }

    /// A ping of that size was answered after that time.
    pub(crate) fn on_pong(&mut self, now: Instant, size: usize, took: Duration) {
        self.last_pong = Some(now);
        // RFC 6298's smoothing: an eighth of the newest.
        self.rtt = Some(self.rtt.map_or(took, |rtt| (rtt * 7 + took) / 8));
        let was_proven = self.is_proven();
        if let Some(carried) = SIZES.into_iter().find(|known| *known <= size) {
            self.mtu = Some(self.mtu.map_or(carried, |mtu| mtu.max(carried)));
        }
        if self.is_proven() && !was_proven {
            // At least one more, even if the full-size pings used up what was to follow.
            self.further = self.further.max(1);
            self.sent = 0;
            self.settles_at = None;
            self.due = Some(now + GAPS[0]);
        }
        if !self.answered {
            self.answered = true;
            if self.mtu.is_none() {
                self.settles_at = None;
                self.due = Some(now);
            }
        }
    }

    /// The peer's own ping came from there: its hole is open, so now is the time.
    pub(crate) fn on_peer_ping(&mut self, now: Instant) {
        if self.answered || self.last_sent.is_some_and(|at| now < at + POKE_GAP) {
            return;
        }
        if self.sent >= self.budget {
            if now < self.renewed_at + RENEW_GAP {
                return;
            }
            self.restart(now, RETRY_BUDGET);
        }
        self.due = Some(now);
    }

    /// Something has changed: it is worth a whole budget again.
    pub(crate) fn renew(&mut self, now: Instant) {
        if !self.is_proven() {
            self.restart(now, BUDGET);
        }
    }

    /// A later attempt with a small budget.
    pub(crate) fn retry(&mut self, now: Instant) {
        if !self.is_proven() {
            self.restart(now, RETRY_BUDGET);
        }
    }

    /// The node may make no new mapping just now: not before that time.
    pub(crate) fn postpone(&mut self, until: Instant) {
        self.due = self.due.map(|due| due.max(until));
    }

    /// The ping that is due, if it is time; nothing changes.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It worked before the pair came to rest: it probably does again.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.carried = self.mtu.take().or(self.carried);
        self.stretches = 0;
        self.restart(now, RETRY_BUDGET);
    }

    /// One ping to see whether a path that is not in use is still there, and how fast it is.
    pub(crate) fn recheck(&mut self, now: Instant) {
        if self.is_proven() {
            self.further = 1;
            self.sent = 0;
            self.due = Some(now);
        }
    }

    /// The pair rests: nothing is to be sent, nothing is forgotten.
    pub(crate) fn rest(&mut self) {
        self.due = None;
        self.settles_at = None;
        self.settled = true;
    }

    /// A better path is in use: what settles nothing any more need not be sent.
    pub(crate) fn ease(&mut self) {
        self.budget = self.budget.min(SETTLE_PINGS);
        if !self.answered && self.sent >= self.budget {
            self.due = None;
        }
    }

    /// The path fell silent: nothing is proven any more.
    pub(crate) fn reset(&mut self) {
        self.answered = false;
        self.mtu = None;
        self.stretches = 0;
        self.settled = true;
        self.carried = None;
        self.rtt = None;
        self.due = None;
    }

    /// The next larger size than what is proven, twice at most: the pings for it may have been lost.
    fn larger_size(&self) -> Option<usize> {
        let mtu = self.mtu.filter(|_| self.stretches < 2)?;
        SIZES.into_iter().rev().find(|size| *size > mtu)
    }

    fn restart(&mut self, now: Instant, budget: u32) {
        self.renewed_at = now;
        self.answered = false;
        self.sent = 0;
        self.budget = budget;
        self.full_size_sent = 0;
        self.further = FURTHER_PINGS;
        self.settles_at = None;
        self.due = Some(now);
    }
}

fn rung_of_size(sent: u32) -> usize {
    let index = usize::try_from(sent).unwrap_or(usize::MAX).min(SIZE_OF_PING.len() - 1);
    SIZES[SIZE_OF_PING[index]]
}

#[cfg(test)]
mod tests;
