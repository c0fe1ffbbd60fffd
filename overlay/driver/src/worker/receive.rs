//! Reads batches of datagrams from the socket.

use std::io::{self, IoSliceMut};
use std::slice::Chunks;

use quinn_udp::RecvMeta;

use crate::socket::Socket;

/// Messages per system call. Each holds up to 64 coalesced datagrams, so more would only hold memory.
const BATCH: usize = 8;

/// The most that the kernel coalesces into one message.
const MESSAGE_BYTES: usize = 65_535;

/// The buffers of one batch.
pub(super) struct Receiver {
    buffers: [Box<[u8]>; BATCH],
    meta: [RecvMeta; BATCH],
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; MESSAGE_BYTES].into_boxed_slice()),
            meta: [RecvMeta::default(); BATCH],
        }
    }

    /// Receives one batch and calls `each` for every message in it: datagrams of one sender
    /// and size, of which the last may be shorter; whether more may be there (asking costs a system call).
    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        mut each: impl FnMut(&RecvMeta, &[u8]),
    ) -> io::Result<bool> {
        let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let count = match socket.receive(&mut slices, &mut self.meta) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (buffer, meta) in self.buffers.iter().zip(&self.meta).take(count) {
            each(meta, &buffer[..meta.len]);
        }
        Ok(count == BATCH)
    }
}

/// The datagrams of a message.
pub(super) fn datagrams<'a>(meta: &RecvMeta, message: &'a [u8]) -> Chunks<'a, u8> {
    // An empty datagram has no stride.
    message.chunks(meta.stride.max(1))
}
