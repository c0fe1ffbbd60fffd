//! The relay data frame: `05 52 4c 59`, channel (`u32`), then the packet. Eight bytes in all.
//!
//! The sender leaves [`HEADER_LEN`] bytes free in front of the packet and writes the header in
//! place; neither the relay nor the receiver copies anything.

/// The first bytes of a frame.
pub const MAGIC: [u8; 4] = [0x05, 0x52, 0x4c, 0x59];

/// The bytes in front of the packet.
pub const HEADER_LEN: usize = 8;

/// Writes the header into the head-room in front of a packet.
pub fn write_header(head_room: &mut [u8; HEADER_LEN], channel: u32) {
    head_room[..4].copy_from_slice(&MAGIC);
    head_room[4..].copy_from_slice(&channel.to_be_bytes());
}

/// The channel and the packet of a frame; none when it is no frame or empty.
pub fn parse(datagram: &[u8]) -> Option<(u32, &[u8])> {
    let rest = datagram.strip_prefix(&MAGIC)?;
    let (channel, payload) = rest.split_first_chunk::<4>()?;
    (!payload.is_empty()).then(|| (u32::from_be_bytes(*channel), payload))
}

/// A whole frame around a copy of the packet, for where speed does not matter.
pub fn encode(channel: u32, payload: &[u8]) -> Vec<u8> {
    let mut head = [0u8; HEADER_LEN];
    write_header(&mut head, channel);
    [&head, payload].concat()
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn frame_has_these_bytes_and_reads_back() {
        let frame = encode(0x0102_0304, &[0xaa, 0xbb]);
        assert_eq!(frame, hex!("05524c59 01020304 aabb"));
        assert_eq!(parse(&frame), Some((0x0102_0304, &[0xaa, 0xbb][..])));
    }

    #[test]
    fn truncated_frames_are_none() {
        let frame = encode(7, &[1]);
        for len in 0..frame.len() {
            assert_eq!(parse(&frame[..len]), None, "{len} bytes");
        }
    }
}
