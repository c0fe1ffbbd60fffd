//! QUIC on the node's one UDP socket.
//!
//! The data plane receives everything and puts QUIC's datagrams into a bounded queue; quinn reads
//! that queue and sends straight on the shared descriptor.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use overlay_core::control::ALPN;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig};
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, TransportConfig, UdpPoller};

use crate::socket::Socket;

/// Datagrams that may wait for QUIC. Chosen: the largest netmap is about 200 datagrams.
const QUEUE_LIMIT: usize = 512;

/// Keeps the mapping of the NAT in front of the node open: common ones forget after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Silence after which the coordinator counts as lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The datagrams that quinn has not taken yet.
pub(crate) struct QuicQueue {
    socket: Arc<Socket>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    datagrams: VecDeque<Datagram>,
    waker: Option<Waker>,
}

struct Datagram {
    /// In the socket's own form: quinn compares it with what it sent to.
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

impl QuicQueue {
    pub(crate) fn new(socket: Arc<Socket>) -> Arc<Self> {
        Arc::new(Self { socket, state: Mutex::default() })
    }

    /// Hands a datagram to QUIC. Returns false when the oldest one had to go for it.
    pub(crate) fn push(&self, meta: &RecvMeta, bytes: &[u8]) -> bool {
        let datagram = Datagram { from: meta.addr, ecn: meta.ecn, bytes: bytes.to_vec() };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = state.datagrams.len() < QUEUE_LIMIT;
        if !has_room {
            state.datagrams.pop_front();
        }
        state.datagrams.push_back(datagram);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        has_room
    }
}

impl fmt::Debug for QuicQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicQueue").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for QuicQueue {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // A full buffer and an unreachable network are losses, which QUIC mends.
        if let Err(error) = self.socket.send_raw(transmit) {
            tracing::trace!(%error, "QUIC datagram not sent");
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(datagram) = state.datagrams.pop_front() else { break };
            let len = datagram.bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&datagram.bytes[..len]);
            *meta =
                RecvMeta { addr: datagram.from, len, stride: len, ecn: datagram.ecn, dst_ip: None };
            received += 1;
        }
        if received == 0 {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.socket.local_addr())
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// The socket never makes QUIC wait, see [`QuicQueue::try_send`].
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A client endpoint that reads from `queue`.
pub(crate) fn endpoint(queue: Arc<QuicQueue>) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    // The fixed bit tells QUIC's short headers from the other protocols on the socket.
    config.grease_quic_bit(false);
    Endpoint::new_with_abstract_socket(config, None, queue, Arc::new(quinn::TokioRuntime))
}

/// Waiting datagrams of a connection that carries relay frames. Chosen: 100 ms of 30 Mbit/s; more would be
/// delay.
const DATAGRAM_BUFFER: usize = 384 * 1024;

/// A connection for unreliable datagrams (RFC 9221).
///
/// What it carries does its own congestion control, so the connection's shall not be the narrower of the two: BBR
/// does not take every lost packet for a full line.
pub(crate) fn datagram_config(
    mut tls: rustls::ClientConfig,
    alpn: &[u8],
) -> Result<ClientConfig, NoInitialCipherSuite> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(IDLE_TIMEOUT.try_into().ok());
    transport.datagram_receive_buffer_size(Some(DATAGRAM_BUFFER));
    transport.datagram_send_buffer_size(DATAGRAM_BUFFER);
    transport.congestion_controller_factory(Arc::new(quinn::congestion::BbrConfig::default()));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The client side of the control protocol's transport.
pub(crate) fn client_config(
    mut tls: rustls::ClientConfig,
) -> Result<ClientConfig, NoInitialCipherSuite> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(IDLE_TIMEOUT.try_into().ok());
    transport.datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(transport));
    Ok(config)
}
