//! The messages to nodes.

use std::net::SocketAddr;

use overlay_core::control::ToNode;
use overlay_core::wire::format_hex;
use overlay_core::{MeshId, NodeId};
use overlay_relay::reflector_token;

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
            self.send_ticket(node, *peer);
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

    pub(super) fn send_ticket(&mut self, node: NodeId, peer: NodeId) {
        let relay = self.endpoint_for(node);
        if let Some(ticket) = self.channels.ticket(&self.relay.keys, relay, node, peer) {
            self.send(node, ToNode::Ticket(ticket));
        }
    }

    pub(super) fn welcome(&mut self, node: NodeId, observed: SocketAddr) {
        let reflector = self.endpoint_for(node);
        let reflector_token = format_hex(&reflector_token(&self.relay.keys, node));
        self.send(node, ToNode::Welcome { observed, reflector, reflector_token });
    }

    /// The relay's endpoint that a node can reach: one of the family that it reached us by.
    fn endpoint_for(&self, node: NodeId) -> SocketAddr {
        let observed = self.nodes.observed(node);
        let is_reachable =
            |endpoint: &&SocketAddr| observed.is_none_or(|o| o.is_ipv4() == endpoint.is_ipv4());
        let endpoints = &self.relay.endpoints;
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let chosen = endpoints.iter().find(is_reachable).or(endpoints.first());
        chosen.copied().unwrap_or(unspecified)
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
