//! What the coordinator orders: meshes and their members, and channels at relays.

use super::Node;
use crate::MeshId;
use crate::mesh::{MAX_MESHES, Mesh};
use crate::netmap::{Netmap, RelayTicket};
use crate::peer::Joining;
use crate::wire::Ticket;

impl Node {
    pub(super) fn on_join(&mut self, mesh: MeshId) {
        if self.meshes.contains_key(&mesh) {
            return;
        }
        if self.meshes.len() >= MAX_MESHES {
            self.stats.orders_refused += 1;
            return;
        }
        self.meshes.insert(mesh, Mesh::new(self.now));
        self.nat.check_now(self.now);
    }

    pub(super) fn on_netmap(&mut self, netmap: Netmap) {
        let id = netmap.mesh;
        let Some(mesh) = self.meshes.get_mut(&id) else {
            self.stats.netmaps_refused += 1;
            return;
        };
        if mesh.has(&netmap) {
            return;
        }
        let joined_at = mesh.joined_at;
        let Ok(changes) = mesh.apply(self.config.id, netmap) else {
            self.stats.netmaps_refused += 1;
            return;
        };
        for peer in changes.removed {
            self.with_peer(peer, |peer, ctx| peer.remove_session(ctx, id));
        }
        let own = self.config.id;
        for member in changes.added {
            let lazy = !changes.expected.contains(&member.node);
            let joining = Joining { mesh: id, joined_at, lazy };
            self.with_peer(member.node, |peer, ctx| peer.add_session(ctx, own, joining, &member));
        }
        for node in changes.expected {
            self.with_peer(node, |peer, ctx| peer.want(ctx, id));
        }
        self.forget_strangers();
    }

    pub(super) fn on_leave(&mut self, id: MeshId) {
        let Some(mesh) = self.meshes.remove(&id) else { return };
        for peer in mesh.peers() {
            self.with_peer(peer, |peer, ctx| peer.remove_session(ctx, id));
        }
        self.forget_strangers();
    }

    pub(super) fn on_ticket(&mut self, ticket: &RelayTicket) {
        match Ticket::from_hex(&ticket.sealed) {
            Ok(sealed) if sealed.channel == ticket.channel => {
                self.with_peer(ticket.peer, |peer, ctx| peer.on_ticket(ctx, ticket.relay, sealed));
            }
            Ok(_) | Err(_) => self.stats.orders_refused += 1,
        }
    }

    /// Forgets peers without a session, unless a netmap that may name them is still to come.
    fn forget_strangers(&mut self) {
        if self.meshes.values().any(|mesh| mesh.epoch == 0) {
            return;
        }
        let strangers: Vec<_> =
            self.peers.iter().filter(|(_, peer)| !peer.has_sessions()).map(|(id, _)| *id).collect();
        for id in strangers {
            self.peers.remove(&id);
            self.outer.remove(&id);
            self.set_deadline(id, None);
        }
    }
}
