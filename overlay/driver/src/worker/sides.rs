//! Side sockets: ports beside the one socket, for peers that are met by chance only (the volunteer must allow it,
//! see `overlay_core`'s `Input::BirthdayProbing`).
//!
//! Each belongs to one endpoint. What a session opens of what comes from there makes its socket the one that
//! everything for that endpoint leaves from. No offload here: such pairs are few.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

/// Sockets for one endpoint at most, whatever is asked for.
const MOST: u16 = 256;

/// Endpoints at most. Chosen: a volunteer's router has few thousands of entries.
const MOST_ENDPOINTS: usize = 8;

/// The most datagrams of one socket that are taken at a time.
pub(super) const BATCH: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Sides {
    sets: BTreeMap<SocketAddr, Set>,
}

#[derive(Default)]
struct Set {
    sockets: BTreeMap<u16, UdpSocket>,
    used: Option<u16>,
}

impl Sides {
    /// Whether there are none: as a rule.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Sends from that socket for that endpoint, which is opened if it is not there.
    pub(super) fn open(&mut self, to: SocketAddr, number: u16) -> io::Result<()> {
        let too_many = self.sets.len() >= MOST_ENDPOINTS && !self.sets.contains_key(&to);
        if number >= MOST || too_many || !to.is_ipv4() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let set = self.sets.entry(to).or_default();
        if let Entry::Vacant(place) = set.sockets.entry(number) {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_nonblocking(true)?;
            place.insert(socket);
        }
        set.used = Some(number);
        Ok(())
    }

    /// Closes those for that endpoint, the one in use only with `all`.
    pub(super) fn close(&mut self, to: SocketAddr, all: bool) {
        let Some(set) = self.sets.get_mut(&to) else { return };
        let used = set.used.filter(|_| !all);
        set.sockets.retain(|number, _| Some(*number) == used);
        if set.sockets.is_empty() {
            self.sets.remove(&to);
        }
    }

    /// The socket that packets for that endpoint leave from, if it is not the usual one.
    pub(super) fn way(&self, to: SocketAddr) -> Option<&UdpSocket> {
        let set = self.sets.get(&to)?;
        set.sockets.get(&set.used?)
    }

    /// The number of the one in use.
    pub(super) fn used(&self, to: SocketAddr) -> Option<u16> {
        self.sets.get(&to)?.used
    }

    /// Packets for that endpoint leave from that one from now on; none: from the usual socket.
    pub(super) fn make_use(&mut self, to: SocketAddr, number: Option<u16>) {
        if let Some(set) = self.sets.get_mut(&to) {
            set.used = number.filter(|number| set.sockets.contains_key(number));
        }
    }

    /// All of them, to be polled.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sets.values().flat_map(|set| set.sockets.values().map(|socket| socket.as_fd()))
    }

    /// All of them by endpoint and number, to be read.
    pub(super) fn names(&self) -> Vec<(SocketAddr, u16)> {
        let of = |(to, set): (&SocketAddr, &Set)| -> Vec<_> {
            set.sockets.keys().map(|number| (*to, *number)).collect()
        };
        self.sets.iter().flat_map(of).collect()
    }

    /// The next datagram of that one that its endpoint has sent; strangers' are passed over.
    pub(super) fn receive(
        &self,
        (to, number): (SocketAddr, u16),
        buffer: &mut [u8],
    ) -> Option<usize> {
        let socket = self.sets.get(&to)?.sockets.get(&number)?;
        for _ in 0..BATCH {
            let (len, from) = socket.recv_from(buffer).ok()?;
            if from == to {
                return Some(len);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_that_was_answered_stays_and_strangers_are_not_heard() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        let mut sides = Sides::default();
        let mut seen = Vec::new();
        for number in 0..4 {
            sides.open(to, number).unwrap();
            sides.way(to).unwrap().send_to(&[7], to).unwrap();
            let mut buffer = [0; 8];
            seen.push(peer.recv_from(&mut buffer).unwrap().1);
        }
        assert_eq!(sides.descriptors().count(), 4);
        assert!(
            sides.open(to, MOST).is_err() && sides.open("[::1]:9".parse().unwrap(), 0).is_err()
        );
        let at = SocketAddr::from(([127, 0, 0, 1], seen[2].port()));
        stranger.send_to(&[9; 9], at).unwrap();
        peer.send_to(&[8; 8], at).unwrap();
        let mut buffer = [0; 64];
        let taken = loop {
            let found = sides
                .names()
                .into_iter()
                .find_map(|name| sides.receive(name, &mut buffer).map(|len| (name.1, len)));
            if let Some(found) = found {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(taken, (2, 8));
        sides.make_use(to, Some(2));
        sides.close(to, false);
        assert_eq!(sides.names(), [(to, 2)]);
        assert_eq!(sides.way(to).unwrap().local_addr().unwrap().port(), at.port());
        sides.close(to, true);
        assert!(sides.is_empty() && sides.way(to).is_none());
    }
}
