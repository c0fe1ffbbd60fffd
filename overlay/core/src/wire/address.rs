//! A socket address in 19 bytes: family (4, 6 or 0 for none), address (IPv4 in the first 4), port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The length of the form.
pub(crate) const LEN: usize = 19;

/// A family that is none of 4 and 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownFamily;

pub(crate) fn encode(address: Option<SocketAddr>) -> [u8; LEN] {
    let mut bytes = [0u8; LEN];
    let Some(address) = address else { return bytes };
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[0] = 6;
            bytes[1..17].copy_from_slice(&ip.octets());
        }
    }
    bytes[17..19].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8; LEN]) -> Result<Option<SocketAddr>, UnknownFamily> {
    let mut octets = [0u8; 16];
    octets.copy_from_slice(&bytes[1..17]);
    let port = u16::from_be_bytes([bytes[17], bytes[18]]);
    let ip = match bytes[0] {
        0 => return Ok(None),
        4 => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        6 => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return Err(UnknownFamily),
    };
    Ok(Some(SocketAddr::new(ip, port)))
}
