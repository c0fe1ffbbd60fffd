//! Probes: pings and pongs *inside* a WireGuard session, to learn what a path carries.
//!
//! An inner packet between two addresses of the IPv6 discard prefix 100::/64 (RFC 6666), which no
//! job can use: header (40 bytes, next header 59 = none), magic `CHPR`, version 1, kind, flags
//! (`u16`, zero), transaction (8 bytes); then for a ping zeros up to the wanted size, for a pong the
//! endpoint from which the ping came (none when it came through the relay).
//!
//! A *hint* has the same head; then its purpose (0: the sender is at these endpoints; 1: tell that
//! node so; 2: that node is; 3 and 4: see `chance`), a node (32 bytes, zeros where none is meant) and eight endpoints. It serves
//! where the coordinator does not: hints are worth a ping, nothing more. Versions that do not know
//! them count them as refused.

use std::net::{Ipv6Addr, SocketAddr};

use super::address;
use crate::NodeId;
use crate::netmap::MAX_CANDIDATES;

/// The inner source of every probe.
pub const SOURCE: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// The inner destination of every probe.
pub const DESTINATION: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 2);

/// The inner MTU of a mesh: 1500 − 40 (IPv6) − 8 (UDP) − 8 (relay frame) − 32 (WireGuard), one size
/// that fits every path.
pub const MESH_MTU: usize = 1412;

/// The smallest ping.
pub const MIN_PING: usize = BODY;

const IPV6_HEADER: usize = 40;
const MAGIC: [u8; 4] = *b"CHPR";
const VERSION: u8 = 1;
const KIND_PING: u8 = 1;
const KIND_PONG: u8 = 2;
/// Where what depends on the kind begins: header, magic, version, kind, flags, transaction.
const BODY: usize = IPV6_HEADER + 16;
const KIND_HINT: u8 = 3;
const PONG_LEN: usize = BODY + address::LEN;
const HINT_LEN: usize = BODY + 1 + 32 + MAX_CANDIDATES * address::LEN;
const NO_NEXT_HEADER: u8 = 59;

/// A probe.
#[expect(clippy::large_enum_variant, reason = "short-lived, on the stack, and free of allocation")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Asks for a [`Probe::Pong`] on the same path.
    Ping {
        /// Chosen by the sender, hard to guess.
        transaction: [u8; 8],
        /// The size of the whole inner packet, [`MIN_PING`] to [`MESH_MTU`] bytes.
        size: usize,
    },
    /// The answer.
    Pong {
        /// Of the ping.
        transaction: [u8; 8],
        /// Where the ping came from; none when it came through a relay.
        observed: Option<SocketAddr>,
    },
    /// Where a node is, without the coordinator.
    Hint {
        /// Whose endpoints, and what for.
        purpose: Purpose,
        /// The endpoints.
        endpoints: [Option<SocketAddr>; MAX_CANDIDATES],
    },
}

/// What a [`Probe::Hint`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The sender is there.
    Here,
    /// Tell that node that the sender is there: the two do not hear each other.
    PassOn(NodeId),
    /// That node is there, as it says.
    About(NodeId),
    /// The sender would open many ports, for the receiver to look for one of them.
    OfferChance,
    /// The sender looks for them from now on.
    AcceptChance,
}

/// Why bytes are no probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeProbeError {
    /// Not an IPv6 packet between the two addresses of probes.
    #[error("not a probe packet")]
    NotProbe,
    /// The lengths do not agree, or are out of range.
    #[error("probe has an impossible length")]
    WrongLength,
    /// The magic, version or kind is none of this version.
    #[error("unknown probe format")]
    UnknownFormat,
}

/// Whether an inner packet is between the addresses of probes, in either direction, well-formed or
/// not. The data plane keeps such packets from and to the job.
pub fn uses_probe_address(packet: &[u8]) -> bool {
    let Some(addresses) = packet.get(8..IPV6_HEADER) else { return false };
    let reserved = [SOURCE.octets(), DESTINATION.octets()];
    packet[0] >> 4 == 6 && addresses.chunks(16).any(|address| reserved.iter().any(|r| r == address))
}

