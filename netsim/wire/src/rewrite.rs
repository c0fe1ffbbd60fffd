//! Putting another endpoint into a packet, with its checksums mended.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::checksum::{endpoint, mended};
use crate::frame::{Payload, Ports, V4, word};

/// Which of a packet's two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Replaces an endpoint of the packet that was found in `frame`. Packets without ports get the
/// address alone; a ping's identifier is its port at either end.
pub(crate) fn replace(frame: &mut [u8], packet: &V4, end: End, new: SocketAddrV4) {
    let old_address = match end {
        End::Source => packet.source,
        End::Destination => packet.destination,
    };
    replace_address(frame, packet.at, end, old_address, *new.ip());
    match packet.payload {
        Payload::Udp(ports) | Payload::Tcp(ports) => {
            let (at, old) = match end {
                End::Source => (ports.at, ports.source),
                End::Destination => (ports.at + 2, ports.destination),
            };
            put(frame, at, new.port());
            let before = endpoint(old_address, old);
            let after = endpoint(*new.ip(), new.port());
            mend(frame, ports, packet.payload, &before, &after);
        }
        Payload::Echo { at, id, .. } => {
            put(frame, at + 4, new.port());
            // ICMP's checksum covers no addresses.
            let sum = word(frame, at + 2).unwrap_or(0);
            put(frame, at + 2, mended(sum, &id.to_be_bytes(), &new.port().to_be_bytes()));
        }
        Payload::About { .. } | Payload::Fragment | Payload::Other => {}
    }
}

fn replace_address(frame: &mut [u8], at: usize, end: End, old: Ipv4Addr, new: Ipv4Addr) {
    let field = match end {
        End::Source => at + 12,
        End::Destination => at + 16,
    };
    if let Some(bytes) = frame.get_mut(field..field + 4) {
        bytes.copy_from_slice(&new.octets());
    }
    let sum = word(frame, at + 10).unwrap_or(0);
    put(frame, at + 10, mended(sum, &old.octets(), &new.octets()));
}

fn mend(frame: &mut [u8], ports: Ports, payload: Payload, before: &[u8], after: &[u8]) {
    let Some(at) = ports.checksum else { return };
    let sum = mended(word(frame, at).unwrap_or(0), before, after);
    // Zero would mean that there is none (RFC 768).
    let is_datagram = matches!(payload, Payload::Udp(_));
    put(frame, at, if sum == 0 && is_datagram { 0xffff } else { sum });
}

/// Computes the checksum of the ICMP message anew that begins at `at` and ends with the packet.
pub(crate) fn sum_message(frame: &mut [u8], packet: &V4, at: usize) {
    let length = usize::from(word(frame, packet.at + 2).unwrap_or(0));
    let end = (packet.at + length).min(frame.len());
    put(frame, at + 2, 0);
    let sum = frame.get(at..end).map_or(0, crate::checksum::of);
    put(frame, at + 2, sum);
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(bytes) = frame.get_mut(at..at + 2) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
}
