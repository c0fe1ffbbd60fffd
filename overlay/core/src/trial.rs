//! A direct path on trial: when to ping one endpoint of a peer, and what the answers prove.
//!
//! ```text
//!   hoping ──pong──▶ answered ──pong of full size──▶ proven
//!     │                 │                              │ silence (the peer decides)
//!     │ budget used up  │ full size never answered     ▼
//!     └──────▶ at rest ◀┘ ◀───────────────────────── reset
//! ```
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
    /// An authentic ping came from there.
    PeerReflexive,
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
    proven: bool,
    rtt: Option<Duration>,
}

impl Trial {
    pub(crate) fn new(
        now: Instant,
        endpoint: SocketAddr,
        origin: Origin,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let spread = Duration::from_millis(rng.random_range(0..START_SPREAD_MS));
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
            proven: false,
            rtt: None,
        }
    }

    /// Full-size packets get there and small ones back.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Small packets get there and back.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Nothing better is expected of it soon.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled || self.proven
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
        let wants_full_size = self.answered && !self.proven;
        self.last_sent = Some(now);
        self.sent_ever = self.sent_ever.saturating_add(1);
        if wants_full_size {
            self.full_size_sent += 1;
            self.further = self.further.saturating_sub(1);
            let last = self.full_size_sent >= FULL_SIZE_BUDGET;
            self.due = (!last).then(|| now + rung(&GAPS, GAP_REST, self.full_size_sent - 1));
            self.settles_at = last.then(|| now + patience);
            return Some(MESH_MTU);
        }
        self.sent += 1;
        self.due = Some(now + rung(&GAPS, GAP_REST, self.sent - 1));
        if self.answered {
            self.further = self.further.saturating_sub(1);
            self.due = self.due.filter(|_| self.further > 0);
        } else {
            if self.sent >= self.budget {
                self.due = None;
            }
            if self.sent >= SETTLE_PINGS.min(self.budget) && !self.settled {
                self.settles_at = self.settles_at.or(Some(now + patience));
            }
        }
        Some(MIN_PING)
    }

    /// A ping of that size was answered after that time.
    pub(crate) fn on_pong(&mut self, now: Instant, size: usize, took: Duration) {
        // RFC 6298's smoothing: an eighth of the newest.
        self.rtt = Some(self.rtt.map_or(took, |rtt| (rtt * 7 + took) / 8));
        if size >= MESH_MTU && !self.proven {
            self.proven = true;
            // At least one more, even if the full-size pings used up what was to follow.
            self.further = self.further.max(1);
            self.sent = 0;
            self.settles_at = None;
            self.due = Some(now + GAPS[0]);
        }
        if !self.answered {
            self.answered = true;
            if !self.proven {
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
        if !self.proven {
            self.restart(now, BUDGET);
        }
    }

    /// A later attempt with a small budget.
    pub(crate) fn retry(&mut self, now: Instant) {
        if !self.proven {
            self.restart(now, RETRY_BUDGET);
        }
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
        self.proven = false;
        self.settled = true;
        self.rtt = None;
        self.due = None;
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

#[cfg(test)]
mod tests;
