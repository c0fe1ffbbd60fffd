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

/// Bytes that may wait for QUIC. Chosen: the largest netmap is about 200 kB; what a connection for
/// datagrams gets at once is more.
const QUEUE_BYTES: usize = 1 << 20;

/// Messages that may wait, lest many short ones take much more memory than their bytes.
const QUEUE_MESSAGES: usize = 1024;

/// Datagrams of one message: what the kernel joins at most.
const MESSAGE_SEGMENTS: usize = 64;

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
    messages: VecDeque<Message>,
    bytes: usize,
    waker: Option<Waker>,
}

/// Datagrams of one size, of which the last may be shorter.
struct Message {
    /// In the socket's own form: quinn compares it with what it sent to.
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    stride: usize,
    bytes: Vec<u8>,
}

impl QuicQueue {
    pub(crate) fn new(socket: Arc<Socket>) -> Arc<Self> {
        Arc::new(Self { socket, state: Mutex::default() })
    }

    /// Hands datagrams that came together to QUIC. Returns how many had to go for it: the oldest.
    pub(crate) fn push(&self, meta: &RecvMeta, bytes: &[u8]) -> u64 {
        let stride = meta.stride.clamp(1, bytes.len().max(1));
        let message = Message { from: meta.addr, ecn: meta.ecn, stride, bytes: bytes.to_vec() };
        let (mut state, mut dropped) =
            (self.state.lock().unwrap_or_else(PoisonError::into_inner), 0);
        while (state.bytes + bytes.len() > QUEUE_BYTES || state.messages.len() >= QUEUE_MESSAGES)
            && let Some(oldest) = state.messages.pop_front()
        {
            state.bytes -= oldest.bytes.len();
            dropped += oldest.bytes.len().div_ceil(oldest.stride) as u64;
        }
        state.bytes += bytes.len();
        state.messages.push_back(message);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        dropped
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
            let Some(Message { from, ecn, stride, bytes }) = state.messages.pop_front() else {
                break;
            };
            state.bytes -= bytes.len();
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            *meta = RecvMeta { addr: from, len, stride, ecn, dst_ip: None };
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

    fn max_receive_segments(&self) -> usize {
        MESSAGE_SEGMENTS
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

/// A connection for unreliable datagrams (RFC 9221).
pub(crate) fn datagram_config(
    mut tls: rustls::ClientConfig,
    alpn: &[u8],
) -> Result<ClientConfig, NoInitialCipherSuite> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(IDLE_TIMEOUT.try_into().ok());
    overlay_tunnel::prepare(&mut transport);
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
