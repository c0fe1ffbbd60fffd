//! The selected path to a peer, and how its silence is noticed.
//!
//! A pair begins on the relay. A direct path is *promoted* to primary when a ping of full size has
//! been answered on it: each side proves its own direction. Only what is sent changes; both sides
//! receive on every path, so promotion loses nothing. After that
//!
//! ```text
//!              pong                      6.5 s without           15 s without
//!   trusted ◀──────── questioned ──────▶ doubted ──────────────▶ given up
//!      │                  ▲               also = relay            primary = relay
//!      └──── ping ────────┘               (copies on both)
//! ```
//!
//! A path is questioned by a ping: at most every 3 s while the job sends data, every 15 s on an idle
//! direct path (which keeps its NAT mappings alive), and every second while a direct path owes an
//! answer or a relayed one has never given any. Only a pong clears the question: that the peer's packets arrive here does not prove that
//! ours arrive there. An idle relayed path is not pinged at all; the relay's refresh keeps it open.
//! Probes promote, silence demotes, and nothing else does.

use std::time::{Duration, Instant};

use crate::io::Path;

/// Between pings while the job sends.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Between pings while a direct path owes an answer.
const INSIST: Duration = Duration::from_secs(1);

/// Between pings on an idle direct path: half of the 30 s after which Linux forgets a UDP flow that
/// was answered only once.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Silence after which packets also take the relay (Tailscale `trustUDPAddrDuration`).
const DOUBT_AFTER: Duration = Duration::from_millis(6500);

/// Silence after which a direct path is given up (iroh: 15 s).
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// Unanswered pings on the relay after which its binding is refreshed at once.
const RELAY_REFRESH_AFTER: u32 = 2;

/// Unanswered pings on the relay after which the session's keys are in doubt too: some 15 s.
const KEYS_DOUBTED_AFTER: u32 = 5;

/// Pings to a new relayed path, one a second until one is answered: they measure the round trip time,
/// and tell the peer that the keys are in use (it sends nothing before).
const MEASURING_PINGS: u32 = 12;

/// What the silence of the selected path calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ping it.
    Ping,
    /// Send copies through the relay.
    Doubt,
    /// Use the relay.
    GiveUp,
    /// Bind to the relay again.
    RefreshRelay,
    /// Shake hands again.
    RenewKeys,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) primary: Path,
    pub(crate) also: Option<Path>,
    doubted: bool,
    /// Data was sent after the last ping.
    waiting: bool,
    last_ping: Option<Instant>,
    /// When the first of the unanswered pings was sent, and how many there are.
    questioned: Option<(Instant, u32)>,
    /// Pings still wanted for the round trip time.
    measuring: u32,
}

