//! Packets for the tests.

use std::net::IpAddr;

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr,
    checksum,
};

use super::packet::{TCP, UDP, pseudo_sum, put_ip_length, put16, put32};
use super::{HEADER_BYTES, SEGMENT_BYTES, split};

/// A TCP or UDP packet with a correct checksum.
pub(crate) fn packet(
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    sequence: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let (ip, transport) = (ip_header(source), if protocol == TCP { 20 } else { 8 });
    let mut packet = vec![0u8; ip + transport];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[0] = 0x45;
            packet[6] = 0x40;
            packet[8..10].copy_from_slice(&[64, protocol]);
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[0] = 0x60;
            packet[6..8].copy_from_slice(&[protocol, 64]);
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
        }
        _ => unreachable!("both addresses are of one family"),
    }
    put16(&mut packet, ip, 4000);
    put16(&mut packet, ip + 2, 5000);
    packet.extend_from_slice(payload);
    let len = packet.len();
    put_ip_length(&mut packet, len);
    let checksum_at = if protocol == TCP {
        put32(&mut packet, ip + 4, sequence);
        packet[ip + 12] = 0x50;
        packet[ip + 13] = flags;
        put16(&mut packet, ip + 14, 1000);
        ip + 16
    } else {
        put16(&mut packet, ip + 4, (len - ip) as u16);
        ip + 6
    };
    let sum = !checksum(&packet[ip..], pseudo_sum(&packet, protocol, len - ip));
    put16(&mut packet, checksum_at, sum);
    packet
}

/// The frame of a superpacket of `size` payload bytes per segment, as the kernel gives it.
pub(crate) fn superpacket(mut packet: Vec<u8>, protocol: u8, size: u16) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    let ip = if is_v4 { 20 } else { 40 };
    let (csum_offset, transport) = if protocol == TCP { (16, 20) } else { (6, 8) };
    let gso_type = match (protocol, is_v4) {
        (UDP, _) => VIRTIO_NET_HDR_GSO_UDP_L4,
        (_, true) => VIRTIO_NET_HDR_GSO_TCPV4,
        (_, false) => VIRTIO_NET_HDR_GSO_TCPV6,
    };
    let sum = checksum(&[], pseudo_sum(&packet, protocol, packet.len() - ip));
    put16(&mut packet, ip + csum_offset, sum);
    let header = VirtioNetHdr {
        flags: 1,
        gso_type,
        hdr_len: (ip + transport) as u16,
        gso_size: size,
        csum_start: ip as u16,
        csum_offset: csum_offset as u16,
    };
    let mut frame = vec![0u8; HEADER_BYTES];
    header.encode(&mut frame).unwrap();
    frame.extend_from_slice(&packet);
    frame
}

/// Makes IPv4's checksum right again.
pub(crate) fn mend(packet: &mut [u8]) {
    let len = packet.len();
    put_ip_length(packet, len);
}

/// A packet behind an empty virtio header.
pub(crate) fn plain_frame(packet: &[u8]) -> Vec<u8> {
    [&[0u8; HEADER_BYTES], packet].concat()
}

/// The packets that a frame stands for.
pub(crate) fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
    let header = VirtioNetHdr::decode(frame).unwrap();
    let mut packet = frame[HEADER_BYTES..].to_vec();
    let mut segments = Vec::new();
    let mut scratch = [0u8; SEGMENT_BYTES];
    split(&header, &mut packet, &mut scratch, |segment| segments.push(segment.to_vec())).unwrap();
    segments
}

/// The payload of a TCP or UDP packet whose checksums are correct.
pub(crate) fn payload(packet: &[u8]) -> &[u8] {
    let ip = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let protocol = if ip == 20 { packet[9] } else { packet[6] };
    if ip == 20 {
        assert_eq!(checksum(&packet[..20], 0), u16::MAX, "IPv4 header checksum");
    }
    let sum = pseudo_sum(packet, protocol, packet.len() - ip);
    assert_eq!(checksum(&packet[ip..], sum), u16::MAX, "transport checksum");
    &packet[ip + if protocol == TCP { 20 } else { 8 }..]
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 256) as u8).collect()
}

fn ip_header(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}
