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
//! Where the relay takes one keepalive for all channels (`keeper`), a bound channel sends nothing.
//!
//! A channel may *sleep*: nothing holds it, and it binds when it is woken.

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

/// Within this time after a new ticket a channel that is kept alive binds again, lest the relay's
/// state end with the old ticket. Chosen: far less than what is left of it, and spread widely.
const RENEW_WITHIN_S: u64 = 300;

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
    due: Option<Instant>,
    bound: bool,
    /// One keepalive holds all channels at that relay.
    kept: bool,
    /// Nothing holds it.
    asleep: bool,
}

impl RelayChannel {
    /// A channel that is to be bound at that time.
    pub(crate) fn new(start: Instant, relay: SocketAddr, ticket: Ticket) -> Self {
        let due = Some(start);
        let (bound, kept, asleep) = (false, false, false);
        Self { relay, ticket, nonce: [0; 8], attempt: 0, due, bound, kept, asleep }
    }

    /// If it has not been bound yet, it is to be now.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if !self.bound && self.attempt == 0 && !self.asleep {
            self.due = Some(now);
        }
    }

    /// A newer ticket. Whether it is for the same channel, which then stays bound.
    pub(crate) fn renew(
        &mut self,
        now: Instant,
        relay: SocketAddr,
        ticket: Ticket,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let same = self.relay == relay && self.ticket.channel == ticket.channel;
        if same {
            let is_newer = self.ticket.expires_unix != ticket.expires_unix;
            self.ticket = ticket;
            if is_newer && self.due.is_none() && !self.asleep {
                let spread = Duration::from_secs(rng.random_range(0..RENEW_WITHIN_S));
                self.due = Some(now + spread);
            }
        }
        same
    }

    pub(crate) fn relay(&self) -> SocketAddr {
        self.relay
    }

    /// Whether one keepalive holds all channels at that relay from now on.
    pub(crate) fn set_kept(&mut self, now: Instant, kept: bool) {
        if self.asleep {
            return;
        }
        if kept && !self.kept && self.bound && self.attempt == 0 {
            self.due = None;
        }
        self.kept = kept;
        if !kept {
            self.refresh_now(now);
        }
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
        if self.attempt == 0 && !self.asleep {
            self.due = Some(now);
        }
    }

    /// The network has changed: whatever is running begins anew.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.attempt = 0;
        self.due = (!self.asleep).then_some(now);
    }

    /// Lets the binding lapse.
    pub(crate) fn sleep(&mut self) {
        (self.attempt, self.due) = (0, None);
        (self.bound, self.kept, self.asleep) = (false, false, true);
    }

    /// Whether it slept. It binds at once.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        let slept = std::mem::take(&mut self.asleep);
        if slept {
            self.restart(now);
        }
        slept
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn fire_due_timers(&mut self, rng: &mut ChaCha8Rng, ctx: &mut Context<'_>) {
        if self.due.is_none_or(|due| ctx.now < due) {
            return;
        }
        if self.attempt == 0 {
            let former = std::mem::replace(&mut self.nonce, rng.random());
            ctx.exchanges.push((former, self.nonce));
        }
        if self.attempt >= LOST_AFTER {
            self.bound = false;
        }
        let gap = rung(&LADDER, jittered(rng, LADDER_REST), self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        self.due = Some(ctx.now + gap);
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
                let refresh = REFRESH.mul_f64(rng.random_range(0.9..1.0));
                self.due = (!self.kept).then(|| ctx.now + refresh);
                true
            }
            ControlFrame::BindChallenge { .. }
            | ControlFrame::BindAck { .. }
            | ControlFrame::ReflectRequest { .. }
            | ControlFrame::ReflectElsewhere { .. }
            | ControlFrame::ReflectResponse { .. }
            | ControlFrame::BindRequest { .. }
            | ControlFrame::BindAnswer { .. }
            | ControlFrame::KeepAlive { .. }
            | ControlFrame::KeepAliveAck { .. } => false,
        }
    }

    fn send(&self, frame: ControlFrame, ctx: &mut Context<'_>) {
        ctx.outputs.push(Output::Transmit { to: self.relay, bytes: frame.encode() });
    }
}
