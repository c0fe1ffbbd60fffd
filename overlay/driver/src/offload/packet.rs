//! Fields of IPv4, IPv6, TCP and UDP headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const UDP_HEADER: usize = 8;
pub(crate) const TCP_HEADER: usize = 20;

pub(crate) const TCP_ACK: u8 = 0x10;
pub(crate) const TCP_CWR: u8 = 0x80;
pub(crate) const TCP_FIN: u8 = 0x01;
pub(crate) const TCP_PSH: u8 = 0x08;

/// Source and destination of an IP packet; none when it is too short or of another version.
pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let bytes = packet.get(12..20)?;
            let (source, destination) = bytes.split_first_chunk::<4>()?;
            let destination = destination.first_chunk::<4>()?;
            Some((Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into()))
        }
        6 => {
            let bytes = packet.get(8..40)?;
            let (source, destination) = bytes.split_first_chunk::<16>()?;
            let destination = destination.first_chunk::<16>()?;
            Some((Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into()))
        }
        _ => None,
    }
}

/// The unfolded sum of the pseudo header for a transport segment of `len` bytes.
pub(crate) fn pseudo_sum(packet: &[u8], protocol: u8, len: usize) -> u64 {
    let addresses = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
    checksum::sum(&packet[addresses]) + u64::from(protocol) + len as u64
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes the length that an IP header carries for a packet of `bytes.len()`, and IPv4's checksum.
pub(crate) fn put_ip_length(bytes: &mut [u8], len: usize) {
    // Every caller holds a packet of at most 65,535 bytes.
    let len16 = u16::try_from(len).unwrap_or(u16::MAX);
    if bytes[0] >> 4 == 4 {
        put16(bytes, 2, len16);
        put16(bytes, 10, 0);
        let header = usize::from(bytes[0] & 0x0f) * 4;
        let sum = checksum::finish(checksum::sum(&bytes[..header]));
        put16(bytes, 10, sum);
    } else {
        put16(bytes, 4, len16.saturating_sub(40));
    }
}
