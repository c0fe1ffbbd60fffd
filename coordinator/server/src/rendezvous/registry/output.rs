//! What the registry wants done.

use overlay_core::control::ToNode;
use overlay_core::{MeshId, NodeId};

/// What the coordinator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RendezvousEvent {
    /// Every pair has a path: the job may start.
    Open {
        /// The network.
        mesh: MeshId,
    },
    /// A member left; its reports are final.
    Left {
        /// The network.
        mesh: MeshId,
        /// The member.
        node: NodeId,
    },
    /// A node's control connection is up.
    Connected(NodeId),
    /// It has ended.
    Disconnected(NodeId),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rendezvous) enum Output {
    /// Send to a connected node.
    Send(NodeId, ToNode),
    /// Close a node's connection with that reason.
    Disconnect(NodeId, String),
    /// Tell the coordinator.
    Event(RendezvousEvent),
}
