//! A tunnel that is up: a stream or a connection, and what its end of this side does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use overlay_core::wire::ControlFrame;
use overlay_tunnel::{Datagram, Deliver, Queue, carry_datagrams, carry_stream, queue};
use quinn::Connection;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Detour, Lane};
use crate::control::NOWHERE;
use crate::worker::{Command, WorkerHandle};

/// A stream on which nothing comes for so long is closed: QUIC's keep-alives come every 10 s.
const SILENCE: Duration = Duration::from_secs(60);

/// What packets can go through.
pub(super) enum Link {
    /// TLS, through a proxy or not.
    Stream(Box<TlsStream<TcpStream>>),
    /// QUIC with datagrams.
    Datagrams(Connection),
}

/// What is asked about the losses of a link.
#[derive(Clone)]
pub(super) enum Transport {
    /// A stream loses nothing; what it has no room for, its queue counts.
    Stream,
    /// QUIC knows what was not acknowledged.
    Datagrams(Connection),
}

impl Transport {
    /// Packets that were lost on the way out.
    pub(super) fn lost(&self) -> u64 {
        match self {
            Self::Stream => 0,
            Self::Datagrams(connection) => connection.stats().path.lost_packets,
        }
    }
}

impl Link {
    /// What tells of its losses.
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Stream(_) => Transport::Stream,
            Self::Datagrams(connection) => Transport::Datagrams(connection.clone()),
        }
    }

    /// The way in, and the future that carries until the link ends.
    pub(super) fn carry(
        self,
        detour: Arc<Detour>,
        lane: Arc<Lane>,
        worker: WorkerHandle,
    ) -> (Queue, impl Future<Output = io::Result<()>> + Send) {
        let (entrance, queued) = queue();
        let arrivals = Arrivals { detour, lane, worker };
        let carrying = async move {
            match self {
                Self::Stream(stream) => carry_stream(stream, queued, arrivals, SILENCE).await,
                Self::Datagrams(connection) => carry_datagrams(connection, queued, arrivals).await,
            }
        };
        (entrance, carrying)
    }
}

/// Hands what comes to the data plane, as if the socket had received it.
struct Arrivals {
    detour: Arc<Detour>,
    lane: Arc<Lane>,
    worker: WorkerHandle,
}

impl Deliver for Arrivals {
    async fn deliver(&mut self, arrived: Vec<Datagram>) -> io::Result<()> {
        let now = Instant::now();
        let mut datagrams: Vec<(SocketAddr, Bytes)> = Vec::with_capacity(arrived.len());
        for (target, mut datagram) in arrived {
            if self.detour.on_control(now, &datagram) {
                continue;
            }
            hide_place(&mut datagram);
            if let Some(from) = self.lane.source(target) {
                datagrams.push((from, datagram));
            }
        }
        if datagrams.is_empty() {
            return Ok(());
        }
        let command = Command::Tunnelled(datagrams);
        self.worker.send(command).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Where the other end sees a tunnelled packet come from says nothing about this node.
fn hide_place(datagram: &mut Bytes) {
    let hidden = match ControlFrame::decode(datagram) {
        Ok(ControlFrame::ReflectResponse { nonce, .. }) => {
            ControlFrame::ReflectResponse { nonce, observed: NOWHERE }
        }
        Ok(ControlFrame::KeepAliveAck { nonce, channels, lifetime_s, .. }) => {
            ControlFrame::KeepAliveAck { nonce, observed: NOWHERE, channels, lifetime_s }
        }
        Ok(_) | Err(_) => return,
    };
    *datagram = hidden.encode().into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_hidden_and_nothing_else_is_touched() {
        let observed = "127.0.0.1:40000".parse().unwrap();
        let frame = |observed| ControlFrame::KeepAliveAck {
            nonce: [1; 8],
            observed,
            channels: 2,
            lifetime_s: 9,
        };
        let mut datagram = Bytes::from(frame(observed).encode());
        hide_place(&mut datagram);
        assert_eq!(ControlFrame::decode(&datagram), Ok(frame(NOWHERE)));
        let mut other = Bytes::from_static(&[5, 0x52, 0x4c, 0x59, 0, 0, 0, 1, 9]);
        hide_place(&mut other);
        assert_eq!(other[..], [5, 0x52, 0x4c, 0x59, 0, 0, 0, 1, 9]);
    }
}
