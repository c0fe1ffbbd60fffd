//! The selected path to a peer, and how its silence is noticed.
//!
//! A pair begins on the relay. A direct path is *promoted* to primary when a ping of full size has
//! been answered on it: each side proves its own direction. Only what is sent changes; both sides
//! receive on every path, so promotion loses nothing. After that
//!
//! ```text
//!              pong                      about 1 s without       8 s without
//!   trusted ◀──────── questioned ──────▶ doubted ──────────────▶ given up
//!      │                  ▲               also = another way      primary = another way
//!      └──── ping ────────┘               (copies on both)
//! ```
//!
//! A path is questioned by a ping: a second after data was sent on it and nothing has come back, at most
//! every 3 s while there is an answer, and every 15 s on a direct path without data (which keeps its
//! NAT mappings alive). Only a pong clears the question: that the peer's packets arrive here does not
//! prove that ours arrive there. Probes promote, silence demotes, and nothing else does.
//!
//! A silent *relay* is given up sooner where there is another one: with the copies go pings, and the first
//! answer makes the other one the path in use.
//!
//! After [`IDLE_AFTER`] without data a pair *rests* on the relay, which needs no pings: an idle pair
//! sends nothing at all. Without a relay there is nowhere to rest.

use std::time::{Duration, Instant};

use crate::context::{earlier, rung};
use crate::io::Path;

/// Between pings while the job sends and is answered.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Data without anything in return calls for a ping after this time. Chosen: with [`LEAST_DOUBT`] a
/// path that dies costs at most two seconds of data.
const QUIET: Duration = Duration::from_secs(1);

/// A ping so long after the peer's last data: if it is the way to here that broke, only this side can
/// mend it, and the peer's data does not tell it any more.
const LISTEN: Duration = Duration::from_millis(1500);

/// Gaps between pings while an answer is owed, then [`INSIST_REST`].
const INSIST: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(250), Duration::from_millis(500)];
const INSIST_REST: Duration = Duration::from_secs(1);

/// Between pings on a direct path without data: half of the 30 s after which Linux forgets a UDP flow
/// that was answered only once. A learned lifetime may make it longer.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);

/// Silence after which packets also take another way: this and three round trips, at most
/// [`MOST_DOUBT`]. Chosen: three pings in a row are lost on a bad network once in some 50 questions,
/// and cost a second of copies then.
const LEAST_DOUBT: Duration = Duration::from_millis(900);
const MOST_DOUBT: Duration = Duration::from_secs(4);

/// The same for a path without any answer yet.
const UNKNOWN_DOUBT: Duration = Duration::from_secs(2);

/// Silence after which a path is given up. Chosen: ten pings, which a network that loses 35 % of
/// them all loses once in 30,000 questions; meanwhile the copies arrive.
const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

/// Unanswered pings on a relay after which the session's keys are in doubt too: 5 s.
const KEYS_DOUBTED_AFTER: u32 = 8;

/// Pings to a new relayed path, until one is answered: they measure the round trip time, and tell
/// the peer that the keys are in use (it sends nothing before).
const MEASURING_PINGS: u32 = 12;

/// Without data for so long a pair rests (Tailscale: 45 s).
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(45);

/// What the silence of the selected path calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ping it.
    Ping,
    /// Send copies another way.
    Doubt,
    /// Use another way.
    GiveUp,
    /// Shake hands again.
    RenewKeys,
    /// No data for long: let the relay hold the pair.
    Rest,
}

/// What the selection depends on besides time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// Smoothed round trip time of the primary path.
    pub(crate) rtt: Option<Duration>,
    /// A relay holds the pair while it is idle.
    pub(crate) can_rest: bool,
    /// Between pings on a direct path without data.
    pub(crate) keepalive: Duration,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) primary: Path,
    pub(crate) also: Option<Path>,
    doubted: bool,
    /// Data was sent after the last ping.
    waiting: bool,
    /// Since when data was sent without anything in return.
    unheard_since: Option<Instant>,
    /// The last data of the peer that no ping has followed.
    listening: Option<Instant>,
    last_ping: Option<Instant>,
    /// When the first of the unanswered pings was sent, and how many there are.
    questioned: Option<(Instant, u32)>,
    /// Pings still wanted for the round trip time.
    measuring: u32,
    /// The last data, either way.
    last_data: Instant,
}

impl Selected {
    pub(crate) fn new(now: Instant, primary: Path, last_data: Instant) -> Self {
        let is_direct = matches!(primary, Path::Direct(_));
        Self {
            primary,
            also: None,
            doubted: false,
            waiting: false,
            unheard_since: None,
            listening: None,
            // A direct path has just been pinged; a relayed one is to be measured.
            last_ping: is_direct.then_some(now),
            questioned: None,
            measuring: if is_direct { 0 } else { MEASURING_PINGS },
            last_data,
        }
    }

