//! What the first worker hands over: packets in the order in which they came, in one buffer that is used again.

use overlay_core::{MeshId, Path};
use quinn_udp::EcnCodepoint;

/// Bytes of one parcel: a message that the kernel has joined, or a superpacket, and as much again.
const PARCEL_BYTES: usize = 128 * 1024;

/// Packets of one parcel; many small ones would make others wait.
const PARCEL_PACKETS: usize = 256;

/// A packet's kind, and what is known of it besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Item {
    /// A WireGuard packet that arrived on a path, with that congestion mark.
    Datagram(Path, Option<EcnCodepoint>),
    /// An initiation of the member with that key.
    Initiation(Path, MeshId, [u8; 32]),
    /// A frame of that mesh's device.
    Frame(MeshId),
}

/// See the module.
#[derive(Default)]
pub(super) struct Parcel {
    items: Vec<(Item, usize)>,
    bytes: Vec<u8>,
}

impl Parcel {
    /// Whether a packet of that length has room.
    pub(super) fn fits(&self, len: usize) -> bool {
        self.is_empty()
            || (self.items.len() < PARCEL_PACKETS && self.bytes.len() + len <= PARCEL_BYTES)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn packets(&self) -> usize {
        self.items.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, item: Item, packet: &[u8]) {
        self.items.push((item, packet.len()));
        self.bytes.extend_from_slice(packet);
    }

    /// Calls `each` for every packet and is empty afterwards.
    pub(super) fn unpack(&mut self, mut each: impl FnMut(Item, &mut [u8])) {
        let mut rest = &mut self.bytes[..];
        for (item, len) in self.items.drain(..) {
            let (packet, behind) = rest.split_at_mut(len);
            each(item, packet);
            rest = behind;
        }
        self.bytes.clear();
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }
}
