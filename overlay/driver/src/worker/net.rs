//! The sending side that all sessions share.

use std::net::SocketAddr;
use std::sync::Arc;

use overlay_core::Path;
use quinn_udp::EcnCodepoint;

use super::sides::Sides;
use crate::limit::RateLimit;
use crate::outbox::{Outbox, send};
use crate::socket::Socket;
use crate::stats::Stats;

/// The socket, what waits for it, and the counters.
pub(super) struct Net {
    pub(super) socket: Arc<Socket>,
    pub(super) stats: Stats,
    /// What the owner grants.
    pub(super) limit: Arc<RateLimit>,
    outbox: Outbox,
    /// Ports beside the socket; none, as a rule.
    pub(super) sides: Sides,
}

impl Net {
    pub(super) fn new(socket: Arc<Socket>, limit: Arc<RateLimit>) -> Self {
        let (stats, outbox, sides) = (Stats::default(), Outbox::new(), Sides::default());
        Self { socket, stats, limit, outbox, sides }
    }

    /// Queues a packet of `len` bytes on `path`, with that congestion mark; `write` fills it in.
    pub(super) fn push(
        &mut self,
        (path, ecn): (Path, Option<EcnCodepoint>),
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) {
        if let Path::Direct(to) = path
            && !self.sides.is_empty()
            && let Some(side) = self.sides.way(to)
        {
            let mut packet = vec![0; len];
            write(&mut packet);
            self.stats.udp_sent_datagrams += 1;
            self.stats.udp_sent_bytes += len as u64;
            // As with the socket: what it does not take is lost.
            self.stats.udp_send_errors += u64::from(side.send_to(&packet, to).is_err());
            return;
        }
        self.outbox.push(&self.socket, &mut self.stats, (path, ecn), len, write);
    }

    /// Long packets go whole on that path through a relay, or in two parts.
    pub(super) fn set_whole(&mut self, path: Path, whole: bool) {
        self.outbox.set_whole(path, whole);
    }

    /// Queues a packet that goes whole, come what may: it asks whether it does.
    pub(super) fn push_whole(&mut self, path: Path, packet: &[u8]) {
        let copied = |slot: &mut [u8]| slot.copy_from_slice(packet);
        match path {
            Path::Direct(_) => self.push((path, None), packet.len(), copied),
            Path::Relayed { .. } => {
                let (socket, stats) = (&self.socket, &mut self.stats);
                self.outbox.push_whole(socket, stats, (path, None), packet.len(), copied);
            }
        }
    }

    /// Queues a copy of a packet on `path`, without a congestion mark.
    pub(super) fn push_copy(&mut self, path: Path, packet: &[u8]) {
        self.push((path, None), packet.len(), |slot| slot.copy_from_slice(packet));
    }

    /// Sends one datagram at once.
    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.stats.udp_sent_datagrams += 1;
        self.stats.udp_sent_bytes += datagram.len() as u64;
        if let Err(error) = send(&self.socket, (to, None), datagram, None) {
            tracing::debug!(%error, "datagram not sent");
            self.stats.udp_send_errors += 1;
        }
    }

    /// Sends everything that is queued.
    pub(super) fn flush(&mut self) {
        self.outbox.flush(&self.socket, &mut self.stats);
    }
}