impl Probe {
    /// The probe as an inner packet. The size of a ping is brought into its range.
    pub fn encode(&self) -> Vec<u8> {
        let len = match self {
            Self::Ping { size, .. } => (*size).clamp(MIN_PING, MESH_MTU),
            Self::Pong { .. } => PONG_LEN,
            Self::Hint { .. } => HINT_LEN,
        };
        let mut bytes = vec![0u8; len];
        bytes[0] = 0x60;
        let payload_len = u16::try_from(len - IPV6_HEADER).unwrap_or(u16::MAX);
        bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
        bytes[6] = NO_NEXT_HEADER;
        bytes[7] = 64;
        bytes[8..24].copy_from_slice(&SOURCE.octets());
        bytes[24..40].copy_from_slice(&DESTINATION.octets());
        bytes[40..44].copy_from_slice(&MAGIC);
        bytes[44] = VERSION;
        match self {
            Self::Ping { transaction, .. } => {
                bytes[45] = KIND_PING;
                bytes[48..BODY].copy_from_slice(transaction);
            }
            Self::Pong { transaction, observed } => {
                bytes[45] = KIND_PONG;
                bytes[48..BODY].copy_from_slice(transaction);
                bytes[BODY..].copy_from_slice(&address::encode(*observed));
            }
            Self::Hint { purpose, endpoints } => {
                bytes[45] = KIND_HINT;
                let (number, node) = match purpose {
                    Purpose::Here => (0, NodeId([0; 32])),
                    Purpose::PassOn(node) => (1, *node),
                    Purpose::About(node) => (2, *node),
                    Purpose::OfferChance => (3, NodeId([0; 32])),
                    Purpose::AcceptChance => (4, NodeId([0; 32])),
                };
                bytes[BODY] = number;
                bytes[BODY + 1..BODY + 33].copy_from_slice(&node.0);
                let slots = bytes[BODY + 33..].chunks_exact_mut(address::LEN);
                for (slot, endpoint) in slots.zip(endpoints) {
                    slot.copy_from_slice(&address::encode(*endpoint));
                }
            }
        }
        bytes
    }

