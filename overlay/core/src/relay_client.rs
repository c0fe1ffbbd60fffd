//! One channel to a peer through a relay: binds this node's address to it and keeps it bound.
//!
//! ```text
//!   unbound ──request, challenge, answer, ack──▶ bound ──every 20 s──▶ refreshing ──ack──▶ bound
//!      ▲                                                                   │
//!      └───────────────────────5 requests unanswered───────────────────────┘
//! ```
//!
//! A refresh is the same exchange as the first binding, so a relay that has restarted and forgotten
//! everything is bound again by the next one; [`RelayChannel::refresh_now`] makes it come at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::context::{Context, jittered, rung};
use crate::io::{Output, Path};
use crate::wire::{ControlFrame, Ticket};

/// Gaps between requests; afterwards [`LADDER_REST`].
const LADDER: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// Between requests to a relay that does not answer.
const LADDER_REST: Duration = Duration::from_secs(5);

/// Between refreshes: well below the 120 s that a binding lives, and below the 30 s after which some
/// NATs forget a UDP mapping.
const REFRESH: Duration = Duration::from_secs(20);

/// Unanswered requests after which the binding counts as lost: 3.1 s by the ladder.
const LOST_AFTER: u32 = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct RelayChannel {
    relay: SocketAddr,
    ticket: Ticket,
    nonce: [u8; 8],
    /// Requests of the exchange that is running, 0 when none is.
    attempt: u32,
    due: Instant,
    bound: bool,
}

impl RelayChannel {
    pub(crate) fn new(now: Instant, relay: SocketAddr, ticket: Ticket) -> Self {
        Self { relay, ticket, nonce: [0; 8], attempt: 0, due: now, bound: false }
    }

    /// A newer ticket. Whether it is for the same channel, which then stays bound.
    pub(crate) fn renew(&mut self, relay: SocketAddr, ticket: Ticket) -> bool {
        let same = self.relay == relay && self.ticket.channel == ticket.channel;
        if same {
            self.ticket = ticket;
        }
        same
    }

    pub(crate) fn path(&self) -> Path {
        Path::Relayed { relay: self.relay, channel: self.ticket.channel }
    }

    /// Whether the relay has this node's address.
    pub(crate) fn is_bound(&self) -> bool {
        self.bound
    }

    /// The binding may be gone: do not wait for the next refresh.
    pub(crate) fn refresh_now(&mut self, now: Instant) {
        if self.attempt == 0 {
            self.due = now;
        }
    }

    pub(crate) fn next_timer(&self) -> Instant {
        self.due
    }

    pub(crate) fn fire_due_timers(&mut self, rng: &mut ChaCha8Rng, ctx: &mut Context<'_>) {
        if ctx.now < self.due {
            return;
        }
        if self.attempt == 0 {
            self.nonce = rng.random();
        }
        if self.attempt >= LOST_AFTER {
            self.bound = false;
        }
        let gap = rung(&LADDER, jittered(rng, LADDER_REST), self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        self.due = ctx.now + gap;
        self.send(ControlFrame::BindRequest { ticket: self.ticket, nonce: self.nonce }, ctx);
    }

    /// A frame from somebody. Whether it belongs to the exchange that is running.
    pub(crate) fn on_frame(
        &mut self,
        from: SocketAddr,
        frame: &ControlFrame,
        rng: &mut ChaCha8Rng,
        ctx: &mut Context<'_>,
    ) -> bool {
        if from != self.relay || self.attempt == 0 {
            return false;
        }
        match *frame {
            ControlFrame::BindChallenge { nonce, cookie } if nonce == self.nonce => {
                self.send(ControlFrame::BindAnswer { ticket: self.ticket, nonce, cookie }, ctx);
                true
            }
            ControlFrame::BindAck { nonce, channel, .. }
                if nonce == self.nonce && channel == self.ticket.channel =>
            {
                self.bound = true;
                self.attempt = 0;
                self.due = ctx.now + REFRESH.mul_f64(rng.random_range(0.9..1.0));
                true
            }
            ControlFrame::BindChallenge { .. }
            | ControlFrame::BindAck { .. }
            | ControlFrame::ReflectRequest { .. }
            | ControlFrame::ReflectElsewhere { .. }
            | ControlFrame::ReflectResponse { .. }
            | ControlFrame::BindRequest { .. }
            | ControlFrame::BindAnswer { .. } => false,
        }
    }

    fn send(&self, frame: ControlFrame, ctx: &mut Context<'_>) {
        ctx.outputs.push(Output::Transmit { to: self.relay, bytes: frame.encode() });
    }
}
