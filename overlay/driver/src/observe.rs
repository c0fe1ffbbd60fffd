//! What somebody who watches a node is told while it happens.
//!
//! Reports go to the coordinator as they are sent; an observer sees every change at its moment.

use overlay_core::control::{PairReport, PathReport};
use overlay_core::{MeshId, NodeId, PairState};

/// Told of everything, on the worker's thread: it must not wait for anything.
pub type Observer = Box<dyn FnMut(&Observed) + Send>;

/// Something that happened on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// The node has asked to be part of a mesh.
    Joined(MeshId),
    /// A pair of the mesh takes another path, or there is another reason for the one that it takes.
    Path {
        /// The mesh.
        mesh: MeshId,
        /// The pair's other end.
        peer: NodeId,
        /// Its host name and index in the mesh, where the netmap names them.
        member: Option<(String, u16)>,
        /// The path in use.
        path: PathReport,
        /// Smoothed round trip time on it, microseconds.
        rtt_us: Option<u64>,
        /// Why it is this path, for people.
        reason: String,
    },
    /// How the pairs of a mesh stand, with their byte counts: several times a second those of which these or the
    /// round trip times have changed since the last time, and all when the mesh is left.
    Pairs {
        /// The mesh.
        mesh: MeshId,
        /// The pairs.
        pairs: Vec<PairReport>,
    },
    /// Every pair of the mesh has a path: the coordinator has opened it.
    Open(MeshId),
    /// The node is not, or no longer, part of the mesh.
    Closed {
        /// The mesh.
        mesh: MeshId,
        /// Why, for people.
        reason: String,
    },
    /// The node has left the mesh.
    Left(MeshId),
}

/// Why a pair takes the path that it takes: the core's word, where it has one.
pub(crate) fn reason(state: &PairState, path: PathReport) -> String {
    match path {
        PathReport::Direct { .. } if state.explain.is_empty() => {
            "the peer answered a full-size probe at this endpoint".to_owned()
        }
        PathReport::Direct { .. } | PathReport::Relayed { .. } | PathReport::None => {
            state.explain.clone()
        }
    }
}

/// Whether an observer wants to hear of a change: another path, or another reason but for the numbers in
/// it.
pub(crate) fn is_news(before: Option<&PairState>, now: &PairState) -> bool {
    let words = |state: &PairState| -> String {
        state.explain.chars().filter(|letter| !letter.is_ascii_digit()).collect()
    };
    before.is_none_or(|before| before.path != now.path || words(before) != words(now))
}
