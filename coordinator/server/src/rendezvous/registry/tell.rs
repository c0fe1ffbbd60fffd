//! The messages to nodes.

use std::net::SocketAddr;

use overlay_core::control::ToNode;
use overlay_core::wire::format_hex;
use overlay_core::{MeshId, NodeId, RelayOffer};
use overlay_relay::reflector_token;

use super::channels::{Pair, ordered};
use super::fleet::{OWN_RELAY, Side};
use super::mesh::Mesh;
use super::{Output, Registry};

impl Registry {
    /// Everything that a member must know, in the order in which it needs it.
    pub(super) fn send_all(&mut self, node: NodeId, mesh_id: MeshId) {
        let Some(mesh) = self.meshes.get(&mesh_id) else { return };
        let Some(netmap) = mesh.netmap(mesh_id, self.era) else { return };
        let rtt = mesh.opened_at_ms().map(|_| mesh.rtt());
        let ended: Vec<_> = mesh.members().iter().filter(|m| m.has_ended).map(|m| m.node).collect();
        let peers: Vec<_> = mesh.nodes().filter(|peer| *peer != node).collect();
        for peer in &peers {
            self.send_tickets(node, *peer);
        }
        for peer in peers {
            if let Some(candidates) = self.nodes.candidates(peer).cloned() {
                self.send(node, ToNode::Candidates(candidates));
            }
        }
        self.send(node, ToNode::Netmap(netmap));
        if let Some(rtt) = rtt {
            self.send(node, ToNode::MeshOpen { mesh: mesh_id, rtt });
        }
        for member in ended.into_iter().filter(|member| *member != node) {
            self.send(node, ToNode::Member { mesh: mesh_id, node: member, ended: true });
        }
    }

    /// Tells the others that a member's part is over, or that it is back.
    pub(super) fn tell_of(&mut self, mesh_id: MeshId, node: NodeId, ended: bool) {
        let Some(mesh) = self.meshes.get_mut(&mesh_id) else { return };
        if !mesh.set_ended(node, ended) {
            return;
        }
        let others: Vec<_> = mesh.present().filter(|other| *other != node).collect();
        for other in others {
            self.send(other, ToNode::Member { mesh: mesh_id, node, ended });
        }
    }

    /// A ticket for each relay that the pair uses.
    pub(super) fn send_tickets(&mut self, node: NodeId, peer: NodeId) {
        self.choose_relays((node, peer));
        let relays = self.channels.relays((node, peer)).to_vec();
        self.send_tickets_for(&relays, node, peer);
    }

    fn send_tickets_for(&mut self, relays: &[NodeId], node: NodeId, peer: NodeId) {
        let observed = self.nodes.observed(node);
        for relay in relays {
            let Some((keys, at)) = self.fleet.reach(*relay, observed) else { continue };
            if let Some(ticket) = self.channels.ticket(keys, at, node, peer) {
                self.send(node, ToNode::Ticket(ticket));
            }
        }
    }

    /// Chooses the relays of a pair anew; which are new to it.
    fn choose_relays(&mut self, pair: Pair) -> Vec<NodeId> {
        let side =
            |node| Side { observed: self.nodes.observed(node), near: self.nodes.relays(node) };
        let (lower, higher) = ordered(pair);
        let chosen = self.fleet.for_pair(side(lower), side(higher));
        self.channels.set_relays(pair, chosen)
    }

    /// The relays, or what these pairs know of them, have changed: both sides get what they lack.
    pub(super) fn renew_relays(&mut self, pairs: Vec<Pair>) {
        for pair in pairs {
            let new = self.choose_relays(pair);
            self.send_tickets_for(&new, pair.0, pair.1);
            self.send_tickets_for(&new, pair.1, pair.0);
        }
    }

    /// The relays that run. One alone needs no measuring.
    pub(super) fn send_relays(&mut self, node: NodeId) {
        let observed = self.nodes.observed(node);
        let offer = |relay| {
            let (keys, endpoint) = self.fleet.reach(relay, observed)?;
            let token = format_hex(&reflector_token(keys, node));
            Some(RelayOffer { relay, endpoint, token, tunnel: self.fleet.tunnel(relay) })
        };
        let relays = self.fleet.running().filter_map(offer).collect();
        self.send(node, ToNode::Relays { relays });
    }

    pub(super) fn welcome(&mut self, node: NodeId, observed: SocketAddr) {
        let Some((keys, reflector)) = self.fleet.reach(OWN_RELAY, Some(observed)) else { return };
        let reflector_token = format_hex(&reflector_token(keys, node));
        let other_reflector = self.fleet.own_in_other_family(reflector);
        let welcome = ToNode::Welcome { observed, reflector, reflector_token, other_reflector };
        self.send(node, welcome);
        if self.fleet.is_plural() {
            self.send_relays(node);
        }
    }

    /// The nodes that know of `node` by a netmap.
    pub(super) fn peers(&self, node: NodeId) -> Vec<NodeId> {
        let meshes = self.nodes.meshes(node).filter_map(|mesh| self.meshes.get(&mesh));
        let issued = meshes.filter(|mesh| mesh.is_issued() && mesh.present().any(|n| n == node));
        let mut peers: Vec<_> =
            issued.flat_map(Mesh::present).filter(|peer| *peer != node).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    pub(super) fn refuse(&mut self, node: NodeId, mesh: MeshId, reason: &str) {
        self.send(node, ToNode::MeshClosed { mesh, reason: reason.to_owned() });
    }

    pub(super) fn send(&mut self, node: NodeId, message: ToNode) {
        if self.nodes.is_connected(node) {
            self.outputs.push(Output::Send(node, message));
        }
    }
}
