//! A connected UDP socket that sends and receives many datagrams a system call.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use overlay_core::wire::tunnel::{MAX_DATAGRAM, Target};
use overlay_tunnel::{Batches, Queue, widen};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What the kernel joins into one message at most.
const MESSAGE_LEN: usize = 65_536;

/// What one system call sends at most (IPv4's limit, the smaller one).
const MAX_BURST: usize = 65_507;

/// See the module.
pub(crate) struct BatchSocket {
    socket: UdpSocket,
    udp: UdpSocketState,
    target: SocketAddr,
    batches: Batches,
}

impl BatchSocket {
    /// A socket of its own, connected to `target`.
    pub(crate) async fn connect(target: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(target).await?;
        let udp = UdpSocketState::new((&socket).into())?;
        widen(&udp, &socket);
        Ok(Self { socket, udp, target, batches: Batches::here() })
    }

    /// Sends datagrams of one length.
    pub(crate) async fn send<'a>(
        &self,
        datagrams: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let (mut burst, mut segment, count) = (Vec::new(), 0, datagrams.len());
        for datagram in datagrams {
            segment = datagram.len();
            if burst.is_empty() {
                burst.reserve_exact(count * segment);
            }
            burst.extend_from_slice(datagram);
        }
        let segments = self.batches.limit(self.udp.max_gso_segments());
        let segments = segments.min(MAX_BURST / segment.max(1)).max(1);
        for contents in burst.chunks((segments * segment).max(1)) {
            let transmit = Transmit {
                destination: self.target,
                ecn: None,
                contents,
                segment_size: (contents.len() > segment).then_some(segment),
                src_ip: None,
            };
            let send = || self.udp.try_send((&self.socket).into(), &transmit);
            self.socket.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// Puts what arrives into the queue, until nobody reads that any more.
    pub(crate) async fn fetch(&self, target: Target, queue: &Queue) -> io::Result<()> {
        let mut buffer = vec![0; MESSAGE_LEN];
        loop {
            let mut meta = [RecvMeta::default()];
            let received = self.socket.async_io(Interest::READABLE, || {
                self.udp.recv((&self.socket).into(), &mut [IoSliceMut::new(&mut buffer)], &mut meta)
            });
            // Errors are those of datagrams that were sent before.
            if received.await.is_err() {
                tokio::task::yield_now().await;
                continue;
            }
            let [RecvMeta { len, stride, .. }] = meta;
            // Longer ones fit no tunnel.
            if stride <= MAX_DATAGRAM && !queue.extend_from_slice(target, &buffer[..len], stride) {
                return Ok(());
            }
        }
    }
}
