//! Joins packets of one flow into superpackets before they are written to the device.
//!
//! The order inside a flow is kept: a packet that cannot join pushes out what its flow has gathered.
//! Packets of different flows may overtake each other, as they may on any network.

use std::ops::Range;

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr,
};

use super::checksum;
use super::packet::{
    TCP, TCP_ACK, TCP_HEADER, TCP_PSH, UDP, UDP_HEADER, be16, be32, pseudo_sum, put_ip_length,
    put16,
};
use super::{FRAME_BYTES, HEADER_BYTES};

/// Flows that gather at a time. Chosen: more flows than that seldom share 64 received datagrams.
const SLOTS: usize = 8;

/// The most packets in one superpacket (the kernel's `UDP_MAX_SEGMENTS`).
const MAX_MERGED: usize = 64;

const NEEDS_CHECKSUM: u8 = 1;

/// The superpackets that a device takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joins {
    /// None: it has no virtio header.
    Nothing,
    /// Those of TCP.
    Tcp,
    /// Those of UDP, too.
    All,
}

/// Gathers packets into superpackets. `D` names the device that a packet is for.
pub(crate) struct Merger<D> {
    slots: Vec<Slot<D>>,
    next_victim: usize,
}

struct Slot<D> {
    device: D,
    /// Header and packet; empty when the slot is free.
    frame: Vec<u8>,
    shape: Shape,
    /// The payload of every packet but the last.
    size: usize,
    merged: usize,
    next_sequence: u32,
}

/// What must be known of a packet to join it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    protocol: u8,
    ip_header: usize,
    headers: usize,
}

impl<D: Copy + PartialEq> Merger<D> {
    pub(crate) fn new(unused: D) -> Self {
        let slot = || Slot {
            device: unused,
            frame: Vec::with_capacity(FRAME_BYTES),
            shape: Shape { protocol: 0, ip_header: 0, headers: 0 },
            size: 0,
            merged: 0,
            next_sequence: 0,
        };
        Self { slots: (0..SLOTS).map(|_| slot()).collect(), next_victim: 0 }
    }

    /// Takes a packet: `frame` is [`HEADER_BYTES`] zeros and the packet.
    ///
    /// `write` is called for everything that is ready, each time with a whole frame.
    pub(crate) fn push(
        &mut self,
        (device, joins): (D, Joins),
        frame: &[u8],
        mut write: impl FnMut(D, &[u8]),
    ) {
        let packet = &frame[HEADER_BYTES..];
        let mergeable = match joins {
            // Nothing of such a device was ever gathered.
            Joins::Nothing => return write(device, frame),
            Joins::Tcp => Shape::of(packet).filter(|shape| shape.protocol == TCP),
            Joins::All => Shape::of(packet),
        };
        for slot in &mut self.slots {
            if slot.device != device || !slot.same_flow(packet) {
                continue;
            }
            if mergeable.is_some_and(|shape| slot.can_join(shape, packet)) {
                slot.join(packet);
                if slot.is_complete(packet) {
                    slot.emit(&mut write);
                }
                return;
            }
            slot.emit(&mut write);
        }
        let Some(shape) = mergeable.filter(|shape| !shape.ends_burst(packet)) else {
            write(device, frame);
            return;
        };
        let free = self.slots.iter().position(|slot| slot.frame.is_empty());
        let index = free.unwrap_or_else(|| {
            self.next_victim = (self.next_victim + 1) % SLOTS;
            self.next_victim
        });
        let slot = &mut self.slots[index];
        slot.emit(&mut write);
        slot.start(device, shape, frame);
    }

    /// Writes everything that was gathered.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(D, &[u8])) {
        for slot in &mut self.slots {
            slot.emit(&mut write);
        }
    }
}

impl Shape {
    /// The shape of a packet that may be joined: TCP with payload and no flags but ACK and PSH, or UDP
    /// with payload; no IP options, no fragments, a correct checksum.
    fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, ip_header) = match packet.first()? {
            0x45 if packet.len() >= 28 => {
                let whole = usize::from(be16(packet, 2)) == packet.len();
                // Neither "more fragments" nor an offset.
                let fragment = be16(packet, 6) & 0x3fff != 0;
                (whole && !fragment).then_some((packet[9], 20))?
            }
            first if first >> 4 == 6 && packet.len() >= 48 => {
                let whole = usize::from(be16(packet, 4)) + 40 == packet.len();
                whole.then_some((packet[6], 40))?
            }
            _ => return None,
        };
        let headers = match protocol {
            TCP if packet.len() >= ip_header + TCP_HEADER => {
                let flags = packet[ip_header + 13];
                (flags & !TCP_PSH == TCP_ACK)
                    .then(|| ip_header + usize::from(packet[ip_header + 12] >> 4) * 4)
                    .filter(|headers| *headers >= ip_header + TCP_HEADER)?
            }
            UDP => {
                let whole = usize::from(be16(packet, ip_header + 4)) == packet.len() - ip_header;
                let summed = be16(packet, ip_header + 6) != 0;
                (whole && summed).then_some(ip_header + UDP_HEADER)?
            }
            _ => return None,
        };
        let sum = pseudo_sum(packet, protocol, packet.len() - ip_header);
        let intact = packet.len() > headers
            && checksum::fold(sum + checksum::sum(&packet[ip_header..])) == u16::MAX;
        intact.then_some(Self { protocol, ip_header, headers })
    }

    /// Nothing may be joined behind a packet that the sender marked as the end of its burst.
    fn ends_burst(self, packet: &[u8]) -> bool {
        self.protocol == TCP && packet[self.ip_header + 13] & TCP_PSH != 0
    }
}

