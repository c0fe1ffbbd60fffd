//! Meeting by chance, as far as it concerns the peer: see [`crate::chance`].

use std::net::IpAddr;

use rand::Rng;

use super::Peer;
use crate::chance::Due;
use crate::context::Context;
use crate::ids::SessionKey;
use crate::io::{Output, Path};
use crate::search::Part;
use crate::wire::Probe;
use crate::wire::probe::{MIN_PING, Purpose};

impl Peer {
    /// The peer would open ports for this node.
    pub(crate) fn on_chance_offered(&mut self, ctx: &mut Context<'_>) {
        // The peer's search has ended; this node's may take a moment longer.
        if let Some(Part::Looker(at)) = self.part(ctx) {
            self.chance.look(ctx.now, at, &mut self.rng);
            self.send_hint(ctx, Purpose::AcceptChance, &[]);
        }
    }

    /// The peer looks for the ports that this node has offered to open.
    pub(crate) fn on_chance_accepted(&mut self, ctx: &mut Context<'_>) {
        if let Some(Part::Opener(to)) = self.search.part(ctx.own)
            && self.chance.open(ctx.now, to)
        {
            ctx.stats.chances += 1;
        }
    }

    /// Offers it to the peer where nothing else has come of the search; sends what is due.
    pub(super) fn fire_chance(&mut self, ctx: &mut Context<'_>) {
        if self.is_direct()
            && let Some(to) = self.chance.found()
        {
            ctx.outputs.push(Output::ClosePorts { to, all: false });
        }
        if self.search.is_settled()
            && let Some(Part::Opener(_)) = self.part(ctx)
        {
            self.end_chance(ctx);
            self.chance.offer(ctx.now);
            self.send_hint(ctx, Purpose::OfferChance, &[]);
        }
        let Some(due) = self.chance.fire(ctx.now) else { return };
        if let Due::Close { to } = due {
            ctx.outputs.push(Output::ClosePorts { to, all: true });
            return;
        }
        let session = self.sessions.iter().find(|(_, session)| session.is_established());
        let Some((mesh, _)) = session else { return };
        let session = SessionKey { mesh: *mesh, peer: self.id };
        ctx.stats.pings_sent += 1;
        match due {
            Due::Open { to, number } => {
                let transaction = self.rng.random();
                let bytes = Probe::Ping { transaction, size: MIN_PING }.encode();
                ctx.outputs.push(Output::OpenPort { session, to, number, bytes });
            }
            Due::Look { to, transaction } => {
                let bytes = Probe::Ping { transaction, size: MIN_PING }.encode();
                ctx.outputs.push(Output::Probe { session, via: Path::Direct(to), bytes });
            }
            Due::Close { .. } => {}
        }
    }

    /// Nothing is left of it.
    pub(super) fn end_chance(&mut self, ctx: &mut Context<'_>) {
        if let Some(to) = self.chance.end() {
            ctx.outputs.push(Output::ClosePorts { to, all: true });
        }
    }

    /// Whether that pong answers a ping to one of many ports. The endpoint is on trial by then, since an authentic
    /// packet has come from there.
    pub(super) fn is_found_by_chance(&self, via: Path, transaction: [u8; 8]) -> bool {
        matches!(via, Path::Direct(from) if self.chance.has_found(from, transaction))
    }

    /// The part that this node may take now, if it may take one: the volunteer allows it, the pair is relayed and
    /// has data, and nobody else is at either address.
    fn part(&self, ctx: &Context<'_>) -> Option<Part> {
        let selected = self.selected.as_ref().filter(|selected| !selected.is_direct())?;
        let is_wanted = ctx.may_chance
            && self.chance.may_begin(ctx.now)
            && !self.search.is_resting()
            && !selected.is_idle(ctx.now);
        let part = self.search.part(ctx.own).filter(|_| is_wanted)?;
        let theirs = match part {
            Part::Opener(to) => to.ip(),
            Part::Looker(at) => at,
        };
        let is_at = |ip: &IpAddr| *ip == theirs || ctx.own.is_seen_at(*ip);
        let mut others = ctx.outer.iter().filter(|(id, _)| **id != self.id);
        (!others.any(|(_, seen)| seen.iter().any(is_at))).then_some(part)
    }
}
