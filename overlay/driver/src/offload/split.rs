//! Cuts superpackets into packets of the device's MTU.

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr,
};

use super::checksum;
use super::packet::{
    TCP, TCP_CWR, TCP_FIN, TCP_HEADER, TCP_PSH, UDP, UDP_HEADER, be16, be32, pseudo_sum, put16,
    put32,
};

/// The longest segment: more than any MTU of a mesh device.
pub(crate) const SEGMENT_BYTES: usize = 2048;

/// `csum_start` and `csum_offset` name a checksum that is still to be computed.
const NEEDS_CHECKSUM: u8 = 1;

/// The bit beside the type that says that TCP uses explicit congestion notification.
const WITH_ECN: u8 = 0x80;

/// The device gave a frame that cannot be cut: its header and its packet do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    /// An offset or length reaches past the packet.
    #[error("the virtio header points outside of the packet")]
    OutOfBounds,
    /// A kind of segmentation that was never switched on.
    #[error("unknown kind of segmentation {0}")]
    UnknownKind(u8),
    /// A segment would be longer than [`SEGMENT_BYTES`].
    #[error("a segment of {0} bytes is too long")]
    TooLong(usize),
}

/// Calls `each` with every packet that `packet` stands for, in order and with correct checksums.
///
/// The packet's own bytes are overwritten by that; `scratch` keeps its headers. Nothing is allocated
/// and no payload is copied.
pub(crate) fn split(
    header: &VirtioNetHdr,
    packet: &mut [u8],
    scratch: &mut [u8; SEGMENT_BYTES],
    mut each: impl FnMut(&[u8]),
) -> Result<(), SplitError> {
    let start = usize::from(header.csum_start);
    let checksum_at = start + usize::from(header.csum_offset);
    let (protocol, headers) = match header.gso_type & !WITH_ECN {
        0 => {
            if header.flags & NEEDS_CHECKSUM != 0 {
                complete_checksum(packet, start, checksum_at)?;
            }
            if packet.len() > SEGMENT_BYTES {
                return Err(SplitError::TooLong(packet.len()));
            }
            each(packet);
            return Ok(());
        }
        VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_TCPV6 => {
            // The kernel's hdr_len may cover more than the headers; the TCP header itself knows.
            let offset = packet.get(start + 12).ok_or(SplitError::OutOfBounds)?;
            (TCP, start + usize::from(offset >> 4) * 4)
        }
        VIRTIO_NET_HDR_GSO_UDP_L4 => (UDP, start + UDP_HEADER),
        kind => return Err(SplitError::UnknownKind(kind)),
    };
    let cut = Cut { protocol, start, headers, size: usize::from(header.gso_size) };
    cut.check(packet, checksum_at)?;
    cut.segments(packet, scratch, each);
    Ok(())
}

/// Where a superpacket is cut.
struct Cut {
    protocol: u8,
    /// Where the transport header begins.
    start: usize,
    /// Where the payload begins.
    headers: usize,
    /// The payload of a segment.
    size: usize,
}

impl Cut {
    fn check(&self, packet: &[u8], checksum_at: usize) -> Result<(), SplitError> {
        let (minimum, checksum) =
            if self.protocol == TCP { (TCP_HEADER, 16) } else { (UDP_HEADER, 6) };
        let ip_header = match packet.first().map_or(0, |first| first >> 4) {
            4 => usize::from(packet[0] & 0x0f) * 4,
            6 => 40,
            _ => return Err(SplitError::OutOfBounds),
        };
        if self.start < ip_header
            || ip_header < 20
            || self.headers < self.start + minimum
            || self.headers > packet.len()
            || checksum_at != self.start + checksum
            || self.size == 0
        {
            return Err(SplitError::OutOfBounds);
        }
        let longest = self.headers + self.size.min(packet.len() - self.headers);
        if longest > SEGMENT_BYTES { Err(SplitError::TooLong(longest)) } else { Ok(()) }
    }

