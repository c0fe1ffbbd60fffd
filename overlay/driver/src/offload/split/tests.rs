use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::HEADER_BYTES;
use super::super::samples::{cut, packet, pattern, payload, plain_frame, superpacket};
use super::*;
use crate::offload::packet::TCP_ACK;

const FAMILIES: [(&str, &str); 2] = [("10.128.0.1", "10.128.0.2"), ("fd00::1", "fd00::2")];

fn addresses((source, destination): (&str, &str)) -> (IpAddr, IpAddr) {
    (source.parse().unwrap(), destination.parse().unwrap())
}

#[test]
fn a_superpacket_is_cut_without_losing_a_byte() {
    let bytes = pattern(10_000);
    for family in FAMILIES {
        for protocol in [TCP, UDP] {
            let whole =
                packet(addresses(family), protocol, u32::MAX - 5000, TCP_ACK | TCP_PSH, &bytes);
            let segments = cut(&superpacket(whole, protocol, 1372));
            assert_eq!(segments.len(), 8);
            let together: Vec<u8> = segments.iter().flat_map(|s| payload(s).to_vec()).collect();
            assert_eq!(together, bytes);
        }
    }
}

#[test]
fn sequence_numbers_count_on_and_only_the_last_segment_is_pushed() {
    let whole = packet(addresses(FAMILIES[0]), TCP, 7, TCP_ACK | TCP_PSH | TCP_FIN, &pattern(250));
    let segments = cut(&superpacket(whole, TCP, 100));
    let sequences: Vec<u32> = segments.iter().map(|segment| be32(segment, 24)).collect();
    assert_eq!(sequences, [7, 107, 207]);
    let flags: Vec<u8> = segments.iter().map(|segment| segment[33]).collect();
    assert_eq!(flags, [TCP_ACK, TCP_ACK, TCP_ACK | TCP_PSH | TCP_FIN]);
}

#[test]
fn a_plain_packet_passes_and_gets_its_checksum() {
    let whole = packet(addresses(FAMILIES[0]), UDP, 0, 0, b"hello");
    assert_eq!(cut(&plain_frame(&whole)), std::slice::from_ref(&whole));

    // As the kernel gives it when the checksum is left to the device.
    let mut frame = superpacket(whole, UDP, 0);
    frame[1] = 0;
    assert_eq!(payload(&cut(&frame)[0]), b"hello");
}

#[test]
fn headers_that_point_outside_are_refused() {
    let whole = packet(addresses(FAMILIES[0]), TCP, 7, TCP_ACK, &pattern(250));
    let frame = superpacket(whole, TCP, 100);
    let good = VirtioNetHdr::decode(&frame).unwrap();
    let mut scratch = [0u8; SEGMENT_BYTES];
    let mut refuse = |header: VirtioNetHdr, packet: &[u8]| {
        split(&header, &mut packet.to_vec(), &mut scratch, |_| {}).is_err()
    };
    let packet = &frame[HEADER_BYTES..];
    assert!(refuse(VirtioNetHdr { gso_size: 0, ..good }, packet));
    assert!(refuse(VirtioNetHdr { gso_type: 3, ..good }, packet));
    assert!(refuse(VirtioNetHdr { csum_start: 0, ..good }, packet));
    assert!(refuse(VirtioNetHdr { csum_start: 4000, ..good }, packet));
    assert!(refuse(VirtioNetHdr { csum_offset: 5, ..good }, packet));
    assert!(refuse(VirtioNetHdr { gso_size: 4000, ..good }, &[packet, &[0; 4000]].concat()));
    for len in 0..40 {
        assert!(refuse(good, &packet[..len]), "{len} bytes");
    }
}

#[test]
fn whatever_the_device_gives_nothing_panics_and_what_is_cut_is_whole() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut cut_well = 0;
    for _ in 0..20_000 {
        let family = FAMILIES[rng.random_range(0..2)];
        let protocol = if rng.random() { TCP } else { UDP };
        let bytes = pattern(rng.random_range(0..6000));
        let whole = packet(addresses(family), protocol, rng.random(), rng.random(), &bytes);
        let mut frame = superpacket(whole, protocol, rng.random_range(1..1500));
        let damage = rng.random_range(0..4);
        for _ in 0..damage {
            let at = rng.random_range(0..frame.len().min(HEADER_BYTES + 60));
            frame[at] = rng.random();
        }
        let header = VirtioNetHdr::decode(&frame).unwrap();
        let mut joined = Vec::new();
        let result = split(&header, &mut frame[HEADER_BYTES..], &mut [0; SEGMENT_BYTES], |part| {
            assert!(part.len() <= SEGMENT_BYTES);
            if damage == 0 {
                joined.extend_from_slice(payload(part));
            }
        });
        if damage == 0 {
            assert_eq!((result, &joined), (Ok(()), &bytes));
            cut_well += 1;
        }
    }
    assert!(cut_well > 1000, "{cut_well}");
}
