//! Asks the second reflector how it sees this node's socket.
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

/// Requests of one check: that many and the ladder's gaps make 3.1 s.
const ATTEMPTS: u32 = 6;

/// Between checks while the node is in a mesh (reference: 20 to 26 s). It keeps the mapping alive
/// through NATs that forget after 30 s, the shortest that RFC 4787 REQ-5 lets one expect in practice.
const CHECK_ACTIVE: Duration = Duration::from_secs(23);

/// Between checks otherwise. Chosen: a changed address is noticed before the next job comes.
const CHECK_IDLE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(crate) struct ReflectClient {
    rng: ChaCha8Rng,
    reflector: Option<(SocketAddr, [u8; 16])>,
    nonce: [u8; 8],
    attempt: u32,
    due: Option<Instant>,
}

impl ReflectClient {
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self { rng, reflector: None, nonce: [0; 8], attempt: 0, due: None }
    }

    /// There is a reflector, perhaps a new one: ask at once.
    pub(crate) fn on_reflector(&mut self, now: Instant, at: SocketAddr, token: [u8; 16]) {
        self.reflector = Some((at, token));
        self.check_now(now);
    }

    /// Something about the network may have changed.
    pub(crate) fn check_now(&mut self, now: Instant) {
        if self.reflector.is_some() {
            self.attempt = 0;
            self.due = Some(now);
        }
    }

    /// Whether that is the answer to the check that is running.
    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: [u8; 8],
        is_active: bool,
    ) -> bool {
        let asked = self.reflector.is_some_and(|(at, _)| at == from);
        if !asked || self.attempt == 0 || nonce != self.nonce {
            return false;
        }
        self.sleep(now, is_active);
        true
    }

    /// The next request, if it is time.
    pub(crate) fn fire_due_timers(
        &mut self,
        now: Instant,
        is_active: bool,
    ) -> Option<(SocketAddr, ControlFrame)> {
        let (at, token) = self.reflector?;
        self.due.filter(|due| *due <= now)?;
        if self.attempt >= ATTEMPTS {
            self.sleep(now, is_active);
            return None;
        }
        if self.attempt == 0 {
            self.nonce = self.rng.random();
        }
        self.due = Some(now + rung(&LADDER, CHECK_ACTIVE, self.attempt));
        self.attempt += 1;
        Some((at, ControlFrame::ReflectRequest { token, nonce: self.nonce }))
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.due
    }

    fn sleep(&mut self, now: Instant, is_active: bool) {
        let gap = if is_active { CHECK_ACTIVE } else { CHECK_IDLE };
        self.attempt = 0;
        self.due = Some(now + jittered(&mut self.rng, gap));
    }
}
