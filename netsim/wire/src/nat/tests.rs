//! Packets through the translator and back.

use netsim_sim::{Filtering, Mapping, PortAllocation};
use proptest::prelude::*;

use super::*;
use crate::checksum;
use crate::notice;

const OUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const NOW: Duration = Duration::from_secs(1);

fn nat(profile: NatProfile) -> Translator {
    Translator::new(profile, OUTER, HARDWARE, 1)
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// A frame with right checksums.
fn packet(protocol: u8, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend(from.port().to_be_bytes());
    l4.extend(to.port().to_be_bytes());
    let sum_at = match protocol {
        17 => {
            l4.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
            l4.extend([0, 0]);
            6
        }
        _ => {
            l4.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
            16
        }
    };
    l4.extend(payload);
    let sum = transport_sum(from, to, protocol, &l4);
    l4[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let mut header = vec![0x45, 0];
    header.extend(u16::try_from(20 + l4.len()).unwrap().to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.ip().octets());
    header.extend(to.ip().octets());
    let sum = checksum::of(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(l4);
    frame
}

fn transport_sum(from: SocketAddrV4, to: SocketAddrV4, protocol: u8, l4: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    pseudo.extend(from.ip().octets());
    pseudo.extend(to.ip().octets());
    pseudo.extend([0, protocol]);
    pseudo.extend(u16::try_from(l4.len()).unwrap().to_be_bytes());
    pseudo.extend(l4);
    checksum::of(&pseudo)
}

/// The endpoints of a packet whose checksums are right.
fn ends(frame: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let Parsed::V4(packet) = parse(frame) else { panic!("{:?}", parse(frame)) };
    assert_eq!(checksum::of(&frame[14..34]), 0, "the header's checksum");
    let protocol = frame[23];
    let (Payload::Udp(ports) | Payload::Tcp(ports)) = packet.payload else { panic!("{packet:?}") };
    let (from, to) = (packet.source(ports), packet.destination(ports));
    let sum = transport_sum(from, to, protocol, &frame[34..]);
    assert!(sum == 0 || sum == 0xffff, "the transport's checksum is wrong by {sum:#x}");
    (from, to)
}

fn passed(verdict: Verdict) -> Vec<u8> {
    match verdict {
        Verdict::Pass(frame) => frame,
        other @ (Verdict::Back(_) | Verdict::Drop) => panic!("{other:?}"),
    }
}

const INNER: &str = "10.0.0.2:5000";
const REMOTE: &str = "198.18.1.2:7000";

#[test]
fn packets_go_out_under_the_outer_address_and_answers_come_back() {
    for protocol in [17, 6] {
        let mut nat = nat(NatProfile::SYMMETRIC_SEQUENTIAL);
        let out = passed(nat.outbound(NOW, packet(protocol, at(INNER), at(REMOTE), b"hi")));
        assert_eq!(ends(&out), (SocketAddrV4::new(OUTER, 1024), at(REMOTE)));
        let answer = packet(protocol, at(REMOTE), SocketAddrV4::new(OUTER, 1024), b"yes");
        let back = passed(nat.inbound(NOW, answer));
        assert_eq!(ends(&back), (at(REMOTE), at(INNER)));
        let stranger = packet(protocol, at("198.18.1.3:7000"), SocketAddrV4::new(OUTER, 1024), b"");
        assert_eq!(nat.inbound(NOW, stranger), Verdict::Drop);
        // The next destination gets the next port.
        let other = passed(nat.outbound(NOW, packet(protocol, at(INNER), at("198.18.1.3:7"), b"")));
        assert_eq!(ends(&other).0.port(), 1025);
    }
}

#[test]
fn datagrams_without_checksum_get_none() {
    let mut nat = nat(NatProfile::HOME);
    let mut frame = packet(17, at(INNER), at(REMOTE), b"hi");
    frame[40..42].fill(0);
    let out = passed(nat.outbound(NOW, frame));
    assert_eq!(out[40..42], [0, 0]);
}

#[test]
fn lifetimes_are_exact() {
    let mut nat = nat(NatProfile { lifetime: Duration::from_secs(30), ..NatProfile::HOME });
    nat.outbound(NOW, packet(17, at(INNER), at(REMOTE), b"hi"));
    let answer = packet(17, at(REMOTE), SocketAddrV4::new(OUTER, 5000), b"");
    let end = NOW + Duration::from_secs(30);
    let just_before = end - Duration::from_nanos(1);
    // Not refreshed by a look: the profile says both, so ask at the end only.
    assert_eq!(nat.inbound(end, answer.clone()), Verdict::Drop);
    nat.outbound(end, packet(17, at(INNER), at(REMOTE), b"hi"));
    let end = end + (just_before - NOW);
    assert!(matches!(nat.inbound(end, answer), Verdict::Pass(_)));
}

#[test]
fn hairpins_turn_where_the_profile_says() {
    let peer = at("10.0.0.3:6000");
    for (hairpin, profile) in [(false, NatProfile::FULL_CONE), (true, NatProfile::FULL_CONE)] {
        let mut nat = nat(NatProfile { hairpin, ..profile });
        nat.outbound(NOW, packet(17, peer, at(REMOTE), b""));
        let round = packet(17, at(INNER), SocketAddrV4::new(OUTER, 6000), b"hello");
        let verdict = nat.outbound(NOW, round.clone());
        if !hairpin {
            assert_eq!(verdict, Verdict::Drop);
            continue;
        }
        let Verdict::Back(back) = verdict else { panic!("{verdict:?}") };
        assert_eq!(ends(&back), (SocketAddrV4::new(OUTER, 5000), peer));
        assert_eq!((&back[..6], &back[6..12]), (&round[6..12], &round[..6]));
    }
}

#[test]
fn pings_are_translated_by_their_identifier() {
    let mut nat = nat(NatProfile::SYMMETRIC_SEQUENTIAL);
    let ping = |kind: u8, id: u16, from: Ipv4Addr, to: Ipv4Addr| {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(id.to_be_bytes());
        message.extend([0, 1, b'x', b'y']);
        let sum = checksum::of(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = packet(17, SocketAddrV4::new(from, 0), SocketAddrV4::new(to, 0), b"");
        frame.truncate(34);
        frame[23] = 1;
        frame[16..18].copy_from_slice(&30u16.to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(message);
        frame
    };
    let out = passed(nat.outbound(NOW, ping(8, 77, *at(INNER).ip(), *at(REMOTE).ip())));
    let Parsed::V4(V4 { source, payload: Payload::Echo { id, .. }, .. }) = parse(&out) else {
        panic!()
    };
    assert_eq!((source, id), (OUTER, 1024));
    assert_eq!(checksum::of(&out[34..]), 0);
    let back = passed(nat.inbound(NOW, ping(0, 1024, *at(REMOTE).ip(), OUTER)));
    let Parsed::V4(V4 { destination, payload: Payload::Echo { id, .. }, .. }) = parse(&back) else {
        panic!()
    };
    assert_eq!((destination, id), (*at(INNER).ip(), 77));
    assert_eq!(checksum::of(&back[34..]), 0);
    assert_eq!(nat.inbound(NOW, ping(8, 1024, *at(REMOTE).ip(), OUTER)), Verdict::Drop);
}

#[test]
fn notices_about_translated_packets_find_whom_they_are_for() {
    let mut nat = nat(NatProfile::SYMMETRIC_SEQUENTIAL);
    let out = passed(nat.outbound(NOW, packet(17, at(INNER), at(REMOTE), &[0; 1400])));
    // A link outside cannot carry it.
    let notice = notice::too_big(&out, 1280).unwrap();
    let back = passed(nat.inbound(NOW, notice));
    let Parsed::V4(v4) = parse(&back) else { panic!() };
    assert_eq!(v4.destination, *at(INNER).ip());
    assert_eq!((checksum::of(&back[14..34]), checksum::of(&back[34..])), (0, 0));
    let Payload::About { quoted, .. } = v4.payload else { panic!() };
    let about = parse_quoted(&back, quoted).unwrap();
    let Payload::Udp(ports) = about.payload else { panic!() };
    assert_eq!(about.source(ports), at(INNER));
    assert_eq!(checksum::of(&back[quoted..quoted + 20]), 0);

    // And the other way: the machine inside cannot take what was sent to it.
    let answer = packet(17, at(REMOTE), SocketAddrV4::new(OUTER, 1024), &[0; 1400]);
    let inside = passed(nat.inbound(NOW, answer));
    let refused = passed(nat.outbound(NOW, notice::too_big(&inside, 1280).unwrap()));
    let Parsed::V4(v4) = parse(&refused) else { panic!() };
    assert_eq!((v4.source, v4.destination), (OUTER, *at(REMOTE).ip()));
    let Payload::About { quoted, .. } = v4.payload else { panic!() };
    let about = parse_quoted(&refused, quoted).unwrap();
    let Payload::Udp(ports) = about.payload else { panic!() };
    assert_eq!(about.destination(ports), SocketAddrV4::new(OUTER, 1024));
    // A notice about what was never sent is for nobody.
    let never = packet(17, SocketAddrV4::new(OUTER, 9), at(REMOTE), &[0; 1400]);
    assert_eq!(nat.inbound(NOW, notice::too_big(&never, 1280).unwrap()), Verdict::Drop);
}

#[test]
fn neighbours_find_the_outer_address_and_the_kernel_finds_it_elsewhere() {
    let mut nat = nat(NatProfile::HOME);
    let question = |sender: Ipv4Addr| {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7]);
        frame.extend(sender.octets());
        frame.extend([0; 6]);
        frame.extend(OUTER.octets());
        frame
    };
    let Verdict::Back(answer) = nat.inbound(NOW, question(*at(REMOTE).ip())) else { panic!() };
    assert_eq!(answer[22..28], HARDWARE);
    let Verdict::Back(answer) = nat.outbound(NOW, question(OUTER)) else { panic!() };
    assert_eq!(answer[22..28], OWN_HARDWARE);
}

fn profiles() -> impl Strategy<Value = NatProfile> {
    let mappings = vec![
        Mapping::EndpointIndependent,
        Mapping::AddressDependent,
        Mapping::AddressAndPortDependent,
    ];
    let filterings = vec![
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    let ports = vec![
        PortAllocation::Preserving,
        PortAllocation::PreservingOrRandom,
        PortAllocation::Sequential,
        PortAllocation::Random,
    ];
    (
        prop::sample::select(mappings),
        prop::sample::select(filterings),
        prop::sample::select(ports),
        any::<bool>(),
    )
        .prop_map(|(mapping, filtering, port, hairpin)| NatProfile {
            mapping,
            filtering,
            port,
            hairpin,
            ..NatProfile::HOME
        })
}

proptest! {
    /// Frames of anybody, in any order: nothing panics, and frames never grow.
    #[test]
    fn any_bytes_are_taken(
        profile in profiles(),
        frames in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..90), 0usize..90), 1..20),
    ) {
        let mut nat = nat(profile);
        for (is_out, noise, cut) in frames {
            // Noise over a good packet, cut anywhere, so that the inner layers are reached.
            let to = if is_out { at(REMOTE) } else { SocketAddrV4::new(OUTER, 1024) };
            let mut frame = packet(17, at(INNER), to, &[0; 48]);
            if noise.len() % 2 == 0 {
                frame[23] = 1;
                frame[34] = noise.first().map_or(3, |byte| byte % 13);
                let inner = packet(6, SocketAddrV4::new(OUTER, 1024), at(REMOTE), b"");
                frame.truncate(42);
                frame.extend(&inner[14..]);
            }
            for (byte, noise) in frame.iter_mut().skip(14).zip(&noise) {
                if noise % 5 == 0 {
                    *byte ^= noise;
                }
            }
            frame.truncate(90 - cut);
            let length = frame.len();
            let verdict = if is_out { nat.outbound(NOW, frame) } else { nat.inbound(NOW, frame) };
            if let Verdict::Pass(frame) = verdict {
                prop_assert_eq!(frame.len(), length);
            }
        }
    }

    /// Whatever the profile, what goes out is answered, and the answer finds its way.
    #[test]
    fn answers_always_find_their_way(
        profile in profiles(),
        protocol in prop::sample::select(vec![6u8, 17]),
        port in 1u16..,
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut nat = nat(profile);
        let inner = SocketAddrV4::new(*at(INNER).ip(), port);
        let out = passed(nat.outbound(NOW, packet(protocol, inner, at(REMOTE), &payload)));
        let (outer, remote) = ends(&out);
        prop_assert_eq!((*outer.ip(), remote), (OUTER, at(REMOTE)));
        let back = passed(nat.inbound(NOW, packet(protocol, remote, outer, &payload)));
        prop_assert_eq!(ends(&back), (remote, inner));
    }
}
