//! The end of a tunnel at the coordinator, or at a relay that runs alone: UDP on this side, frames in a stream or QUIC's datagrams on the other.
//!
//! It gives nothing that UDP does not: its datagrams go to the relay's own socket, and where there is one the
//! control channel's, and nowhere else, from a socket of its own for each tunnel, and are judged there like all
//! others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use overlay_core::wire::tunnel::Target;
use overlay_tunnel::{Datagram, Deliver, Queue, carry_datagrams, carry_stream, queue};
use quinn::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::batch_socket::BatchSocket;

/// A stream on which nothing comes for so long is closed: QUIC's keep-alives come every 10 s.
const SILENCE: Duration = Duration::from_secs(60);

/// Where the datagrams of the tunnels go.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    control: Option<SocketAddr>,
    relay: SocketAddr,
}

impl Gateway {
    /// Passes datagrams on to those bound sockets of this machine.
    pub fn new(control: SocketAddr, relay: SocketAddr) -> Self {
        Self { control: Some(reachable(control)), relay: reachable(relay) }
    }

    /// The same beside a relay that has no control channel: what is for one is lost.
    pub fn of_relay(relay: SocketAddr) -> Self {
        Self { control: None, relay: reachable(relay) }
    }

    /// Serves one stream to its end.
    ///
    /// # Errors
    ///
    /// Why it ended: `InvalidData` when the other side sent what is no frame, `TimedOut` when it was
    /// silent for a minute.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let ends = Ends::open(self).await?;
        let (queue, queued) = queue();
        tokio::select! {
            ended = carry_stream(stream, queued, ends.clone(), SILENCE) => ended,
            ended = ends.fetch(queue) => ended,
        }
    }

    /// Serves the datagrams of one connection to its end.
    ///
    /// # Errors
    ///
    /// Why it ended.
    pub async fn serve_datagrams(self, connection: Connection) -> io::Result<()> {
        let ends = Ends::open(self).await?;
        let (queue, queued) = queue();
        tokio::select! {
            ended = carry_datagrams(connection, queued, ends.clone()) => ended,
            ended = ends.fetch(queue) => ended,
        }
    }
}

/// The sockets of one tunnel.
#[derive(Clone)]
struct Ends {
    control: Option<Arc<BatchSocket>>,
    relay: Arc<BatchSocket>,
}

impl Ends {
    async fn open(gateway: Gateway) -> io::Result<Self> {
        let control = match gateway.control {
            Some(control) => Some(Arc::new(BatchSocket::connect(control).await?)),
            None => None,
        };
        Ok(Self { control, relay: Arc::new(BatchSocket::connect(gateway.relay).await?) })
    }

    /// What comes back from either goes into the tunnel.
    async fn fetch(&self, queue: Queue) -> io::Result<()> {
        let fetch_control = async {
            match &self.control {
                Some(control) => control.fetch(Target::Control, &queue).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = fetch_control => ended,
            ended = self.relay.fetch(Target::Relay, &queue) => ended,
        }
    }
}

impl Deliver for Ends {
    async fn deliver(&mut self, arrived: Vec<Datagram>) -> io::Result<()> {
        let like = |(target, first): &Datagram, (other, next): &Datagram| {
            target == other && first.len() == next.len()
        };
        for run in arrived.chunk_by(like) {
            let Some((target, _)) = run.first() else { continue };
            let socket = match target {
                Target::Control => self.control.as_ref(),
                Target::Relay => Some(&self.relay),
            };
            let Some(socket) = socket else { continue };
            // An error is a loss, as on any network.
            let _ = socket.send(run.iter().map(|(_, datagram)| &datagram[..])).await;
        }
        Ok(())
    }
}

/// A socket bound to all addresses is reached on the loopback.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // Dual stack where the machine has both, and IPv4 is what every machine has.
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use overlay_core::wire::tunnel::{self, Frame};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::UdpSocket;

    use super::*;

    /// A socket that answers with what it is sent and its own name.
    async fn echo(name: u8) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                socket.send_to(&[&buffer[..len], &[name]].concat(), from).await.unwrap();
            }
        });
        address
    }

    async fn next(stream: &mut DuplexStream) -> (Target, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            if let Some(Frame { target, datagram, .. }) = tunnel::decode(&bytes).unwrap() {
                return (target, datagram.to_vec());
            }
            bytes.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn datagrams_reach_their_targets_and_answers_come_back() {
        let gateway = Gateway::new(echo(b'c').await, echo(b'r').await);
        let (mut stream, other) = duplex(1 << 16);
        let serving = tokio::spawn(gateway.serve(other));
        for (target, name) in [(Target::Control, b'c'), (Target::Relay, b'r')] {
            let mut frame = Vec::new();
            tunnel::encode(target, b"hello", &mut frame);
            stream.write_all(&frame).await.unwrap();
            assert_eq!(next(&mut stream).await, (target, [b"hello", &[name][..]].concat()));
        }
        drop(stream);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn beside_a_relay_alone_nothing_but_the_relay_is_reached() {
        let (mut stream, other) = duplex(1 << 16);
        let serving = tokio::spawn(Gateway::of_relay(echo(b'r').await).serve(other));
        let mut frames = Vec::new();
        tunnel::encode(Target::Control, b"hello", &mut frames);
        tunnel::encode(Target::Relay, b"hello", &mut frames);
        stream.write_all(&frames).await.unwrap();
        assert_eq!(next(&mut stream).await, (Target::Relay, b"hellor".to_vec()));
        drop(stream);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_stream() {
        let gateway = Gateway::new(echo(b'c').await, echo(b'r').await);
        let (mut stream, other) = duplex(1 << 16);
        let serving = tokio::spawn(gateway.serve(other));
        stream.write_all(&[0, 0]).await.unwrap();
        let error = serving.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