    /// Reads an inner packet.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeProbeError> {
        let header = packet.first_chunk::<IPV6_HEADER>().ok_or(DecodeProbeError::NotProbe)?;
        if header[0] >> 4 != 6
            || header[6] != NO_NEXT_HEADER
            || header[8..24] != SOURCE.octets()
            || header[24..40] != DESTINATION.octets()
        {
            return Err(DecodeProbeError::NotProbe);
        }
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if payload_len != packet.len() - IPV6_HEADER
            || packet.len() < BODY
            || packet.len() > MESH_MTU
        {
            return Err(DecodeProbeError::WrongLength);
        }
        if packet[40..44] != MAGIC || packet[44] != VERSION {
            return Err(DecodeProbeError::UnknownFormat);
        }
        let mut transaction = [0u8; 8];
        transaction.copy_from_slice(&packet[48..BODY]);
        match packet[45] {
            KIND_PING => Ok(Self::Ping { transaction, size: packet.len() }),
            KIND_PONG => {
                let observed = <&[u8; address::LEN]>::try_from(&packet[BODY..])
                    .map_err(|_| DecodeProbeError::WrongLength)?;
                let observed = address::decode(observed)
                    .map_err(|address::UnknownFamily| DecodeProbeError::UnknownFormat)?;
                Ok(Self::Pong { transaction, observed })
            }
            KIND_HINT => Self::decode_hint(&packet[BODY..]),
            _ => Err(DecodeProbeError::UnknownFormat),
        }
    }

    fn decode_hint(body: &[u8]) -> Result<Self, DecodeProbeError> {
        if body.len() != HINT_LEN - BODY {
            return Err(DecodeProbeError::WrongLength);
        }
        let mut node = [0u8; 32];
        node.copy_from_slice(&body[1..33]);
        let purpose = match body[0] {
            0 => Purpose::Here,
            1 => Purpose::PassOn(NodeId(node)),
            2 => Purpose::About(NodeId(node)),
            3 => Purpose::OfferChance,
            4 => Purpose::AcceptChance,
            _ => return Err(DecodeProbeError::UnknownFormat),
        };
        let mut endpoints = [None; MAX_CANDIDATES];
        let (slots, _) = body[33..].as_chunks::<{ address::LEN }>();
        for (endpoint, slot) in endpoints.iter_mut().zip(slots) {
            *endpoint = address::decode(slot)
                .map_err(|address::UnknownFamily| DecodeProbeError::UnknownFormat)?;
        }
        Ok(Self::Hint { purpose, endpoints })
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    const HEADER_OF_PONG: [u8; 40] = hex!(
        "60000000 0023 3b 40 01000000000000000000000000000001 01000000000000000000000000000002"
    );

    #[test]
    fn pong_has_these_bytes_and_reads_back() {
        let pong = Probe::Pong {
            transaction: hex!("0102030405060708"),
            observed: Some("192.0.2.7:9".parse().unwrap()),
        };
        let expected = [
            &HEADER_OF_PONG[..],
            &hex!("43485052 01 02 0000 0102030405060708 04 c0000207000000000000000000000000 0009"),
        ]
        .concat();
        assert_eq!(pong.encode(), expected);
        assert_eq!(Probe::decode(&expected), Ok(pong));
    }

    #[test]
    fn hints_read_back() {
        let mut endpoints = [None; MAX_CANDIDATES];
        endpoints[0] = Some("192.0.2.7:9000".parse().unwrap());
        endpoints[7] = Some("[2001:db8::1]:9000".parse().unwrap());
        for purpose in [
            Purpose::Here,
            Purpose::PassOn(NodeId([2; 32])),
            Purpose::About(NodeId([3; 32])),
            Purpose::OfferChance,
            Purpose::AcceptChance,
        ] {
            let hint = Probe::Hint { purpose, endpoints };
            let bytes = hint.encode();
            assert_eq!((bytes.len(), Probe::decode(&bytes)), (HINT_LEN, Ok(hint)));
        }
        let mut bad = Probe::Hint { purpose: Purpose::Here, endpoints }.encode();
        bad[BODY] = 5;
        assert_eq!(Probe::decode(&bad), Err(DecodeProbeError::UnknownFormat));
    }

    #[test]
    fn pings_read_back_at_every_size() {
        for size in MIN_PING..=MESH_MTU {
            let ping = Probe::Ping { transaction: [7; 8], size };
            let bytes = ping.encode();
            assert_eq!(bytes.len(), size);
            assert_eq!(Probe::decode(&bytes), Ok(ping));
            assert!(uses_probe_address(&bytes));
        }
    }

    #[test]
    fn truncated_probes_are_refused() {
        let probes = [
            Probe::Ping { transaction: [1; 8], size: 200 },
            Probe::Pong { transaction: [1; 8], observed: None },
            Probe::Hint { purpose: Purpose::Here, endpoints: [None; MAX_CANDIDATES] },
        ];
        for probe in probes {
            let bytes = probe.encode();
            for len in 0..bytes.len() {
                assert!(Probe::decode(&bytes[..len]).is_err(), "{probe:?} of {len} bytes");
            }
            assert!(Probe::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn other_packets_are_refused() {
        let good = Probe::Pong { transaction: [1; 8], observed: None }.encode();
        for (index, value) in
            [(0, 0x45), (6, 17), (23, 9), (39, 9), (40, 0), (44, 2), (45, 4), (BODY, 7)]
        {
            let mut bad = good.clone();
            bad[index] = value;
            assert!(Probe::decode(&bad).is_err(), "byte {index} = {value}");
        }
        assert!(!uses_probe_address(&[0x45; 60]));
        assert!(!uses_probe_address(&[]));
    }
}