impl Selected {
    pub(crate) fn new(now: Instant, primary: Path) -> Self {
        let is_direct = matches!(primary, Path::Direct(_));
        Self {
            primary,
            also: None,
            doubted: false,
            waiting: false,
            // A direct path has just been pinged; a relayed one is to be measured.
            last_ping: is_direct.then_some(now),
            questioned: None,
            measuring: if is_direct { 0 } else { MEASURING_PINGS },
        }
    }

    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.primary, Path::Direct(_))
    }

    /// The job sent something.
    pub(crate) fn on_sent(&mut self) {
        self.waiting = true;
    }

    /// A ping was answered on that path. Whether that ended a doubt.
    pub(crate) fn on_pong(&mut self, path: Path) -> bool {
        if path != self.primary {
            return false;
        }
        self.questioned = None;
        self.measuring = 0;
        self.doubted = false;
        self.also.take().is_some()
    }

    /// The network has changed, here or there: ask at once, and until there is an answer.
    pub(crate) fn question_now(&mut self) {
        self.last_ping = None;
        self.measuring = MEASURING_PINGS;
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let demotion = self
            .questioned
            .filter(|_| self.is_direct())
            .map(|(since, _)| since + if self.doubted { GIVE_UP_AFTER } else { DOUBT_AFTER });
        crate::context::earlier(demotion, self.next_ping())
    }

    fn next_ping(&self) -> Option<Instant> {
        let gap = if self.is_direct() {
            match self.questioned {
                Some(_) => INSIST,
                None if self.waiting => HEARTBEAT,
                None => KEEPALIVE,
            }
        } else if self.measuring > 0 {
            INSIST
        } else if self.waiting {
            HEARTBEAT
        } else {
            return None;
        };
        // Never pinged: at once, that is at any time that has passed.
        self.last_ping.map(|last| last + gap)
    }

    fn wants_first_ping(&self) -> bool {
        self.last_ping.is_none() && (self.waiting || self.measuring > 0)
    }

    /// What is due now, most pressing last. The caller carries it out.
    pub(crate) fn fire_due_timers(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        if self.wants_first_ping() || self.next_ping().is_some_and(|at| at <= now) {
            self.note_ping(now, &mut due);
        }
        if let (Some((since, _)), true) = (self.questioned, self.is_direct()) {
            if now >= since + GIVE_UP_AFTER {
                // Without a relay there is nothing to change to: the question stays open and is not
                // put off, but asked anew.
                self.questioned = None;
                self.doubted = false;
                due.push(Due::GiveUp);
            } else if now >= since + DOUBT_AFTER && !self.doubted {
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
        self.measuring = self.measuring.saturating_sub(1);
        due.push(Due::Ping);
        if !self.is_direct() && unanswered >= KEYS_DOUBTED_AFTER {
            self.questioned = Some((now, RELAY_REFRESH_AFTER));
            due.push(Due::RenewKeys);
            return;
        }
        if !self.is_direct() && unanswered == RELAY_REFRESH_AFTER {
            due.push(Due::RefreshRelay);
        }
        self.questioned = Some((since, unanswered + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct() -> Path {
        Path::Direct("203.0.113.1:4000".parse().unwrap())
    }

    fn relayed() -> Path {
        Path::Relayed { relay: "203.0.113.9:6444".parse().unwrap(), channel: 7 }
    }

    /// What falls due until `end`, with its second.
    fn run(selected: &mut Selected, start: Instant, end: u64) -> Vec<(u64, Due)> {
        let end = start + Duration::from_secs(end);
        let mut seen = Vec::new();
        let mut at = start;
        while at <= end {
            for due in selected.fire_due_timers(at) {
                if due == Due::Doubt {
                    selected.also = Some(relayed());
                }
                seen.push(((at - start).as_secs(), due));
            }
            let Some(next) = selected.next_timer() else { break };
            at = next;
        }
        seen
    }

    #[test]
    fn silent_direct_path_is_doubted_then_given_up() {
        let start = Instant::now();
        let mut selected = Selected::new(start, direct());
        selected.question_now();
        let seen = run(&mut selected, start, 15);
        let demotions: Vec<_> = seen.iter().filter(|(_, due)| *due != Due::Ping).collect();
        assert_eq!(demotions, [&(6, Due::Doubt), &(15, Due::GiveUp)]);
    }

    #[test]
    fn idle_direct_path_is_kept_alive_and_an_idle_relayed_one_left_alone() {
        let start = Instant::now();
        let mut selected = Selected::new(start, direct());
        assert_eq!(selected.next_timer(), Some(start + KEEPALIVE));
        selected = Selected::new(start, relayed());
        assert_eq!(selected.fire_due_timers(start), [Due::Ping]);
        selected.on_pong(relayed());
        assert_eq!(selected.next_timer(), None);
    }

    #[test]
    fn pong_ends_the_doubt() {
        let start = Instant::now();
        let mut selected = Selected::new(start, direct());
        selected.question_now();
        run(&mut selected, start, 7);
        assert!(selected.also.is_some());
        assert!(selected.on_pong(direct()));
        assert_eq!((selected.also, selected.questioned), (None, None));
    }

    #[test]
    fn silent_relay_is_bound_again_then_the_keys_are_renewed() {
        let start = Instant::now();
        let mut selected = Selected::new(start, relayed());
        let mut seen = Vec::new();
        for second in 0..25 {
            selected.on_sent();
            let due = selected.fire_due_timers(start + Duration::from_secs(second));
            seen.extend(due.into_iter().filter(|due| *due != Due::Ping));
        }
        assert_eq!(seen[..2], [Due::RefreshRelay, Due::RenewKeys]);
    }
}
