//! The state of one NAT: its mappings and who may come in through them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;

use super::{Filtering, Mapping, NatProfile, PortAllocation};

/// The lowest outer port handed out.
const FIRST_PORT: u16 = 1024;

/// The most mappings of one NAT; what comes beyond is dropped. Chosen: that of a small router.
const MAX_MAPPINGS: usize = 4096;

/// The part of a remote endpoint that a behaviour depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remote {
    Any,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

#[derive(Debug)]
struct Entry {
    inner: SocketAddr,
    towards: Remote,
    expires: Duration,
    /// Until when each remote is let in.
    admitted: BTreeMap<Remote, Duration>,
}

/// The state of one NAT. Times count from the start of the simulation.
#[derive(Debug)]
pub(crate) struct NatTable {
    profile: NatProfile,
    by_port: BTreeMap<u16, Entry>,
    by_inner: BTreeMap<(SocketAddr, Remote), u16>,
}

impl NatTable {
    pub(crate) fn new(profile: NatProfile) -> Self {
        Self { profile, by_port: BTreeMap::new(), by_inner: BTreeMap::new() }
    }

    pub(crate) fn profile(&self) -> &NatProfile {
        &self.profile
    }

    /// Forgets everything, as a reboot does.
    pub(crate) fn flush(&mut self) {
        self.by_port.clear();
        self.by_inner.clear();
    }

    /// The outer port for a packet on its way out; none when the table is full.
    pub(crate) fn outbound(
        &mut self,
        now: Duration,
        inner: SocketAddr,
        to: SocketAddr,
        rng: &mut impl Rng,
    ) -> Option<u16> {
        self.expire(now);
        let towards = match self.profile.mapping {
            Mapping::EndpointIndependent => Remote::Any,
            Mapping::AddressDependent => Remote::Address(to.ip()),
            Mapping::AddressAndPortDependent => Remote::Endpoint(to),
        };
        let port = match self.by_inner.get(&(inner, towards)) {
            Some(port) => *port,
            None => {
                let port = self.free_port(inner.port(), rng)?;
                self.by_inner.insert((inner, towards), port);
                port
            }
        };
        let expires = now + self.profile.lifetime;
        let entry = self.by_port.entry(port).or_insert_with(|| Entry {
            inner,
            towards,
            expires,
            admitted: BTreeMap::new(),
        });
        entry.expires = expires;
        entry.admitted.insert(admission(self.profile.filtering, to), expires);
        Some(port)
    }

    /// The inner endpoint for a packet that came to an outer port; none when it is filtered.
    ///
    /// A packet that is let in keeps the mapping alive too, as the kernel's connection tracking does.
    pub(crate) fn inbound(
        &mut self,
        now: Duration,
        port: u16,
        from: SocketAddr,
    ) -> Option<SocketAddr> {
        self.expire(now);
        let entry = self.by_port.get_mut(&port)?;
        let until = entry.admitted.get_mut(&admission(self.profile.filtering, from))?;
        let expires = now + self.profile.lifetime;
        *until = expires;
        entry.expires = expires;
        Some(entry.inner)
    }

    fn expire(&mut self, now: Duration) {
        let by_inner = &mut self.by_inner;
        self.by_port.retain(|_, entry| {
            entry.admitted.retain(|_, until| *until > now);
            if entry.expires <= now {
                by_inner.remove(&(entry.inner, entry.towards));
            }
            entry.expires > now
        });
    }

    fn free_port(&self, inner: u16, rng: &mut impl Rng) -> Option<u16> {
        if self.by_port.len() >= MAX_MAPPINGS {
            return None;
        }
        let mut port = match self.profile.port {
            PortAllocation::Preserving => inner.max(FIRST_PORT),
            PortAllocation::Random => rng.random_range(FIRST_PORT..=u16::MAX),
        };
        while self.by_port.contains_key(&port) {
            port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        Some(port)
    }
}

fn admission(filtering: Filtering, remote: SocketAddr) -> Remote {
    match filtering {
        Filtering::EndpointIndependent => Remote::Any,
        Filtering::AddressDependent => Remote::Address(remote.ip()),
        Filtering::AddressAndPortDependent => Remote::Endpoint(remote),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const START: Duration = Duration::ZERO;

    fn endpoint(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The outer ports towards A:1, A:2 and B:1, and which of those remotes may answer to the first.
    fn behaviour(profile: NatProfile) -> ([u16; 3], [bool; 3]) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut table = NatTable::new(profile);
        let inner = endpoint("10.1.0.2:5000");
        let remotes = ["203.0.113.1:1", "203.0.113.1:2", "203.0.113.2:1"].map(endpoint);
        let first = table.outbound(START, inner, remotes[0], &mut rng).unwrap();
        let admitted = remotes.map(|remote| table.inbound(START, first, remote) == Some(inner));
        let ports = remotes.map(|to| table.outbound(START, inner, to, &mut rng).unwrap());
        (ports, admitted)
    }

    #[test]
    fn presets_show_their_mapping_and_filtering() {
        let same = [5000; 3];
        assert_eq!(behaviour(NatProfile::FULL_CONE), (same, [true, true, true]));
        assert_eq!(behaviour(NatProfile::RESTRICTED), (same, [true, true, false]));
        assert_eq!(behaviour(NatProfile::HOME), (same, [true, false, false]));
        let (ports, admitted) = behaviour(NatProfile::SYMMETRIC);
        assert_eq!(admitted, [true, false, false]);
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        let by_address = NatProfile { mapping: Mapping::AddressDependent, ..NatProfile::SYMMETRIC };
        let (ports, _) = behaviour(by_address);
        assert!(ports[0] == ports[1] && ports[1] != ports[2]);
    }

    #[test]
    fn mapping_dies_of_silence_and_lives_on_packets() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut table = NatTable::new(NatProfile::SYMMETRIC);
        let (inner, remote) = (endpoint("10.1.0.2:5000"), endpoint("203.0.113.1:1"));
        let port = table.outbound(START, inner, remote, &mut rng).unwrap();
        let almost = NatProfile::SYMMETRIC.lifetime - Duration::from_secs(1);
        assert_eq!(table.inbound(almost, port, remote), Some(inner));
        assert_eq!(table.inbound(almost * 2, port, remote), Some(inner));
        assert_eq!(table.inbound(almost * 4, port, remote), None);
    }

    #[test]
    fn taken_port_gives_the_next_one_and_a_full_table_none() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut table = NatTable::new(NatProfile::HOME);
        let remote = endpoint("203.0.113.1:1");
        let ports = ["10.1.0.2:5000", "10.1.0.3:5000"]
            .map(|inner| table.outbound(START, endpoint(inner), remote, &mut rng).unwrap());
        assert_eq!(ports, [5000, 5001]);
        let made = (0..MAX_MAPPINGS)
            .filter(|index| {
                let inner = SocketAddr::new(endpoint("10.1.0.4:1").ip(), 2000 + *index as u16);
                table.outbound(START, inner, remote, &mut rng).is_some()
            })
            .count();
        assert_eq!(made, MAX_MAPPINGS - 2);
    }
}
