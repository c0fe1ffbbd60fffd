//! What is in an Ethernet frame, as far as links and NATs care. Total: bytes come from anybody.
//!
//! Nothing is copied: what is found are offsets, which are good for this frame only. All that lie in
//! a [`Parsed`] are within the frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IPv4 packet.
    V4(V4),
    /// An IPv6 packet.
    V6(V6),
    /// A question or an answer of the address resolution protocol, for IPv4 over Ethernet.
    Arp(Arp),
    /// Something else, or something broken.
    Other,
}

/// An IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V4 {
    /// Who sends it.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// Where its header begins.
    pub at: usize,
    /// What it carries.
    pub payload: Payload,
}

/// What an IPv4 packet carries. Offsets are those of the payload's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A datagram.
    Udp(Ports),
    /// A segment.
    Tcp(Ports),
    /// A question or an answer of `ping`.
    Echo {
        /// Where it begins.
        at: usize,
        /// Whether it is a question.
        is_request: bool,
        /// The identifier, which stands in for a port.
        id: u16,
    },
    /// An ICMP message about another packet, which it quotes.
    About {
        /// Where the message begins.
        at: usize,
        /// Where the quoted IPv4 header begins.
        quoted: usize,
    },
    /// A fragment but the first.
    Fragment,
    /// Something else.
    Other,
}

/// The ports of a datagram or a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where its header begins.
    pub at: usize,
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
    /// Where the checksum is, if there is one.
    pub checksum: Option<usize>,
}

/// An IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6 {
    /// Who sends it.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// Whether it belongs to neighbour discovery (RFC 4861): never leaves its network.
    pub is_discovery: bool,
}

/// A question or an answer of the address resolution protocol (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it is a question.
    pub is_request: bool,
    /// Who sends it.
    pub sender: ([u8; 6], Ipv4Addr),
    /// Which address it is about.
    pub target: Ipv4Addr,
}

impl V4 {
    /// The sender's endpoint, for one with ports.
    pub fn source(&self, ports: Ports) -> SocketAddrV4 {
        SocketAddrV4::new(self.source, ports.source)
    }

    /// The receiver's endpoint, for one with ports.
    pub fn destination(&self, ports: Ports) -> SocketAddrV4 {
        SocketAddrV4::new(self.destination, ports.destination)
    }
}

impl Parsed {
    /// Sender and receiver of an IP packet.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            Self::V4(packet) => Some((packet.source.into(), packet.destination.into())),
            Self::V6(packet) => Some((packet.source.into(), packet.destination.into())),
            Self::Arp(_) | Self::Other => None,
        }
    }

    /// Whether it is a packet that links delay and lose, and not a talk between neighbours, which
    /// emulated links have no model for.
    pub fn is_modelled(&self) -> bool {
        match self {
            Self::V4(_) => true,
            Self::V6(packet) => !packet.is_discovery,
            Self::Arp(_) | Self::Other => false,
        }
    }
}

/// Reads a frame.
pub fn parse(frame: &[u8]) -> Parsed {
    let Some(kind) = word(frame, 12) else { return Parsed::Other };
    match kind {
        TYPE_IPV4 => ipv4(frame, ETHERNET).map_or(Parsed::Other, Parsed::V4),
        TYPE_IPV6 => ipv6(frame).map_or(Parsed::Other, Parsed::V6),
        TYPE_ARP => arp(frame).map_or(Parsed::Other, Parsed::Arp),
        _ => Parsed::Other,
    }
}

/// Reads the packet that an ICMP message quotes: its header and 8 bytes at least (RFC 792). Its
/// transport checksum may be cut off, and is then none.
pub fn parse_quoted(frame: &[u8], at: usize) -> Option<V4> {
    ipv4(frame, at)
}

fn ipv4(frame: &[u8], at: usize) -> Option<V4> {
    let header = frame.get(at..at + 20)?;
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < 20 || frame.len() < at + length {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let begins = at + length;
    let payload = match header[9] {
        _ if fragment != 0 => Payload::Fragment,
        UDP => ports(frame, begins).map_or(Payload::Other, |ports| {
            // Zero means that there is none (RFC 768).
            let checksum = (begins + 6, word(frame, begins + 6));
            let checksum = (!matches!(checksum.1, Some(0) | None)).then_some(checksum.0);
            Payload::Udp(Ports { checksum, ..ports })
        }),
        TCP => ports(frame, begins).map_or(Payload::Other, |ports| {
            let checksum = word(frame, begins + 16).map(|_| begins + 16);
            Payload::Tcp(Ports { checksum, ..ports })
        }),
        ICMP => icmp(frame, begins),
        _ => Payload::Other,
    };
    let address = |from: usize| {
        Ipv4Addr::from([header[from], header[from + 1], header[from + 2], header[from + 3]])
    };
    Some(V4 { source: address(12), destination: address(16), at, payload })
}

fn ports(frame: &[u8], at: usize) -> Option<Ports> {
    // Eight bytes are all of UDP's header, and what ICMP quotes of TCP's.
    frame.get(at..at + 8)?;
    Some(Ports { at, source: word(frame, at)?, destination: word(frame, at + 2)?, checksum: None })
}

fn icmp(frame: &[u8], at: usize) -> Payload {
    let (Some(kind), Some(id)) = (frame.get(at), word(frame, at + 4)) else {
        return Payload::Other;
    };
    if frame.len() < at + 8 {
        return Payload::Other;
    }
    match kind {
        0 | 8 => Payload::Echo { at, is_request: *kind == 8, id },
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        3 | 4 | 5 | 11 | 12 if frame.len() >= at + 28 => Payload::About { at, quoted: at + 8 },
        _ => Payload::Other,
    }
}

fn ipv6(frame: &[u8]) -> Option<V6> {
    let header = frame.get(ETHERNET..ETHERNET + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |from: usize| {
        let octets: Option<[u8; 16]> = header[from..from + 16].try_into().ok();
        octets.map(Ipv6Addr::from)
    };
    // Router and neighbour solicitation and advertisement, redirect.
    let kind = frame.get(ETHERNET + 40);
    let is_discovery = header[6] == ICMPV6 && kind.is_some_and(|kind| (133..=137).contains(kind));
    Some(V6 { source: address(8)?, destination: address(24)?, is_discovery })
}

fn arp(frame: &[u8]) -> Option<Arp> {
    let arp = frame.get(ETHERNET..ETHERNET + 28)?;
    // Ethernet, IPv4, and the lengths of their addresses.
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let is_request = match arp[6..8] {
        [0, 1] => true,
        [0, 2] => false,
        _ => return None,
    };
    let address =
        |from: usize| Ipv4Addr::from([arp[from], arp[from + 1], arp[from + 2], arp[from + 3]]);
    let hardware = arp[8..14].try_into().ok()?;
    Some(Arp { is_request, sender: (hardware, address(14)), target: address(24) })
}

pub(crate) fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

/// An answer to an ARP question: `hardware` has the address that was asked for.
pub fn arp_answer(question: &Arp, hardware: [u8; 6]) -> Vec<u8> {
    let (asker, asker_address) = question.sender;
    let mut frame = Vec::with_capacity(ETHERNET + 28);
    frame.extend(asker);
    frame.extend(hardware);
    frame.extend(TYPE_ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(hardware);
    frame.extend(question.target.octets());
    frame.extend(asker);
    frame.extend(asker_address.octets());
    frame
}

#[cfg(test)]
mod tests;
