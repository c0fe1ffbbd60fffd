//! What the peer's silence, and its data, mean for the path in use.

use std::time::Instant;

use super::Peer;
use crate::context::Context;
use crate::io::{Output, Path};
use crate::path::{Due, IDLE_AFTER, Selected};
use crate::wire::probe::{MESH_MTU, MIN_PING};

impl Peer {
    /// An authentic packet has come that way.
    pub(super) fn on_heard(&mut self, ctx: &mut Context<'_>, via: Path, data: bool) {
        let Some(selected) = &mut self.selected else { return };
        selected.on_heard(ctx.now, via, data);
        if data {
            self.search.wake(ctx.now, ctx.own, &mut self.rng);
        }
        // The peer sends from a place that it was not known at: it may have moved, or its NAT may
        // have started again. What it moved from is asked whether it still works.
        if let Path::Direct(endpoint) = via
            && self.search.trial(endpoint).is_none()
        {
            if !self.search.on_peer_ping(ctx.now, endpoint, ctx.own, &mut self.rng) {
                ctx.stats.endpoints_refused += 1;
            } else if selected.is_direct() && selected.primary != via {
                selected.question_now();
            }
        }
    }

    pub(super) fn fire_selected(&mut self, ctx: &mut Context<'_>) {
        self.rest_elsewhere(ctx);
        let around = self.surroundings(ctx);
        let Some(selected) = &mut self.selected else { return };
        if !selected.is_direct() && around.can_rest && selected.is_idle(ctx.now) {
            self.search.rest();
        }
        let dues = selected.fire_due_timers(ctx.now, &around);
        for due in dues {
            match due {
                Due::Ping => {
                    if let Some(path) = self.selected.as_ref().map(|selected| selected.primary) {
                        self.send_ping(ctx, path, MIN_PING);
                    }
                    self.ask_stand_in(ctx);
                }
                Due::Doubt => self.doubt(ctx),
                Due::GiveUp => self.give_up(ctx),
                Due::RenewKeys => {
                    self.sessions.values_mut().for_each(|session| session.renew_keys(ctx.now));
                }
                Due::Rest => self.rest(ctx),
            }
        }
        if let Some(selected) = self.selected.as_ref().filter(|selected| !selected.is_direct())
            && !selected.is_doubted()
            && let Some(faster) = self.relays.faster_than(selected.primary)
        {
            self.select(ctx, faster);
        }
    }

    /// The relay that a pair without data rests on is gone: nobody asks it, so nobody would notice.
    fn rest_elsewhere(&mut self, ctx: &mut Context<'_>) {
        let Some(selected) = self.selected.as_ref().filter(|selected| !selected.is_direct()) else {
            return;
        };
        let is_lost = selected.is_idle(ctx.now) && !self.relays.is_bound(selected.primary);
        if let Some(other) = self.relays.best().filter(|_| is_lost) {
            self.selected = Some(Selected::resting(ctx.now, other, selected.last_data()));
            self.tell_path(ctx);
        }
    }

    /// When a relayed pair without data stops searching.
    pub(super) fn rest_timer(&self) -> Option<Instant> {
        let selected = self.selected.as_ref().filter(|selected| !selected.is_direct())?;
        let is_busy = !self.search.is_resting() && self.relays.best().is_some();
        is_busy.then(|| selected.last_data() + IDLE_AFTER)
    }

    /// Whether the relays are worth measuring, and which of them is in use.
    pub(super) fn relays_in_use(&self, now: Instant) -> (bool, Option<Path>) {
        let selected = self.selected.as_ref().filter(|selected| !selected.is_direct());
        let is_wanted = selected.is_some_and(|selected| !selected.is_idle(now));
        (is_wanted, selected.map(|selected| selected.primary))
    }

