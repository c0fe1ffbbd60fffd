//! Datagrams in a stream or in QUIC datagrams: what the node's end of a tunnel and the gateway both do.
//!
//! What waits is bounded, and the oldest goes first: WireGuard and QUIC need loss, not delay. The formats
//! are those of [`overlay_core::wire::tunnel`].

#![forbid(unsafe_code)]

mod congestion;
mod datagrams;
mod gather;
pub mod identity;
mod kernel;
mod own_thread;
mod packing;
mod queue;
mod stream;

use std::future::Future;
use std::io;

use bytes::Bytes;
use overlay_core::wire::tunnel::Target;

pub use congestion::prepare;
pub use datagrams::carry_datagrams;
pub use gather::{endpoint, widen};
pub use kernel::{Batches, mangles_batches};
pub use own_thread::OwnThread;
pub use queue::{Offered, Queue, Queued, queue};
pub use stream::carry_stream;

/// A datagram, and whom it is for or from. Those that came together share their memory.
pub type Datagram = (Target, Bytes);

/// Takes what comes out of a tunnel.
pub trait Deliver: Send {
    /// Takes datagrams in their order. Waiting holds the tunnel up, and its other end then drops the oldest.
    fn deliver(&mut self, arrived: Vec<Datagram>) -> impl Future<Output = io::Result<()>> + Send;
}
