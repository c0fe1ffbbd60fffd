//! What the coordinator announces.

use overlay_core::netmap::MAX_MEMBERS;
use overlay_core::{MeshId, NodeId};

/// A member of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchMember {
    /// The node.
    pub node: NodeId,
    /// Its OAR host name.
    pub name: String,
}

/// A launch that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The same launch was announced with other members, or has been closed.
    #[error("{0} exists already: launch it with a new generation")]
    Exists(MeshId),
    /// A network has 1 to [`MAX_MEMBERS`] members.
    #[error("a network cannot have {0} members: choose 1 to {MAX_MEMBERS}")]
    Size(usize),
    /// A node is named twice.
    #[error("{0:?} is named twice: give each node one rank")]
    Duplicate(NodeId),
}
