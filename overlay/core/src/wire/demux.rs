//! Which protocol a datagram belongs to.

use super::{control, relay};

/// What a datagram is, by its first bytes and its length. Nothing is authenticated by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A WireGuard message.
    WireGuard,
    /// A control frame, see [`control`].
    Control,
    /// A relay data frame, see [`relay`]. Its payload is to be classified again.
    Relay,
    /// A QUIC packet. The endpoint must not grease the fixed bit, or some of its packets look unknown.
    Quic,
    /// Nothing of ours: to be dropped and counted.
    Unknown,
}

/// Tells the protocols of the socket apart.
#[derive(Clone, Copy, Debug)]
pub struct Demux;

impl Demux {
    /// Classifies one datagram (one segment, where the kernel coalesced several).
    ///
    /// The order of the tests is part of the format: WireGuard, control, relay, QUIC.
    pub fn classify(datagram: &[u8]) -> Class {
        if is_wireguard(datagram) {
            Class::WireGuard
        } else if datagram.starts_with(&control::MAGIC) {
            Class::Control
        } else if relay::channel_of(datagram).is_some() {
            Class::Relay
        } else if datagram.first().is_some_and(|first| first & 0x40 != 0 || *first >= 0x80) {
            Class::Quic
        } else {
            Class::Unknown
        }
    }
}

fn is_wireguard(datagram: &[u8]) -> bool {
    match datagram {
        // Lengths of the WireGuard paper §5.4: initiation, response, cookie reply, transport data.
        [1, 0, 0, 0, ..] => datagram.len() == 148,
        [2, 0, 0, 0, ..] => datagram.len() == 92,
        [3, 0, 0, 0, ..] => datagram.len() == 64,
        [4, 0, 0, 0, ..] => datagram.len() >= 32,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(head: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; len];
        bytes[..head.len()].copy_from_slice(head);
        bytes
    }

    #[test]
    fn tells_the_protocols_apart() {
        let table: &[(&[u8], usize, Class)] = &[
            (&[1, 0, 0, 0], 148, Class::WireGuard),
            (&[1, 0, 0, 0], 147, Class::Unknown),
            (&[1, 0, 0, 0], 149, Class::Unknown),
            (&[2, 0, 0, 0], 92, Class::WireGuard),
            (&[2, 0, 0, 0], 148, Class::Unknown),
            (&[3, 0, 0, 0], 64, Class::WireGuard),
            (&[3, 0, 0, 0], 65, Class::Unknown),
            (&[4, 0, 0, 0], 32, Class::WireGuard),
            (&[4, 0, 0, 0], 31, Class::Unknown),
            (&[4, 0, 0, 1], 64, Class::Unknown),
            (&[0x0b, 0x43, 0x48, 0x01], 5, Class::Control),
            (&[0x0b, 0x43, 0x48, 0x02], 64, Class::Unknown),
            (&[0x05, 0x52, 0x4c, 0x59], 9, Class::Relay),
            (&[0x05, 0x52, 0x4c, 0x59], 8, Class::Unknown),
            (&[0x05, 0x52, 0x4c, 0x5a], 13, Class::Relay),
            (&[0x05, 0x52, 0x4c, 0x5a], 12, Class::Unknown),
            (&[0x40], 1, Class::Quic),
            (&[0x7f, 1, 2, 3], 40, Class::Quic),
            (&[0x80], 1200, Class::Quic),
            (&[0xc3, 0, 0, 0, 1], 1200, Class::Quic),
            (&[0x3f], 1200, Class::Unknown),
            (&[0x00], 1, Class::Unknown),
            (&[], 0, Class::Unknown),
        ];
        for (head, len, expected) in table {
            assert_eq!(Demux::classify(&datagram(head, *len)), *expected, "{head:02x?} × {len}");
        }
    }
}