    /// The relay's path for a pair without data.
    pub(crate) fn resting(now: Instant, primary: Path, last_data: Instant) -> Self {
        Self { last_ping: Some(now), measuring: 0, ..Self::new(now, primary, last_data) }
    }

    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.primary, Path::Direct(_))
    }

    /// Whether there was no data for long.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        now >= self.last_data + IDLE_AFTER
    }

    /// The last data, either way.
    pub(crate) fn last_data(&self) -> Instant {
        self.last_data
    }

    /// Pings are unanswered for so long that copies go another way.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// The job sent something.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        if self.is_idle(now) {
            // What was not answered then says nothing about now.
            self.questioned = None;
            self.doubted = false;
        }
        self.waiting = true;
        self.unheard_since.get_or_insert(now);
        self.last_data = now;
    }

    /// An authentic packet has come that way.
    pub(crate) fn on_heard(&mut self, now: Instant, via: Path, data: bool) {
        if via == self.primary {
            self.unheard_since = None;
        }
        if data {
            self.last_data = now;
            self.listening = Some(now);
        }
    }

    /// A ping was answered on that path. Whether that ended a doubt.
    pub(crate) fn on_pong(&mut self, path: Path) -> bool {
        if path != self.primary {
            return false;
        }
        self.questioned = None;
        self.unheard_since = None;
        self.listening = None;
        self.measuring = 0;
        self.doubted = false;
        self.also.take().is_some()
    }

    /// The network has changed, here or there: ask at once, and until there is an answer.
    pub(crate) fn question_now(&mut self) {
        self.last_ping = None;
        self.measuring = MEASURING_PINGS;
    }

    pub(crate) fn next_timer(&self, around: &Surroundings) -> Option<Instant> {
        let demotion = self.demotion(around);
        let rest = (self.is_direct() && around.can_rest).then_some(self.last_data + IDLE_AFTER);
        earlier(earlier(demotion, rest), self.next_ping(around))
    }

    /// When the next step of a demotion is due.
    fn demotion(&self, around: &Surroundings) -> Option<Instant> {
        let (since, _) = self.questioned?;
        let at = since + if self.doubted { GIVE_UP_AFTER } else { doubt_after(around.rtt) };
        self.is_minded(at).then_some(at)
    }

    /// The silence of a relayed path without data is nobody's loss.
    fn is_minded(&self, at: Instant) -> bool {
        self.is_direct() || !self.is_idle(at)
    }

    fn next_ping(&self, around: &Surroundings) -> Option<Instant> {
        // Never pinged: at once, that is at any time that has passed.
        let last = self.last_ping?;
        if let Some((_, unanswered)) = self.questioned {
            let next = last + rung(&INSIST, INSIST_REST, unanswered.saturating_sub(1));
            return (self.is_minded(next) || self.measuring > 0).then_some(next);
        }
        let unheard = self.unheard_since.map(|since| (since + QUIET).max(last + INSIST[0]));
        let calm = if self.waiting {
            Some(last + HEARTBEAT)
        } else if self.is_direct() {
            Some(last + around.keepalive)
        } else {
            (self.measuring > 0).then_some(last + INSIST_REST)
        };
        let unheard =
            earlier(unheard, self.listening.map(|at| (at + LISTEN).max(last + INSIST[0])));
        earlier(unheard, calm)
    }

    fn wants_first_ping(&self) -> bool {
        self.last_ping.is_none() && (self.waiting || self.measuring > 0)
    }

    /// What is due now, most pressing last. The caller carries it out.
    pub(crate) fn fire_due_timers(&mut self, now: Instant, around: &Surroundings) -> Vec<Due> {
        if self.is_direct() && around.can_rest && self.is_idle(now) {
            return vec![Due::Rest];
        }
        let mut due = Vec::new();
        if self.wants_first_ping() || self.next_ping(around).is_some_and(|at| at <= now) {
            self.note_ping(now, &mut due);
        }
        while self.demotion(around).is_some_and(|at| at <= now) {
            if self.doubted {
                // Without another way there is nothing to change to: the question is asked anew.
                self.questioned = None;
                self.doubted = false;
                self.measuring = self.measuring.max(1);
                due.push(Due::GiveUp);
            } else {
                self.doubted = true;
                due.push(Due::Doubt);
            }
        }
        due
    }

    fn note_ping(&mut self, now: Instant, due: &mut Vec<Due>) {
        let (since, unanswered) = self.questioned.unwrap_or((now, 0));
        self.last_ping = Some(now);
        self.waiting = false;
        self.unheard_since = None;
        self.listening = None;
        self.measuring = self.measuring.saturating_sub(1);
        self.questioned = Some((since, unanswered + 1));
        due.push(Due::Ping);
        if self.is_direct() {
            return;
        }
        if unanswered % KEYS_DOUBTED_AFTER == KEYS_DOUBTED_AFTER - 1 {
            due.push(Due::RenewKeys);
        }
    }
}

fn doubt_after(rtt: Option<Duration>) -> Duration {
    rtt.map_or(UNKNOWN_DOUBT, |rtt| (LEAST_DOUBT + 3 * rtt).min(MOST_DOUBT))
}

#[cfg(test)]
mod tests;