    /// The segments, each made where its payload lies: the headers go in front of it, over the end of
    /// the segment before, which has been handed out by then. `scratch` keeps the headers meanwhile.
    fn segments(
        &self,
        packet: &mut [u8],
        scratch: &mut [u8; SEGMENT_BYTES],
        mut each: impl FnMut(&[u8]),
    ) {
        let Self { protocol, start, headers, size } = *self;
        let header = &mut scratch[..headers];
        header.copy_from_slice(&packet[..headers]);
        let is_v4 = header[0] >> 4 == 4;
        let identification = if is_v4 { be16(header, 4) } else { 0 };
        let (first_sequence, flags) =
            if protocol == TCP { (be32(header, start + 4), header[start + 13]) } else { (0, 0) };
        let fixed = FixedSums::take(header, protocol, start);
        let count = (packet.len() - headers).div_ceil(size);
        for index in 0..count {
            let at = headers + index * size;
            let end = packet.len().min(at + size);
            let out = &mut packet[at - headers..end];
            out[..headers].copy_from_slice(header);
            if is_v4 {
                let identification = identification.wrapping_add(index as u16);
                let len = out.len() as u16;
                put16(out, 2, len);
                put16(out, 4, identification);
                let sum = fixed.ip + u64::from(len) + u64::from(identification);
                put16(out, 10, checksum::finish(sum));
            } else {
                let len = out.len() as u16 - 40;
                put16(out, 4, len);
            }
            let transport = out.len() - start;
            // The transport's length in the pseudo header, and what differs from segment to segment.
            let mut sum = fixed.transport + transport as u64;
            let checksum_at = if protocol == TCP {
                let sequence = first_sequence.wrapping_add((index * size) as u32);
                put32(out, start + 4, sequence);
                let first_only = if index > 0 { TCP_CWR } else { 0 };
                let last_only = if index + 1 < count { TCP_FIN | TCP_PSH } else { 0 };
                let flags = flags & !(first_only | last_only);
                out[start + 13] = flags;
                sum += u64::from(sequence >> 16) + u64::from(sequence & 0xffff) + u64::from(flags);
                start + 16
            } else {
                put16(out, start + 4, transport as u16);
                sum += transport as u64;
                start + 6
            };
            let sum = checksum::finish(sum + checksum::sum(&out[headers..]));
            // Zero means "no checksum" in UDP; its other representation says the same sum.
            let sum = if sum == 0 && protocol == UDP { u16::MAX } else { sum };
            put16(out, checksum_at, sum);
            each(out);
        }
    }
}

/// The sums of what is the same in the headers of all segments.
struct FixedSums {
    /// Of the IPv4 header without length, identification and checksum.
    ip: u64,
    /// Of the pseudo header without its length, and of the transport header.
    transport: u64,
}

impl FixedSums {
    /// Takes the sums, and clears the fields that are left out of them.
    fn take(header: &mut [u8], protocol: u8, start: usize) -> Self {
        let mut ip = 0;
        if header[0] >> 4 == 4 {
            header[2..6].fill(0);
            header[10..12].fill(0);
            ip = checksum::sum(&header[..usize::from(header[0] & 0x0f) * 4]);
        }
        if protocol == TCP {
            header[start + 4..start + 8].fill(0);
            header[start + 13] = 0;
            header[start + 16..start + 18].fill(0);
        } else {
            header[start + 4..start + 8].fill(0);
        }
        let transport = pseudo_sum(header, protocol, 0) + checksum::sum(&header[start..]);
        Self { ip, transport }
    }
}

/// Finishes a checksum whose field holds the sum of the pseudo header.
fn complete_checksum(
    packet: &mut [u8],
    start: usize,
    checksum_at: usize,
) -> Result<(), SplitError> {
    if checksum_at + 2 > packet.len() || start > checksum_at {
        return Err(SplitError::OutOfBounds);
    }
    let pseudo = u64::from(be16(packet, checksum_at));
    put16(packet, checksum_at, 0);
    let sum = checksum::finish(pseudo + checksum::sum(&packet[start..]));
    put16(packet, checksum_at, if sum == 0 { u16::MAX } else { sum });
    Ok(())
}

#[cfg(test)]
mod tests;
