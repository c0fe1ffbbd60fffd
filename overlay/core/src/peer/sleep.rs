//! A pair that has long been silent costs no keepalive of its own: each node goes on holding the channel at its home relay,
//! which it keeps for all pairs, and lets those elsewhere lapse.
//!
//! So the peer is reached at *its* home relay. Whoever has something to say binds all channels anew and shakes hands
//! through each as soon as it is bound; keys are void by then, so nothing could be sent without. What the peer answers
//! through is known to work, and is used. The peer wakes with the first packet, and binds too.

use std::time::{Duration, Instant};

use super::Peer;
use crate::context::Context;
use crate::io::Path;
use crate::path::Selected;

/// Silence after which a pair sleeps. WireGuard's keys are void after 180 s (`REJECT_AFTER_TIME`), those of a handshake
/// that followed the last data too; and a minute.
const SLEEP_AFTER: Duration = Duration::from_secs(250);

impl Peer {
    /// This node's home relay is another one, or is silent: until that is clear everything is held.
    pub(crate) fn on_home(&mut self, ctx: &Context<'_>) {
        self.relays.wake(ctx.now);
    }

    /// Nothing is held but the channel at this node's home relay.
    pub(super) fn is_asleep(&self) -> bool {
        self.relays.is_asleep()
    }

    /// This node has something to say.
    pub(super) fn wake(&mut self, ctx: &Context<'_>) {
        self.stirred = Some(ctx.now);
        if self.relays.wake(ctx.now) {
            self.waking = true;
            self.search.renew(ctx.now, ctx.own, &mut self.rng);
            self.sessions.values_mut().for_each(|session| session.wake(ctx.now));
        }
    }

    /// The peer was heard.
    pub(super) fn wake_heard(&mut self, ctx: &mut Context<'_>, via: Path) {
        self.stirred = Some(ctx.now);
        let slept = self.relays.wake(ctx.now);
        if !(std::mem::take(&mut self.waking) | slept) || !self.relays.is_bound(via) {
            return;
        }
        let is_elsewhere = |selected: &Selected| !selected.is_direct() && selected.primary != via;
        if self.selected.as_ref().is_some_and(is_elsewhere) {
            self.select(ctx, via);
        }
    }

    /// When the pair goes to sleep.
    pub(super) fn sleep_timer(&self, ctx: &Context<'_>) -> Option<Instant> {
        let home = ctx.home?;
        let is_quiet = !self.sessions.is_empty()
            && self.sessions.values().all(|session| session.next_timer().is_none());
        let may_sleep = is_quiet && self.relays.is_held_besides(home);
        self.stirred.filter(|_| may_sleep).map(|stirred| stirred + SLEEP_AFTER)
    }

    pub(super) fn fire_sleep(&mut self, ctx: &Context<'_>) {
        if let Some(home) = ctx.home
            && self.sleep_timer(ctx).is_some_and(|at| at <= ctx.now)
        {
            self.relays.sleep_besides(home);
        }
    }
}
