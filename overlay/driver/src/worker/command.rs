//! What the rest of the process asks of the worker.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::control::{PairReport, ToNode};
use overlay_core::{Activity, MeshId, NodeId};
use tokio::sync::{mpsc, oneshot};

use crate::stats::Stats;
use crate::view::{Answered, PingError, Via, View};
use crate::{JoinError, MeshEvent, MeshKeys};

/// A request to the worker.
pub(crate) enum Command {
    /// Enter a mesh.
    Join {
        mesh: MeshId,
        tun: OwnedFd,
        keys: MeshKeys,
        events: mpsc::Sender<MeshEvent>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    /// Leave a mesh.
    Leave { mesh: MeshId, reply: Option<oneshot::Sender<Vec<PairReport>>> },
    /// How the pairs of a mesh stand.
    Pairs { mesh: MeshId, reply: oneshot::Sender<Vec<PairReport>> },
    /// The coordinator spoke.
    Coordinator(Box<ToNode>),
    /// The machine's own endpoints.
    HostEndpoints(Vec<SocketAddr>),
    /// Where the router's port for this node is reached; none: it has none.
    PortMapped(Vec<SocketAddr>),
    /// The counters.
    Stats(oneshot::Sender<Stats>),
    /// What the node knows and does.
    View(oneshot::Sender<View>),
    /// Measure a round trip to a peer, with a packet of that size.
    Ping {
        peer: NodeId,
        via: Via,
        size: usize,
        reply: oneshot::Sender<Result<Answered, PingError>>,
    },
    /// The way to the coordinator and its relay, a tunnel or UDP, is another from now on: what was bound or
    /// measured there is of the past.
    WayChanged { tunnelled: bool },
    /// Packets to that relay go another way from now on.
    RelayWay(SocketAddr),
    /// The endpoints that the operator says lead here.
    OperatorEndpoints(Vec<SocketAddr>),
    /// How long the NAT in front of this node remembers a silent mapping.
    MappingLifetime(Duration),
    /// See [`Input::Activity`](overlay_core::Input::Activity).
    Activity(Activity),
    /// See [`Input::BirthdayProbing`](overlay_core::Input::BirthdayProbing).
    BirthdayProbing(bool),
    /// Datagrams that came through the tunnel, with the sources that they had.
    Tunnelled(Vec<(SocketAddr, Bytes)>),
    /// End the thread.
    Stop,
}

/// The worker's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the overlay has stopped")]
pub(crate) struct Stopped;

/// Sends commands to the worker and wakes it.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) wake: Arc<UnixStream>,
}

impl WorkerHandle {
    /// Sends a command, waiting while too many are queued.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)?;
        self.wake();
        Ok(())
    }

    /// Sends a command unless too many are queued.
    pub(crate) fn try_send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.try_send(command).map_err(|_| Stopped)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // A full pipe has woken the worker already; a closed one has nobody to wake.
        let _ = (&*self.wake).write(&[0]);
    }
}
