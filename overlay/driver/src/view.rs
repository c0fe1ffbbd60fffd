//! What a node knows and does, for its owner's questions.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use overlay_core::control::PairReport;
use overlay_core::ladder::flow::Arrivals;
use overlay_core::{MeshId, Netmap, NodeId, NodeView, SessionKey};

use crate::stats::Stats;

/// A snapshot of a node.
#[derive(Clone, Debug)]
pub struct View {
    /// Who it is.
    pub id: NodeId,
    /// What the core knows.
    pub node: NodeView,
    /// What the coordinator said of this node's network; none before the first session.
    pub seen: Option<Seen>,
    /// The meshes that it is in.
    pub meshes: Vec<MeshView>,
    /// The data plane's counters.
    pub stats: Stats,
    /// What the pairs have got through relays.
    pub flows: Vec<Flow>,
    /// The reflectors beside all relays that run.
    pub reflectors: Vec<Reflector>,
}

/// Somebody who tells where packets come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reflector {
    /// Where it is.
    pub at: SocketAddr,
    /// Shown to it.
    pub token: [u8; 16],
}

/// Leaves the token out.
impl fmt::Debug for Reflector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What a pair has got through relays, and which one it takes now.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The job's network, and the peer.
    pub session: SessionKey,
    /// The relay that it takes.
    pub relay: SocketAddr,
    /// What came through relays.
    pub arrivals: Arrivals,
    /// Bytes that the job has sent to the peer.
    pub sent_bytes: u64,
}

/// How the coordinator sees a node, and whom to ask for more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The source of the node's packets.
    pub observed: SocketAddr,
    /// The second reflector.
    pub reflector: SocketAddr,
    /// Shown to the reflector.
    pub token: [u8; 16],
}

/// Leaves the token out: it is good for the reflector's answers.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("observed", &self.observed)
            .field("reflector", &self.reflector)
            .finish_non_exhaustive()
    }
}

/// A mesh, as a node that is in it sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshView {
    /// Its name.
    pub id: MeshId,
    /// Every pair had a path: the job was started.
    pub is_open: bool,
    /// The members; none before the first netmap.
    pub netmap: Option<Netmap>,
    /// How the node's pairs stand.
    pub pairs: Vec<PairReport>,
}

/// Which path a ping takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The one that the job's packets take.
    Current,
    /// The pair's relay channel.
    Relay,
}

/// A ping that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// From sending to the answer.
    pub rtt: Duration,
    /// It went through the relay.
    pub relayed: bool,
    /// The peer's endpoint, or the relay's.
    pub endpoint: SocketAddr,
}

/// A ping has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// There is no session with that node.
    #[error("this node shares no network with that node now: pings go where a job's packets go")]
    NoSession,
    /// There is no such path.
    #[error("there is no path of that kind to that node yet")]
    NoPath,
    /// Too many pings wait for their answers.
    #[error("too many pings are under way: try again in a moment")]
    Busy,
    /// Nothing came.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The overlay was shut down.
    #[error("the overlay has stopped")]
    Stopped,
}