impl<D: Copy + PartialEq> Slot<D> {
    fn packet(&self) -> &[u8] {
        self.frame.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Whether the packet belongs to the flow that gathers here, joinable or not.
    fn same_flow(&self, packet: &[u8]) -> bool {
        let own = self.packet();
        // Options push the ports away; such a packet then only looks like another flow's.
        !own.is_empty()
            && !packet.is_empty()
            && own[0] >> 4 == packet[0] >> 4
            && if self.shape.ip_header == 20 {
                // Protocol; addresses; ports.
                same::<1>(own, packet, 9)
                    && same::<8>(own, packet, 12)
                    && same::<4>(own, packet, 20)
            } else {
                same::<1>(own, packet, 6)
                    && same::<32>(own, packet, 8)
                    && same::<4>(own, packet, 40)
            }
    }

    fn can_join(&self, shape: Shape, packet: &[u8]) -> bool {
        let own = self.packet();
        let at = shape.ip_header;
        let payload = packet.len() - shape.headers;
        let same_ip = if at == 20 {
            // Type of service, DF, time to live.
            same::<1>(own, packet, 1) && same::<3>(own, packet, 6)
        } else {
            // Traffic class and flow label, hop limit.
            same::<4>(own, packet, 0) && same::<1>(own, packet, 7)
        };
        let same_transport = shape.protocol == UDP
            || (be32(packet, at + 4) == self.next_sequence
                && same::<5>(own, packet, at + 8)
                && same::<2>(own, packet, at + 14)
                && same_options(own, packet, at + 18..shape.headers));
        shape == self.shape
            && same_ip
            && same_transport
            && payload <= self.size
            && self.merged < MAX_MERGED
            && self.frame.len() + payload <= FRAME_BYTES
    }

    fn start(&mut self, device: D, shape: Shape, frame: &[u8]) {
        let packet = &frame[HEADER_BYTES..];
        self.device = device;
        self.shape = shape;
        self.size = packet.len() - shape.headers;
        self.merged = 1;
        if shape.protocol == TCP {
            self.next_sequence = be32(packet, shape.ip_header + 4).wrapping_add(self.size as u32);
        }
        self.frame.extend_from_slice(frame);
    }

    fn join(&mut self, packet: &[u8]) {
        let payload = &packet[self.shape.headers..];
        self.frame.extend_from_slice(payload);
        self.merged += 1;
        if self.shape.protocol == TCP {
            self.next_sequence = self.next_sequence.wrapping_add(payload.len() as u32);
            let flags_at = HEADER_BYTES + self.shape.ip_header + 13;
            self.frame[flags_at] |= packet[self.shape.ip_header + 13];
        }
    }

    /// Whether nothing more may follow the packet that just joined.
    fn is_complete(&self, packet: &[u8]) -> bool {
        packet.len() - self.shape.headers < self.size || self.shape.ends_burst(packet)
    }

    fn emit(&mut self, write: &mut impl FnMut(D, &[u8])) {
        if self.frame.is_empty() {
            return;
        }
        if self.merged > 1 {
            self.finish();
        }
        write(self.device, &self.frame);
        self.frame.clear();
    }

    /// Turns the gathered packet into a superpacket whose checksum the kernel completes.
    fn finish(&mut self) {
        let Shape { protocol, ip_header, headers } = self.shape;
        let (virtio, packet) = self.frame.split_at_mut(HEADER_BYTES);
        put_ip_length(packet, packet.len());
        let transport = packet.len() - ip_header;
        let (gso_type, csum_offset) = match (protocol, ip_header) {
            (TCP, 20) => (VIRTIO_NET_HDR_GSO_TCPV4, 16),
            (TCP, _) => (VIRTIO_NET_HDR_GSO_TCPV6, 16),
            _ => {
                put16(packet, ip_header + 4, transport as u16);
                (VIRTIO_NET_HDR_GSO_UDP_L4, 6)
            }
        };
        let sum = checksum::fold(pseudo_sum(packet, protocol, transport));
        put16(packet, ip_header + csum_offset, sum);
        let header = VirtioNetHdr {
            flags: NEEDS_CHECKSUM,
            gso_type,
            hdr_len: headers as u16,
            gso_size: self.size as u16,
            csum_start: ip_header as u16,
            csum_offset: csum_offset as u16,
        };
        // The slice is exactly as long as the header.
        let encoded = header.encode(virtio);
        debug_assert!(encoded.is_ok());
    }
}

/// Whether `N` bytes from `at` are there and the same in both. The fixed length spares a call: there are a dozen
/// such comparisons for every packet.
fn same<const N: usize>(one: &[u8], other: &[u8], at: usize) -> bool {
    let one = one.get(at..).and_then(|bytes| bytes.first_chunk::<N>());
    let other = other.get(at..).and_then(|bytes| bytes.first_chunk::<N>());
    one.is_some() && one == other
}

/// Whether TCP's urgent pointer and options are the same.
fn same_options(one: &[u8], other: &[u8], range: Range<usize>) -> bool {
    match range.len() {
        2 => same::<2>(one, other, range.start),
        // Time stamps, as nearly always.
        14 => same::<14>(one, other, range.start),
        _ => one.get(range.clone()) == other.get(range),
    }
}

#[cfg(test)]
mod tests;
