//! Pings and pongs inside the peer's sessions, and what they promote.

use std::net::SocketAddr;

use rand::Rng;

use super::Peer;
use crate::context::Context;
use crate::ids::{MeshId, SessionKey};
use crate::io::{Output, Path};
use crate::ledger::Ping;
use crate::tier::is_better;
use crate::wire::Probe;
use crate::wire::probe::MESH_MTU;

impl Peer {
    /// A probe came in that session. Whether the session is known.
    pub(crate) fn on_probe(
        &mut self,
        ctx: &mut Context<'_>,
        mesh: MeshId,
        via: Path,
        probe: Probe,
    ) -> bool {
        if !self.on_authenticated(ctx, mesh, via, false) {
            return false;
        }
        match probe {
            Probe::Ping { transaction, .. } => self.on_ping(ctx, mesh, via, transaction),
            Probe::Pong { transaction, observed } => {
                if self.on_pong(ctx, via, transaction)
                    && let Some(observed) = observed
                {
                    ctx.reports.push((self.id, observed));
                }
            }
            // The node knows whom it concerns.
            Probe::Hint { .. } => {}
        }
        true
    }

    fn on_ping(&mut self, ctx: &mut Context<'_>, mesh: MeshId, via: Path, transaction: [u8; 8]) {
        let observed = match via {
            Path::Direct(endpoint) => Some(endpoint),
            Path::Relayed { .. } => None,
        };
        ctx.outputs.push(Output::Probe {
            session: SessionKey { mesh, peer: self.id },
            via,
            bytes: Probe::Pong { transaction, observed }.encode(),
        });
        if let Some(endpoint) = observed
            && self.search.trial(endpoint).is_some()
        {
            self.search.on_peer_ping(ctx.now, endpoint, ctx.own, &mut self.rng);
        }
    }

    /// Whether it answers a ping of this node.
    fn on_pong(&mut self, ctx: &mut Context<'_>, via: Path, transaction: [u8; 8]) -> bool {
        let Some(ping) = self.pings.settle(transaction, via) else {
            if self.is_found_by_chance(via, transaction) {
                return false;
            }
            ctx.stats.probes_refused += 1;
            return false;
        };
        let took = ctx.now.saturating_duration_since(ping.sent_at);
        if self.selected.as_mut().is_some_and(|selected| selected.on_pong(ping.path)) {
            self.tell_path(ctx);
        }
        match ping.path {
            Path::Relayed { .. } => {
                self.relays.on_pong(ctx.now, ping.path, took);
                if ping.size >= MESH_MTU && self.relays.on_full_pong(ping.path) {
                    let path = ping.path;
                    ctx.outputs.push(Output::RelayWidth { path, whole: true });
                }
                if self.stand_in() == Some(ping.path) {
                    self.replace_relay(ctx, ping.path);
                }
            }
            Path::Direct(endpoint) => {
                if self.search.on_pong(ctx.now, endpoint, ping.size, took)
                    && self.is_to_be_used(endpoint)
                {
                    ctx.stats.promotions += 1;
                    self.select(ctx, Path::Direct(endpoint));
                    self.search.on_promoted(ctx.now);
                }
                self.tell_mtu(ctx);
            }
        }
        true
    }

    /// Whether a proven endpoint is to replace the path in use.
    fn is_to_be_used(&self, endpoint: SocketAddr) -> bool {
        let Some(selected) = &self.selected else { return true };
        match selected.primary {
            Path::Direct(current) if current == endpoint => false,
            Path::Direct(current) => {
                let is_proven = self.search.trial(current).is_some_and(|trial| trial.is_proven());
                let (new, old) = (self.search.standing(endpoint), self.search.standing(current));
                selected.is_doubted() || !is_proven || is_better(new, old)
            }
            Path::Relayed { .. } => !self.search.is_resting(),
        }
    }

    /// Sends a ping in any session that is up.
    pub(super) fn send_ping(&mut self, ctx: &mut Context<'_>, path: Path, size: usize) {
        let session = self.sessions.iter().find(|(_, session)| session.is_established());
        let Some((mesh, _)) = session else { return };
        let transaction = self.rng.random();
        self.pings.note(Ping { transaction, path, size, sent_at: ctx.now });
        ctx.stats.pings_sent += 1;
        ctx.outputs.push(Output::Probe {
            session: SessionKey { mesh: *mesh, peer: self.id },
            via: path,
            bytes: Probe::Ping { transaction, size }.encode(),
        });
    }
}
