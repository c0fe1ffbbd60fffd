//! Asks one reflector how it sees this node's socket.
//!
//! ```text
//!   asleep ──due──▶ asking (at most 6 requests) ──answer──▶ asleep until the next check
//!                     └──────no answer─────────────────────▶ asleep
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::context::{jittered, rung};
use crate::wire::ControlFrame;

/// Gaps between requests of one check.
const LADDER: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// How long the answer to the last request is waited for.
const LAST_GAP: Duration = Duration::from_millis(1600);

/// Requests of one check: that many and the ladder's gaps make 3.1 s.
const ATTEMPTS: u32 = 6;

/// Between checks while the node is in a mesh (reference: 20 to 26 s). It keeps the mapping alive
/// through NATs that forget after 30 s, the shortest that RFC 4787 REQ-5 lets one expect in practice.
const CHECK_ACTIVE: Duration = Duration::from_secs(23);

/// Between checks otherwise. Chosen: a changed address is noticed before the next job comes.
const CHECK_IDLE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Reflector {
    pub(super) at: SocketAddr,
    pub(super) token: [u8; 16],
    nonce: [u8; 8],
    attempt: u32,
    due: Option<Instant>,
    failed: bool,
}

impl Reflector {
    /// It is asked at once.
    pub(super) fn new(now: Instant, at: SocketAddr, token: [u8; 16]) -> Self {
        let (nonce, due) = ([0; 8], Some(now));
        Self { at, token, nonce, attempt: 0, due, failed: false }
    }

    /// Something about the network may have changed.
    pub(super) fn check_now(&mut self, now: Instant) {
        self.attempt = 0;
        self.due = Some(now);
    }

    /// The last check has ended without an answer.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether that is the answer to the check that is running.
    pub(super) fn on_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: [u8; 8],
        is_active: bool,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        if self.at != from || self.attempt == 0 || nonce != self.nonce {
            return false;
        }
        self.failed = false;
        self.sleep(now, is_active, rng);
        true
    }

    /// The next request, if it is time.
    pub(super) fn fire_due_timers(
        &mut self,
        now: Instant,
        is_active: bool,
        rng: &mut ChaCha8Rng,
    ) -> Option<(SocketAddr, ControlFrame)> {
        self.due.filter(|due| *due <= now)?;
        if self.attempt >= ATTEMPTS {
            self.failed = true;
            self.sleep(now, is_active, rng);
            return None;
        }
        if self.attempt == 0 {
            self.nonce = rng.random();
        }
        self.due = Some(now + rung(&LADDER, LAST_GAP, self.attempt));
        self.attempt += 1;
        let (token, nonce) = (self.token, self.nonce);
        Some((self.at, ControlFrame::ReflectRequest { token, nonce }))
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due
    }

    fn sleep(&mut self, now: Instant, is_active: bool, rng: &mut ChaCha8Rng) {
        let gap = if is_active { CHECK_ACTIVE } else { CHECK_IDLE };
        self.attempt = 0;
        self.due = Some(now + jittered(rng, gap));
    }
}
