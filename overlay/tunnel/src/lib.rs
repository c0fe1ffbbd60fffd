//! Datagrams in a stream or in QUIC datagrams: what the node's end of a tunnel and the gateway both do.
//!
//! What waits is bounded, and the oldest goes first: WireGuard and QUIC need loss, not delay. The formats
//! are those of [`overlay_core::wire::tunnel`].

#![forbid(unsafe_code)]

mod datagrams;
mod stream;

use std::future::Future;
use std::io;

use overlay_core::wire::tunnel::Target;
use tokio::sync::broadcast::{self, error::RecvError};

pub use datagrams::carry_datagrams;
pub use stream::carry_stream;

/// Datagrams that wait for the way out. Chosen: 100 ms of 30 Mbit/s.
const QUEUE: usize = 256;

/// A datagram, and whom it is for or from.
pub type Datagram = (Target, Vec<u8>);

/// Takes what comes out of a tunnel.
pub trait Deliver: Send {
    /// Takes datagrams in their order. Waiting holds the tunnel up, and its other end then drops the oldest.
    fn deliver(&mut self, arrived: Vec<Datagram>) -> impl Future<Output = io::Result<()>> + Send;
}

/// The way into a tunnel. Clones lead into the same one.
#[derive(Clone, Debug)]
pub struct Queue(broadcast::Sender<Datagram>);

/// What waits for a tunnel.
#[derive(Debug)]
pub struct Queued(broadcast::Receiver<Datagram>);

/// An empty queue, and its end that a tunnel reads.
pub fn queue() -> (Queue, Queued) {
    let (sender, receiver) = broadcast::channel(QUEUE);
    (Queue(sender), Queued(receiver))
}

impl Queue {
    /// Queues a datagram; the oldest goes where there is no room. False: the tunnel has ended.
    pub fn push(&self, target: Target, datagram: Vec<u8>) -> bool {
        self.0.send((target, datagram)).is_ok()
    }
}

impl Queued {
    /// The next datagram; none when nobody can queue any more.
    pub async fn next(&mut self) -> Option<Datagram> {
        loop {
            match self.0.recv().await {
                Ok(datagram) => return Some(datagram),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next datagram if one waits.
    pub fn try_next(&mut self) -> Option<Datagram> {
        self.0.try_recv().ok()
    }
}
