use std::net::IpAddr;

use super::super::samples::{cut, packet, pattern, payload, plain_frame, superpacket};
use super::*;

fn addresses() -> [(IpAddr, IpAddr); 2] {
    [("10.128.0.1", "10.128.0.2"), ("fd00::1", "fd00::2")]
        .map(|(source, destination)| (source.parse().unwrap(), destination.parse().unwrap()))
}

fn merge(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut merger = Merger::new(0);
    let mut frames = Vec::new();
    for packet in packets {
        merger.push((1, Joins::All), &plain_frame(packet), |_, frame| frames.push(frame.to_vec()));
    }
    merger.flush(|_, frame| frames.push(frame.to_vec()));
    frames
}

#[test]
fn what_was_cut_is_joined_again() {
    let bytes = pattern(40_000);
    for addresses in addresses() {
        for protocol in [TCP, UDP] {
            let whole = packet(addresses, protocol, u32::MAX - 9, TCP_ACK | TCP_PSH, &bytes);
            let segments = cut(&superpacket(whole, protocol, 1372));
            let frames = merge(&segments);
            assert_eq!(frames.len(), 1);
            // The receiving kernel cuts it like the sending one did.
            assert_eq!(VirtioNetHdr::decode(&frames[0]).unwrap().gso_size, 1372);
            let again = cut(&frames[0]);
            assert_eq!(again.len(), segments.len());
            let together: Vec<u8> = again.iter().flat_map(|s| payload(s).to_vec()).collect();
            assert_eq!(together, bytes);
        }
    }
}

#[test]
fn a_superpacket_never_outgrows_its_length_field() {
    let [v4, _] = addresses();
    let segments: Vec<_> =
        (0..100u32).map(|index| packet(v4, TCP, index * 1372, TCP_ACK, &pattern(1372))).collect();
    let frames = merge(&segments);
    assert!(frames.len() > 1);
    let bytes: usize = frames.iter().flat_map(|f| cut(f)).map(|s| payload(&s).len()).sum();
    assert_eq!(bytes, 100 * 1372);
}

#[test]
fn a_gap_and_other_flags_end_a_superpacket_in_order() {
    let [v4, _] = addresses();
    let data = |sequence, flags| packet(v4, TCP, sequence, flags, &[7; 100]);
    let fin = TCP_ACK | 1;
    let packets =
        [data(0, TCP_ACK), data(100, TCP_ACK), data(300, TCP_ACK), data(400, fin), data(500, fin)];
    let frames = merge(&packets);
    let sequences: Vec<Vec<u32>> =
        frames.iter().map(|frame| cut(frame).iter().map(|s| be32(s, 24)).collect()).collect();
    assert_eq!(sequences, [vec![0, 100], vec![300], vec![400], vec![500]]);
}

#[test]
fn a_damaged_packet_stays_alone_and_unchanged() {
    let [v4, _] = addresses();
    let mut packets =
        [0, 100, 200].map(|sequence| packet(v4, TCP, sequence, TCP_ACK, &[7; 100])).to_vec();
    packets[1][60] ^= 1;
    let frames = merge(&packets);
    assert_eq!(frames, packets.iter().map(|p| plain_frame(p)).collect::<Vec<_>>());
}

#[test]
fn flows_and_devices_are_kept_apart() {
    let [v4, v6] = addresses();
    let mut merger = Merger::new(0);
    let mut frames = Vec::new();
    for sequence in [0, 100] {
        for (device, addresses) in [(1, v4), (2, v4), (1, v6)] {
            let frame = plain_frame(&packet(addresses, TCP, sequence, TCP_ACK, &[device; 100]));
            merger.push((device, Joins::All), &frame, |_, _| panic!("nothing is complete yet"));
        }
    }
    merger.flush(|device, frame| frames.push((device, cut(frame).len(), frame[HEADER_BYTES] >> 4)));
    frames.sort();
    assert_eq!(frames, [(1, 2, 4), (1, 2, 6), (2, 2, 4)]);
}

#[test]
fn more_flows_than_slots_lose_nothing() {
    let packets: Vec<_> = (1..=50u8)
        .map(|host| packet(([10, 128, 0, host].into(), [10, 128, 1, 1].into()), UDP, 0, 0, &[host]))
        .collect();
    let mut seen: Vec<_> = merge(&packets).iter().map(|frame| payload(&cut(frame)[0])[0]).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=50).collect::<Vec<u8>>());
}

#[test]
fn shortest_packets_pass() {
    for packet in [vec![0x45; 20], vec![0x60; 40], vec![0x45], [0x45; 28].to_vec()] {
        assert_eq!(merge(std::slice::from_ref(&packet)), [plain_frame(&packet)]);
    }
}

#[test]
fn a_device_is_given_what_it_takes() {
    let [v4, _] = addresses();
    let tcp = [0, 100].map(|sequence| packet(v4, TCP, sequence, TCP_ACK, &[7; 100]));
    let udp = packet(v4, UDP, 0, 0, &[7; 100]);
    for (joins, frames) in [(Joins::All, 2), (Joins::Tcp, 3), (Joins::Nothing, 4)] {
        let (mut merger, mut written) = (Merger::new(0), 0);
        for packet in tcp.iter().chain([&udp, &udp]) {
            merger.push((1, joins), &plain_frame(packet), |_, _| written += 1);
        }
        merger.flush(|_, _| written += 1);
        assert_eq!(written, frames, "{joins:?}");
    }
}
