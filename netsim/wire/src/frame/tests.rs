//! Frames of every kind, whole and cut.

use hex_literal::hex;
use proptest::prelude::*;

use super::*;

const TO_FROM: [u8; 12] = hex!("020000000001 020000000002");

fn frame(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&TO_FROM[..], &kind.to_be_bytes(), packet].concat()
}

/// 10.0.0.2:5000 to 198.18.1.2:7000, "hi".
const UDP4: [u8; 30] = hex!(
    "4500001e 00004000 40110000 0a000002 c6120102"
    "1388 1b58 000a 1234 6869"
);

#[test]
fn datagrams_have_ports_and_perhaps_a_checksum() {
    let mut whole = frame(0x0800, &UDP4);
    let Parsed::V4(packet) = parse(&whole) else { panic!("{:?}", parse(&whole)) };
    let Payload::Udp(ports) = packet.payload else { panic!("{packet:?}") };
    assert_eq!(packet.source(ports), "10.0.0.2:5000".parse().unwrap());
    assert_eq!(packet.destination(ports), "198.18.1.2:7000".parse().unwrap());
    assert_eq!(ports.checksum, Some(40));
    whole[40..42].fill(0);
    let Parsed::V4(V4 { payload: Payload::Udp(ports), .. }) = parse(&whole) else { panic!() };
    assert_eq!(ports.checksum, None);
}

#[test]
fn fragments_messages_and_pings_are_told_apart() {
    let payload = |packet: &[u8]| match parse(&frame(0x0800, packet)) {
        Parsed::V4(packet) => packet.payload,
        other @ (Parsed::V6(_) | Parsed::Arp(_) | Parsed::Other) => panic!("{other:?}"),
    };
    let mut later = UDP4;
    later[7] = 0xb9;
    assert_eq!(payload(&later), Payload::Fragment);
    let ping = hex!("4500001c 00000000 40010000 0a000002 c6120102 0800 0000 abcd 0001");
    assert_eq!(payload(&ping), Payload::Echo { at: 34, is_request: true, id: 0xabcd });
    let about =
        [&hex!("45000038 00000000 40010000 c6120102 0a000002 0303 0000 00000000")[..], &UDP4[..28]]
            .concat();
    assert_eq!(payload(&about), Payload::About { at: 34, quoted: 42 });
    let whole = frame(0x0800, &about);
    let quoted = parse_quoted(&whole, 42).unwrap();
    assert_eq!(quoted.source, Ipv4Addr::new(10, 0, 0, 2));
    assert!(matches!(quoted.payload, Payload::Udp(ports) if ports.source == 5000));
}

#[test]
fn neighbours_talk_is_not_modelled() {
    let question = hex!("0001 0800 06 04 0001 020000000002 c6120001 000000000000 c6120002");
    let whole = frame(0x0806, &question);
    let Parsed::Arp(arp) = parse(&whole) else { panic!() };
    assert!(arp.is_request && arp.target == Ipv4Addr::new(198, 18, 0, 2));
    assert!(!parse(&whole).is_modelled());
    let answer = arp_answer(&arp, [2, 0, 0, 0, 0, 9]);
    let Parsed::Arp(answered) = parse(&answer) else { panic!() };
    assert!(!answered.is_request);
    assert_eq!(answered.sender, ([2, 0, 0, 0, 0, 9], arp.target));
    assert_eq!(answered.target, arp.sender.1);

    let mut six = hex!("60000000 0008 3a ff").to_vec();
    six.extend([0xfe; 32]);
    six.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    assert!(!parse(&frame(0x86dd, &six)).is_modelled());
    six[40] = 128;
    assert!(parse(&frame(0x86dd, &six)).is_modelled());
}

#[test]
fn frames_cut_anywhere_are_other_or_without_ports() {
    let whole = frame(0x0800, &UDP4);
    for length in 0..whole.len() {
        match parse(&whole[..length]) {
            Parsed::Other => assert!(length < ETHERNET + 20, "{length}"),
            Parsed::V4(packet) if length < ETHERNET + 28 => {
                assert_eq!(packet.payload, Payload::Other, "{length}");
            }
            Parsed::V4(packet) => assert!(matches!(packet.payload, Payload::Udp(_)), "{length}"),
            other @ (Parsed::V6(_) | Parsed::Arp(_)) => panic!("{length}: {other:?}"),
        }
    }
}

proptest! {
    /// Whatever comes, what is found lies within the frame.
    #[test]
    fn offsets_lie_within(
        kind in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd, 0x1234]),
        first in any::<u8>(),
        protocol in prop::sample::select(vec![1u8, 6, 17, 58, 99]),
        mut packet in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        if packet.len() > 9 {
            packet[0] = if first & 0x80 == 0 { 0x40 | (first & 0x0f) } else { first };
            packet[9] = protocol;
        }
        let frame = frame(kind, &packet);
        if let Parsed::V4(found) = parse(&frame) {
            prop_assert!(found.at + 20 <= frame.len());
            match found.payload {
                Payload::Udp(ports) | Payload::Tcp(ports) => {
                    prop_assert!(ports.at + 8 <= frame.len());
                    prop_assert!(ports.checksum.is_none_or(|at| at + 2 <= frame.len()));
                }
                Payload::Echo { at, .. } => prop_assert!(at + 8 <= frame.len()),
                Payload::About { at, quoted } => {
                    prop_assert!(at + 8 <= frame.len());
                    let _ = parse_quoted(&frame, quoted);
                }
                Payload::Fragment | Payload::Other => {}
            }
        }
    }
}
