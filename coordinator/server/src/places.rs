//! How many connections there may be: in all, and from one address.
//!
//! Each costs memory and some a descriptor; whoever could use them all up would keep agents away until
//! their jobs are given up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are kept for everything but connections: database, archives, sockets.
const RESERVED: u64 = 128;

/// Hands out places to connections, and takes them back when they end.
#[derive(Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    in_all: usize,
    of_address: usize,
}

#[derive(Default)]
struct Taken {
    in_all: usize,
    of_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// At most `in_all`, of which one address, or one IPv6 /64, gets `of_address`.
    pub(crate) fn new(in_all: usize, of_address: usize) -> Self {
        Self { taken: Arc::default(), in_all, of_address }
    }

    /// A place for a connection from that address, if there is one.
    pub(crate) fn take(&self, remote: IpAddr) -> Option<Place> {
        let address = network(remote);
        let mut taken = lock(&self.taken);
        let of_address = taken.of_address.get(&address).copied().unwrap_or(0);
        if taken.in_all >= self.in_all || of_address >= self.of_address {
            return None;
        }
        taken.in_all += 1;
        taken.of_address.insert(address, of_address + 1);
        Some(Place { taken: self.taken.clone(), address })
    }
}

/// One connection's place.
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.in_all = taken.in_all.saturating_sub(1);
        if let Some(count) = taken.of_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.of_address.remove(&self.address);
            }
        }
    }
}

/// How many descriptors there are for connections, after the limit was raised to what the system allows. Shells and
/// service managers start programs with 1024, which is one for each of a thousand volunteers.
pub(crate) fn free_descriptors() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((RESERVED, RESERVED));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(errno) => {
            tracing::warn!(%errno, soft, "cannot raise the limit of open files");
            soft
        }
    };
    usize::try_from(limit.saturating_sub(RESERVED).max(RESERVED)).unwrap_or(usize::MAX)
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one owner is taken to have: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held = vec![places.take(a).unwrap(), places.take(a).unwrap()];
        assert!(places.take(a).is_none());
        held.push(places.take(b).unwrap());
        assert!(places.take(b).is_none(), "no place is left");
        held.pop();
        assert!(places.take(a).is_none());
        held.clear();
        assert!(places.take(a).is_some());
        assert!(lock(&places.taken).of_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let places = Places::new(3, 1);
        let _held = places.take(address("2001:db8::1")).unwrap();
        assert!(places.take(address("2001:db8::2:1")).is_none());
        assert!(places.take(address("2001:db8:0:1::1")).is_some());
        let _mapped = places.take(address("::ffff:192.0.2.1")).unwrap();
        assert!(places.take(address("192.0.2.1")).is_none());
    }
}
