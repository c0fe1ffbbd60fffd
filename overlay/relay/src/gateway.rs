//! The coordinator's end of a tunnel: UDP on this side, frames in a stream on the other.
//!
//! It gives nothing that UDP does not: its datagrams go to the control channel's and the relay's own
//! sockets and nowhere else, from a socket of its own for each stream, and are judged there like all
//! others. What waits for the stream is bounded, and the oldest goes first: WireGuard and QUIC need
//! loss, not delay.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use overlay_core::wire::tunnel::{self, Frame, HEADER_LEN, MAX_DATAGRAM, Target};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;

/// Datagrams that wait for one stream. Chosen: 100 ms of 30 Mbit/s.
const QUEUE: usize = 256;

/// A stream on which nothing comes for so long is closed: QUIC's keep-alives come every 10 s.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes that are read or written at a time.
const CHUNK: usize = 32 * 1024;

/// Where the datagrams of the tunnels go.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    control: SocketAddr,
    relay: SocketAddr,
}

impl Gateway {
    /// Passes datagrams on to those bound sockets of this machine.
    pub fn new(control: SocketAddr, relay: SocketAddr) -> Self {
        Self { control: reachable(control), relay: reachable(relay) }
    }

    /// Serves one stream to its end.
    ///
    /// # Errors
    ///
    /// Why it ended: `InvalidData` when the other side sent what is no frame, `TimedOut` when it was
    /// silent for a minute.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (reader, writer) = tokio::io::split(stream);
        let control = connected(self.control).await?;
        let relay = connected(self.relay).await?;
        let (queue, queued) = broadcast::channel(QUEUE);
        tokio::select! {
            ended = upwards(reader, &control, &relay) => ended,
            ended = fetch(&control, Target::Control, queue.clone()) => ended,
            ended = fetch(&relay, Target::Relay, queue) => ended,
            ended = downwards(writer, queued) => ended,
        }
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

async fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

async fn upwards(
    mut reader: impl AsyncRead + Unpin,
    control: &UdpSocket,
    relay: &UdpSocket,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        let mut taken = 0;
        while let Some(Frame { target, datagram, len }) = tunnel::decode(&buffer[taken..])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            let socket = match target {
                Target::Control => control,
                Target::Relay => relay,
            };
            // An error is a loss, as on any network.
            let _ = socket.send(datagram).await;
            taken += len;
        }
        buffer.drain(..taken);
        // What is left is less than a frame, so the buffer does not grow beyond a frame and a chunk.
        let mut limited = (&mut reader).take(CHUNK as u64);
        match timeout(SILENCE, limited.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn fetch(
    socket: &UdpSocket,
    target: Target,
    queue: broadcast::Sender<(Target, Vec<u8>)>,
) -> io::Result<()> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // Errors are those of datagrams that were sent before.
        let Ok(len) = socket.recv(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if queue.send((target, buffer[..len].to_vec())).is_err() {
            return Ok(());
        }
    }
}

async fn downwards(
    mut writer: impl AsyncWrite + Unpin,
    mut queued: broadcast::Receiver<(Target, Vec<u8>)>,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK + MAX_DATAGRAM + HEADER_LEN);
    loop {
        match queued.recv().await {
            Ok((target, datagram)) => tunnel::encode(target, &datagram, &mut bytes),
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        }
        while bytes.len() < CHUNK
            && let Ok((target, datagram)) = queued.try_recv()
        {
            tunnel::encode(target, &datagram, &mut bytes);
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

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
    async fn what_is_no_frame_ends_the_stream() {
        let gateway = Gateway::new(echo(b'c').await, echo(b'r').await);
        let (mut stream, other) = duplex(1 << 16);
        let serving = tokio::spawn(gateway.serve(other));
        stream.write_all(&[0, 0]).await.unwrap();
        let error = serving.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_loses_the_oldest() {
        let (queue, queued) = broadcast::channel(QUEUE);
        let (mut stream, other) = duplex(64);
        let writing = tokio::spawn(downwards(other, queued));
        for number in 0..=u16::try_from(4 * QUEUE).unwrap() {
            queue.send((Target::Relay, number.to_be_bytes().to_vec())).unwrap();
            tokio::task::yield_now().await;
        }
        drop(queue);
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap().unwrap();
        let last = u16::try_from(4 * QUEUE).unwrap().to_be_bytes();
        assert_eq!(received[received.len() - 2..], last);
        assert!(received.len() / 5 <= 2 * QUEUE, "{} frames", received.len() / 5);
    }
}
