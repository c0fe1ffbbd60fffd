//! What a sender is told whose packet is larger than the link's MTU.
//!
//! The notice comes from the address that the packet was sent to: a link has no address of its own,
//! and senders look at the quoted packet only (RFC 1191 §4, RFC 4443 §3.2, RFC 8201 §4).

use crate::checksum;
use crate::frame::{ETHERNET, Parsed, parse};

/// How much of the packet a notice quotes over IPv4: its header and eight bytes, as RFC 792 says, is
/// enough for everybody; what routers send is more (RFC 1812 §4.3.2.3), up to 576 bytes in all.
const QUOTED_V4: usize = 548;
/// The same over IPv6: as much as fits into its least MTU (RFC 4443 §3.2), 1280 bytes.
const QUOTED_V6: usize = 1232;
/// Chosen: what Linux gives its own packets.
const HOPS: u8 = 64;

/// The frame that tells the sender of `frame` about the MTU; none where nobody may be told, such as
/// for another notice (RFC 1122 §3.2.2).
pub fn too_big(frame: &[u8], mtu_bytes: u32) -> Option<Vec<u8>> {
    let packet = frame.get(ETHERNET..)?;
    let mut notice = Vec::with_capacity(ETHERNET + 40 + 8 + packet.len().min(QUOTED_V6));
    notice.extend(&frame[6..12]);
    notice.extend(&frame[..6]);
    notice.extend(&frame[12..14]);
    match parse(frame) {
        Parsed::V4(v4) => {
            if is_about_others(frame, &v4) || v4.destination.is_multicast() {
                return None;
            }
            let quoted = &packet[..packet.len().min(QUOTED_V4)];
            let mtu = u16::try_from(mtu_bytes).unwrap_or(u16::MAX);
            let mut message = vec![3, 4, 0, 0, 0, 0];
            message.extend(mtu.to_be_bytes());
            message.extend(quoted);
            let sum = checksum::of(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
            let length = u16::try_from(20 + message.len()).ok()?;
            let mut header = vec![0x45, 0xc0];
            header.extend(length.to_be_bytes());
            header.extend([0, 0, 0, 0, HOPS, 1, 0, 0]);
            header.extend(v4.destination.octets());
            header.extend(v4.source.octets());
            let sum = checksum::of(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            notice.extend(header);
            notice.extend(message);
        }
        Parsed::V6(v6) => {
            if v6.destination.is_multicast() || (packet[6] == 58 && packet.get(40)? & 0x80 == 0) {
                return None;
            }
            let quoted = &packet[..packet.len().min(QUOTED_V6)];
            let mut message = vec![2, 0, 0, 0];
            message.extend(mtu_bytes.to_be_bytes());
            message.extend(quoted);
            let sum = checksum::of_icmpv6(v6.destination, v6.source, &message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
            let length = u16::try_from(message.len()).ok()?;
            notice.extend([0x60, 0, 0, 0]);
            notice.extend(length.to_be_bytes());
            notice.extend([58, HOPS]);
            notice.extend(v6.destination.octets());
            notice.extend(v6.source.octets());
            notice.extend(message);
        }
        Parsed::Arp(_) | Parsed::Other => return None,
    }
    Some(notice)
}

/// Whether it is an ICMP message but a ping's.
fn is_about_others(frame: &[u8], v4: &crate::frame::V4) -> bool {
    use crate::frame::Payload;
    match v4.payload {
        Payload::About { .. } | Payload::Fragment => true,
        Payload::Other => frame[v4.at + 9] == 1,
        Payload::Udp(_) | Payload::Tcp(_) | Payload::Echo { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::frame::{Payload, parse_quoted};

    fn datagram(bytes: usize) -> Vec<u8> {
        let mut frame = hex!(
            "020000000001 020000000002 0800"
            "45000000 00004000 40110000 0a000002 c6120102 1388 1b58 0000 0000"
        )
        .to_vec();
        frame.resize(ETHERNET + bytes, 7);
        frame
    }

    #[test]
    fn senders_are_told_the_mtu_and_which_packet_it_was() {
        let notice = too_big(&datagram(1500), 1400).unwrap();
        assert_eq!(notice[..12], hex!("020000000002 020000000001"));
        let Parsed::V4(v4) = parse(&notice) else { panic!() };
        assert_eq!((v4.source.octets(), v4.destination.octets()), ([198, 18, 1, 2], [10, 0, 0, 2]));
        assert_eq!(checksum::of(&notice[14..34]), 0);
        assert_eq!(checksum::of(&notice[34..]), 0);
        assert_eq!(notice[34..42], [3, 4, notice[36], notice[37], 0, 0, 0x05, 0x78]);
        let Payload::About { quoted, .. } = v4.payload else { panic!("{v4:?}") };
        let quoted = parse_quoted(&notice, quoted).unwrap();
        assert!(matches!(quoted.payload, Payload::Udp(ports) if ports.source == 5000));
        assert!(notice.len() <= ETHERNET + 576);
    }

    #[test]
    fn nobody_is_told_about_notices_and_fragments() {
        let notice = too_big(&datagram(1500), 1400).unwrap();
        assert_eq!(too_big(&notice, 100), None);
        let mut fragment = datagram(1500);
        fragment[21] = 9;
        assert_eq!(too_big(&fragment, 1400), None);
    }

    #[test]
    fn ipv6_has_its_own_message() {
        let mut frame = hex!("020000000001 020000000002 86dd 60000000 05dc 11 40").to_vec();
        frame.extend([0xfd; 16]);
        frame.extend([0x20; 16]);
        frame.resize(ETHERNET + 1500, 1);
        let notice = too_big(&frame, 1400).unwrap();
        assert_eq!(notice[54..62], [2, 0, notice[56], notice[57], 0, 0, 0x05, 0x78]);
        let (Parsed::V6(v6), message) = (parse(&notice), &notice[54..]) else { panic!() };
        assert_eq!(checksum::of_icmpv6(v6.source, v6.destination, message), 0);
        assert!(notice.len() <= ETHERNET + 1280);
    }

    #[test]
    fn frames_cut_anywhere_do_no_harm() {
        let whole = datagram(60);
        for length in 0..whole.len() {
            let _ = too_big(&whole[..length], 40);
        }
    }
}
