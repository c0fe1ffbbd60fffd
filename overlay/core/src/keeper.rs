//! One keepalive for all of this node's channels at one relay.
//!
//! ```text
//!   trying ──ack──▶ keeping ──every 20 s, ack──▶ keeping
//!     ▲  no ack        │
//!     │  (older relay) ├──2 requests without ack──▶ silent: does the way there still carry?
//!     │                └──3 requests without ack──▶ lost: every channel binds anew, then trying
//! ```
//!
//! A node that only listens learns from nothing else that its way to a relay has gone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::context::{jittered, rung};
use crate::wire::ControlFrame;

/// The most relays that a node keeps alive. Chosen: its home relay, a second one, and those of peers.
pub(crate) const MAX_KEEPERS: usize = 16;

/// Between keepalives: below the 30 s after which some NATs forget a UDP mapping.
const INTERVAL: Duration = Duration::from_secs(20);

/// From the first binding to the first keepalive: the other channels are bound by then.
const FIRST: Duration = Duration::from_secs(2);

/// Gaps between requests that are not answered.
const LADDER: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(800)];
const LADDER_REST: Duration = Duration::from_millis(1600);

/// Unanswered requests after which the way to the relay is doubted. Chosen: one gets lost now and then.
const SILENT_AFTER: u32 = 2;

/// Unanswered requests after which the relay, or the address that it knows, counts as lost.
const LOST_AFTER: u32 = 3;

/// Before a relay that did not answer is tried again: it may be of an older version.
const RETRY: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    relay: SocketAddr,
    nonce: [u8; 8],
    attempt: u32,
    due: Instant,
    sent_at: Instant,
    keeping: bool,
    rtt: Option<Duration>,
}

/// What a keeper has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Send that.
    Request(ControlFrame),
    /// Send that, and look whether the way to the relay still carries.
    Silent(ControlFrame),
    /// The relay does not know this node's address any more.
    Lost,
}

impl Keeper {
    pub(crate) fn new(now: Instant, relay: SocketAddr, rng: &mut ChaCha8Rng) -> Self {
        let due = now + jittered(rng, FIRST);
        let nonce = [0; 8];
        Self { relay, nonce, attempt: 0, due, sent_at: now, keeping: false, rtt: None }
    }

    /// Whether the relay holds all channels.
    pub(crate) fn is_keeping(&self) -> bool {
        self.keeping
    }

    /// Smoothed round trip time to the relay.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn next_timer(&self) -> Instant {
        self.due
    }

    /// The network may have changed.
    pub(crate) fn check_now(&mut self, now: Instant) {
        if self.keeping && self.attempt == 0 {
            self.due = now;
        }
    }

    /// Whether that is the answer to the request that is out.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: [u8; 8],
        rng: &mut ChaCha8Rng,
    ) -> bool {
        if from != self.relay || self.attempt == 0 || nonce != self.nonce {
            return false;
        }
        if self.attempt == 1 {
            let took = now.saturating_duration_since(self.sent_at);
            self.rtt = Some(self.rtt.map_or(took, |rtt| (rtt * 7 + took) / 8));
        }
        self.keeping = true;
        self.attempt = 0;
        self.due = now + INTERVAL.mul_f64(rng.random_range(0.9..1.0));
        true
    }

    pub(crate) fn fire_due_timers(&mut self, now: Instant, rng: &mut ChaCha8Rng) -> Option<Kept> {
        if now < self.due {
            return None;
        }
        if self.attempt >= LOST_AFTER {
            self.attempt = 0;
            let was_keeping = std::mem::take(&mut self.keeping);
            self.due = now + jittered(rng, if was_keeping { FIRST } else { RETRY });
            return was_keeping.then_some(Kept::Lost);
        }
        if self.attempt == 0 {
            self.nonce = rng.random();
            self.sent_at = now;
        }
        self.due = now + rung(&LADDER, LADDER_REST, self.attempt);
        let is_silent = self.keeping && self.attempt == SILENT_AFTER;
        self.attempt += 1;
        let request = ControlFrame::KeepAlive { nonce: self.nonce };
        Some(if is_silent { Kept::Silent(request) } else { Kept::Request(request) })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn keeps_by_one_packet_in_twenty_seconds_and_notices_the_loss_in_three() {
        let start = Instant::now();
        let relay = "198.51.100.1:6444".parse().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut keeper = Keeper::new(start, relay, &mut rng);
        let mut requests = 0;
        while keeper.next_timer() < start + Duration::from_secs(600) {
            let now = keeper.next_timer();
            match keeper.fire_due_timers(now, &mut rng) {
                Some(Kept::Request(ControlFrame::KeepAlive { nonce })) => {
                    requests += 1;
                    assert!(!keeper.on_ack(now, relay, [9; 8], &mut rng));
                    assert!(keeper.on_ack(now, relay, nonce, &mut rng));
                    assert!(!keeper.on_ack(now, relay, nonce, &mut rng), "each answer counts once");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((30..=35).contains(&requests) && keeper.is_keeping(), "{requests}");
        let silent_at = keeper.next_timer();
        let mut doubted = Vec::new();
        let lost_at = loop {
            let now = keeper.next_timer();
            match keeper.fire_due_timers(now, &mut rng) {
                Some(Kept::Silent(_)) => doubted.push(now - silent_at),
                Some(Kept::Lost) => break now,
                Some(Kept::Request(_)) => {}
                None => panic!("nothing was due"),
            }
        };
        assert!(lost_at - silent_at <= Duration::from_secs(3));
        assert_eq!(doubted, [LADDER[0] + LADDER[1]], "once, before it counts as lost");
        assert!(!keeper.is_keeping());
    }

    #[test]
    fn relay_of_an_older_version_is_left_in_peace() {
        let start = Instant::now();
        let relay = "198.51.100.1:6444".parse().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut keeper = Keeper::new(start, relay, &mut rng);
        let mut requests = 0;
        while keeper.next_timer() < start + Duration::from_secs(3600) {
            let now = keeper.next_timer();
            match keeper.fire_due_timers(now, &mut rng) {
                Some(Kept::Request(_)) => requests += 1,
                Some(Kept::Silent(_) | Kept::Lost) => panic!("nothing was held"),
                None => {}
            }
        }
        assert!(requests <= 3 * 17, "{requests}");
    }
}
