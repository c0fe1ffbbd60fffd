//! A socket that asks a reflector.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::wire::ControlFrame;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long an answer may take before the question is asked again.
const PATIENCES: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(600), Duration::from_millis(1000)];

/// A socket that nothing else uses.
pub(super) struct Asker {
    socket: UdpSocket,
    reflector: SocketAddr,
    token: [u8; 16],
}

/// Where an answer goes and where it comes from.
#[derive(Clone, Copy)]
pub(super) struct Elsewhere {
    /// The port at the asker's address; 0: the asker's own.
    pub(super) port: u16,
    /// From the reflector's second socket.
    pub(super) from_other: bool,
}

impl Asker {
    pub(super) async fn new(reflector: SocketAddr, token: [u8; 16]) -> io::Result<Self> {
        let any = if reflector.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        Ok(Self { socket: UdpSocket::bind(any).await?, reflector, token })
    }

    /// The local port.
    pub(super) fn port(&self) -> Option<u16> {
        self.socket.local_addr().ok().map(|address| address.port())
    }

    /// How the reflector sees this socket, and how long its answer took.
    pub(super) async fn reflect(&self) -> Option<(SocketAddr, Duration)> {
        for patience in PATIENCES {
            let nonce = rand::random();
            let frame = ControlFrame::ReflectRequest { token: self.token, nonce };
            let asked = Instant::now();
            // What is not sent is not answered.
            let _ = self.socket.send_to(&frame.encode(), self.reflector).await;
            if let Ok(observed) = timeout(patience, self.response(&[nonce])).await {
                return Some((observed, asked.elapsed()));
            }
        }
        None
    }

    /// Whether an answer that is asked for here arrives at `at`.
    pub(super) async fn ask_elsewhere(&self, elsewhere: Elsewhere, at: &Self) -> bool {
        let Elsewhere { port, from_other } = elsewhere;
        let mut nonces = Vec::new();
        for patience in PATIENCES {
            let nonce = rand::random();
            let token = self.token;
            let frame = ControlFrame::ReflectElsewhere { token, nonce, port, from_other };
            let _ = self.socket.send_to(&frame.encode(), self.reflector).await;
            nonces.push(nonce);
            if timeout(patience, at.response(&nonces)).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Whether a packet from here to `target` arrives at `at`.
    pub(super) async fn reaches(&self, at: &Self, target: SocketAddr) -> bool {
        let nonce = rand::random();
        // A response that nobody asked for: whoever else got it would ignore it.
        let frame = ControlFrame::ReflectResponse { nonce, observed: target };
        for patience in PATIENCES {
            let _ = self.socket.send_to(&frame.encode(), target).await;
            if timeout(patience, at.response(&[nonce])).await.is_ok() {
                return true;
            }
        }
        false
    }

    async fn response(&self, nonces: &[[u8; 8]]) -> SocketAddr {
        let mut buffer = [0; 128];
        loop {
            // Errors are those of earlier packets; without an end to them the caller's patience ends.
            let Ok((len, _)) = self.socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            if let Ok(ControlFrame::ReflectResponse { nonce, observed }) =
                ControlFrame::decode(&buffer[..len])
                && nonces.contains(&nonce)
            {
                return observed;
            }
        }
    }
}
