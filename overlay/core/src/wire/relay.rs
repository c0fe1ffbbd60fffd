//! The relay data frame: `05 52 4c 59`, channel (`u32`), then the packet. Eight bytes in all.
//!
//! The sender leaves [`HEADER_LEN`] bytes free in front of the packet and writes the header in
//! place; neither the relay nor the receiver copies anything.
//!
//! A packet that does not fit the way to the relay travels in two *parts*: `05 52 4c 5a`, channel,
//! number (`u16`, the same in both), index (0 or 1), zero, then a half. The relay looks at the channel
//! only; [`Joiner`] puts the halves together.

mod joiner;

pub use joiner::Joiner;

/// The first bytes of a frame.
pub const MAGIC: [u8; 4] = [0x05, 0x52, 0x4c, 0x59];

/// The first bytes of a frame with half a packet.
pub const PART_MAGIC: [u8; 4] = [0x05, 0x52, 0x4c, 0x5a];

/// The bytes in front of the packet.
pub const HEADER_LEN: usize = 8;

/// The bytes in front of half a packet.
pub const PART_HEADER_LEN: usize = 12;

/// The longest packet that is put together: two of the longest datagrams that any link carries.
pub const MAX_JOINED: usize = 2 * 1500;

/// Half a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The pair's channel.
    pub channel: u32,
    /// The same in both halves.
    pub number: u16,
    /// Whether it is the second one.
    pub is_second: bool,
    /// The half itself.
    pub bytes: &'a [u8],
}

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

/// Half a packet of a frame; none when it is no such frame, empty, or too long.
pub fn parse_part(datagram: &[u8]) -> Option<Part<'_>> {
    let rest = datagram.strip_prefix(&PART_MAGIC)?;
    let (channel, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<2>()?;
    let ([index, zero], bytes) = rest.split_first_chunk::<2>()?;
    let is_sound = *index <= 1 && *zero == 0 && !bytes.is_empty() && bytes.len() <= MAX_JOINED / 2;
    is_sound.then(|| Part {
        channel: u32::from_be_bytes(*channel),
        number: u16::from_be_bytes(*number),
        is_second: *index == 1,
        bytes,
    })
}

/// The channel of a frame of either kind: all that a relay needs.
pub fn channel_of(datagram: &[u8]) -> Option<u32> {
    let whole = parse(datagram).map(|(channel, _)| channel);
    whole.or_else(|| parse_part(datagram).map(|part| part.channel))
}

/// Whether the first bytes are those of a frame of either kind.
pub fn is_frame(datagram: &[u8]) -> bool {
    datagram.starts_with(&MAGIC) || datagram.starts_with(&PART_MAGIC)
}

/// A whole frame around a copy of the packet, for where speed does not matter.
pub fn encode(channel: u32, payload: &[u8]) -> Vec<u8> {
    let mut head = [0u8; HEADER_LEN];
    write_header(&mut head, channel);
    [&head, payload].concat()
}

/// The two frames of a packet that is too long for one.
///
/// The caller counts `number` on with each such packet of a channel. None when the packet has no two
/// bytes to part, or is longer than [`MAX_JOINED`].
pub fn split(channel: u32, number: u16, packet: &[u8]) -> Option<[Vec<u8>; 2]> {
    if packet.len() < 2 || packet.len() > MAX_JOINED {
        return None;
    }
    let (first, second) = packet.split_at(packet.len().div_ceil(2));
    let frame = |index: u8, half: &[u8]| {
        let mut bytes = Vec::with_capacity(PART_HEADER_LEN + half.len());
        bytes.extend_from_slice(&PART_MAGIC);
        bytes.extend_from_slice(&channel.to_be_bytes());
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&[index, 0]);
        bytes.extend_from_slice(half);
        bytes
    };
    Some([frame(0, first), frame(1, second)])
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
        assert_eq!(channel_of(&frame), Some(0x0102_0304));
    }

    #[test]
    fn parts_have_these_bytes_and_read_back() {
        let [first, second] = split(0x0102_0304, 0x0506, &[1, 2, 3]).unwrap();
        assert_eq!(first, hex!("05524c5a 01020304 0506 00 00 0102"));
        assert_eq!(second, hex!("05524c5a 01020304 0506 01 00 03"));
        let part = parse_part(&second).unwrap();
        let expected = Part { channel: 0x0102_0304, number: 0x0506, is_second: true, bytes: &[3] };
        assert_eq!(part, expected);
        assert_eq!((channel_of(&first), parse(&first)), (Some(0x0102_0304), None));
        assert!(is_frame(&first) && is_frame(&encode(1, &[1])) && !is_frame(&first[..3]));
    }

    #[test]
    fn halves_of_a_full_packet_fit_the_smallest_way() {
        // The longest inner packet sealed: 1412 + 32; IPv6 guarantees 1280 with headers of 48.
        for half in split(1, 1, &[0; 1444]).unwrap() {
            assert!(half.len() <= 1280 - 48, "{}", half.len());
        }
    }

    #[test]
    fn truncated_frames_are_none() {
        let frame = encode(7, &[1]);
        let [part, _] = split(7, 1, &[1, 2]).unwrap();
        for frame in [frame, part] {
            for len in 0..frame.len() {
                assert_eq!(channel_of(&frame[..len]), None, "{len} bytes");
            }
        }
        assert_eq!(split(1, 1, &[1]), None);
        assert_eq!(split(1, 1, &[0; MAX_JOINED + 1]), None);
    }
}