    fn doubt(&mut self, ctx: &mut Context<'_>) {
        *ctx.in_doubt = true;
        let Some(primary) = self.selected.as_ref().map(|selected| selected.primary) else { return };
        if let Path::Relayed { relay, .. } = primary {
            ctx.outputs.push(Output::RelaySilent(relay));
        }
        // The peer has moved, and was found already: see `on_heard`.
        if let Path::Direct(silent) = primary
            && let Some(endpoint) = self.search.alternative(ctx.now, silent)
        {
            ctx.stats.promotions += 1;
            self.select(ctx, Path::Direct(endpoint));
            return;
        }
        let other = self.relays.besides(primary);
        if let (Some(selected), Some(_)) = (&mut self.selected, other) {
            selected.also = other;
            self.tell_path(ctx);
            self.ask_stand_in(ctx);
        } else {
            ctx.lost.push(self.id);
        }
        // The relays are needed: is this node's address the one that they know?
        for path in [Some(primary), other].into_iter().flatten() {
            self.relays.refresh(ctx.now, path);
        }
    }

    /// The relay that copies go through while another one is silent.
    pub(super) fn stand_in(&self) -> Option<Path> {
        let selected = self.selected.as_ref().filter(|s| !s.is_direct() && s.is_doubted())?;
        selected.also.filter(|also| matches!(also, Path::Relayed { .. }))
    }

    /// Asks it whether it works.
    fn ask_stand_in(&mut self, ctx: &mut Context<'_>) {
        if let Some(path) = self.stand_in() {
            self.send_ping(ctx, path, MIN_PING);
        }
    }

    /// It works, and the relay in use does not answer.
    pub(super) fn replace_relay(&mut self, ctx: &mut Context<'_>, other: Path) {
        if let Some(silent) = self.selected.as_ref().map(|selected| selected.primary) {
            self.relays.on_silent(silent);
            self.select(ctx, other);
        }
    }

    fn give_up(&mut self, ctx: &mut Context<'_>) {
        let Some(primary) = self.selected.as_ref().map(|selected| selected.primary) else { return };
        let other = self.relays.besides(primary);
        match primary {
            Path::Direct(endpoint) if other.is_some() => {
                self.search.on_silent(ctx.now, endpoint);
                ctx.stats.demotions += 1;
            }
            // There is nothing to fall back to: look for another way.
            Path::Direct(_) => self.search.renew(ctx.now, ctx.own, &mut self.rng),
            Path::Relayed { .. } => self.relays.on_silent(primary),
        }
        match other {
            Some(other) => self.select(ctx, other),
            None => ctx.lost.push(self.id),
        }
    }

    /// No data for long: the relay holds the pair.
    fn rest(&mut self, ctx: &mut Context<'_>) {
        let Some(relay) = self.relays.best() else { return };
        self.search.rest();
        if let Some(selected) = &self.selected {
            self.selected = Some(Selected::resting(ctx.now, relay, selected.last_data()));
            self.tell_path(ctx);
        }
    }

    pub(super) fn select(&mut self, ctx: &mut Context<'_>, path: Path) {
        let last_data = self.selected.as_ref().map_or(ctx.now, Selected::last_data);
        self.selected = Some(Selected::new(ctx.now, path, last_data));
        self.tell_path(ctx);
    }

    /// Tells the driver the path in use, and what it carries.
    pub(super) fn tell_path(&mut self, ctx: &mut Context<'_>) {
        let Some(Selected { primary, also, .. }) = self.selected else { return };
        ctx.outputs.push(Output::UsePath { peer: self.id, primary, also });
        self.tell_mtu(ctx);
    }

    /// Tells the driver what the path in use carries, if that has changed. The relay's frames are split
    /// where they are too long.
    pub(super) fn tell_mtu(&mut self, ctx: &mut Context<'_>) {
        let mtu = match self.selected.as_ref().map(|selected| selected.primary) {
            Some(Path::Direct(endpoint)) => {
                self.search.trial(endpoint).and_then(|trial| trial.mtu()).unwrap_or(MESH_MTU)
            }
            Some(Path::Relayed { .. }) | None => MESH_MTU,
        };
        if mtu != self.route_mtu {
            self.route_mtu = mtu;
            ctx.outputs.push(Output::RouteMtu { peer: self.id, mtu });
        }
    }
}
