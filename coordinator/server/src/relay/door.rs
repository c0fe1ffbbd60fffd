//! Who is let in where the relay is reached otherwise than by its UDP port: the tunnels and QUIC's datagrams share
//! one door.
//!
//! Before its handshake a connection is a stranger, and gets one of few places for a short time; those that are
//! inside are not in its way, nor it in theirs.

use std::net::IpAddr;
use std::time::Duration;

use crate::places::{Place, Places, free_descriptors};

/// Strangers at a time, and from one address or IPv6 /64. Chosen: whoever wants to keep all others out needs
/// sixteen addresses and 100 connections a second for as long; a campus that comes back at once tries again.
const STRANGERS: usize = 512;
const STRANGERS_OF_ADDRESS: usize = 32;

/// How long a handshake may take. Chosen: three round trips of a slow line, and a lost packet.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Connections at a time. Chosen: what a relay carries at 100 kB/s each.
const IN_ALL: usize = 8192;

/// Those of one address or IPv6 /64. Chosen: a campus behind one address.
const OF_ADDRESS: usize = 128;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door {
    strangers: Places,
    inside: Places,
}

impl Door {
    /// For as many as the system has descriptors for: two for each.
    pub(super) fn by_descriptors() -> Self {
        let all = (free_descriptors() / 2).min(IN_ALL + STRANGERS);
        let strangers = STRANGERS.min(all / 2);
        Self {
            strangers: Places::new(strangers, STRANGERS_OF_ADDRESS),
            inside: Places::new(all - strangers, OF_ADDRESS),
        }
    }

    /// A place before the handshake, if there is one.
    pub(super) fn knock(&self, remote: IpAddr) -> Option<Place> {
        self.strangers.take(remote)
    }

    /// A place after it.
    pub(super) fn enter(&self, remote: IpAddr) -> Option<Place> {
        self.inside.take(remote)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn strangers_of_few_addresses_keep_nobody_out() {
        let door = Door::by_descriptors();
        let address = |last: u8| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
        let mut held = Vec::new();
        for last in 1..4 {
            held.extend((0..1000).filter_map(|_| door.knock(address(last))));
        }
        assert_eq!(held.len(), 3 * STRANGERS_OF_ADDRESS);
        assert!(door.knock(address(9)).is_some() && door.enter(address(9)).is_some());
        assert!(door.enter(address(1)).is_some(), "who has shaken hands is no stranger");
    }
}
