//! Cuts superpackets into packets of the device's MTU.

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr,
    checksum,
};

use super::packet::{
    TCP, TCP_CWR, TCP_FIN, TCP_HEADER, TCP_PSH, UDP, UDP_HEADER, be16, be32, pseudo_sum,
    put_ip_length, put16, put32,
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
/// `scratch` holds one segment at a time. Nothing is allocated.
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

    fn segments(
        &self,
        packet: &[u8],
        scratch: &mut [u8; SEGMENT_BYTES],
        mut each: impl FnMut(&[u8]),
    ) {
        let (header, payload) = packet.split_at(self.headers);
        let is_v4 = header[0] >> 4 == 4;
        let first_sequence = if self.protocol == TCP { be32(header, self.start + 4) } else { 0 };
        let last = payload.len().div_ceil(self.size).saturating_sub(1);
        scratch[..self.headers].copy_from_slice(header);
        for (index, part) in payload.chunks(self.size).enumerate() {
            let len = self.headers + part.len();
            let out = &mut scratch[..len];
            out[self.headers..].copy_from_slice(part);
            if is_v4 {
                let identification = be16(header, 4).wrapping_add(index as u16);
                put16(out, 4, identification);
            }
            put_ip_length(out, len);
            let checksum_at = if self.protocol == TCP {
                let sequence = first_sequence.wrapping_add((index * self.size) as u32);
                put32(out, self.start + 4, sequence);
                let mut flags = header[self.start + 13];
                if index > 0 {
                    flags &= !TCP_CWR;
                }
                if index < last {
                    flags &= !(TCP_FIN | TCP_PSH);
                }
                out[self.start + 13] = flags;
                self.start + 16
            } else {
                put16(out, self.start + 4, (len - self.start) as u16);
                self.start + 6
            };
            put16(out, checksum_at, 0);
            let pseudo = pseudo_sum(out, self.protocol, len - self.start);
            let sum = !checksum(&out[self.start..], pseudo);
            // Zero means "no checksum" in UDP; its other representation says the same sum.
            let sum = if sum == 0 && self.protocol == UDP { u16::MAX } else { sum };
            put16(out, checksum_at, sum);
            each(out);
        }
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
    let sum = !checksum(&packet[start..], pseudo);
    put16(packet, checksum_at, if sum == 0 { u16::MAX } else { sum });
    Ok(())
}

#[cfg(test)]
mod tests;
