//! Where members are, as members say: through relays and common peers, without the coordinator.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Node;
use crate::peer::Peer;
use crate::wire::probe::Purpose;
use crate::{NodeId, SessionKey};

/// Peers that are asked at a time to pass on where this node is.
const HELPERS: usize = 2;

impl Node {
    /// A member of the mesh says where it, or another member, is.
    pub(super) fn on_hint(
        &mut self,
        from: SessionKey,
        purpose: Purpose,
        endpoints: &[Option<SocketAddr>],
    ) {
        let is_member = |peers: &BTreeMap<NodeId, Peer>, node: &NodeId| {
            peers.get(node).is_some_and(|peer| peer.is_established_in(from.mesh))
        };
        if !is_member(&self.peers, &from.peer) {
            return;
        }
        match purpose {
            Purpose::Here => {
                self.with_peer(from.peer, |peer, ctx| peer.on_hint(ctx, endpoints));
            }
            Purpose::About(node) if is_member(&self.peers, &node) => {
                self.with_peer(node, |peer, ctx| peer.on_hint(ctx, endpoints));
            }
            Purpose::PassOn(node) if is_member(&self.peers, &node) && node != from.peer => {
                let (mut may_ask, mut seen_at) = (false, None);
                self.with_peer(from.peer, |peer, ctx| {
                    (may_ask, seen_at) = (peer.may_ask(ctx.now), peer.seen_at());
                });
                if may_ask {
                    let purpose = Purpose::About(from.peer);
                    // Where this node sees it comes first: it may not know that itself.
                    let known = endpoints.iter().filter(|endpoint| **endpoint != seen_at);
                    let endpoints: Vec<_> = [seen_at].iter().chain(known).copied().collect();
                    self.with_peer(node, |peer, ctx| peer.send_hint(ctx, purpose, &endpoints));
                }
            }
            Purpose::OfferChance => {
                self.with_peer(from.peer, |peer, ctx| peer.on_chance_offered(ctx));
            }
            Purpose::AcceptChance => {
                self.with_peer(from.peer, |peer, ctx| peer.on_chance_accepted(ctx));
            }
            Purpose::About(_) | Purpose::PassOn(_) => self.stats.probes_refused += 1,
        }
    }

    /// Asks peers that can be heard to tell those that cannot where this node is.
    pub(super) fn seek_lost(&mut self) {
        for lost in std::mem::take(&mut self.lost) {
            let Some(meshes) = self.peers.get(&lost).map(Peer::meshes) else { continue };
            let can_help = |(id, peer): &(&NodeId, &Peer)| {
                **id != lost
                    && peer.is_heard()
                    && meshes.iter().any(|mesh| peer.is_established_in(*mesh))
            };
            let helpers: Vec<_> =
                self.peers.iter().filter(can_help).map(|(id, _)| *id).take(HELPERS).collect();
            for helper in helpers {
                self.with_peer(helper, |peer, ctx| peer.ask_to_pass_on(ctx, lost));
            }
        }
    }
}
