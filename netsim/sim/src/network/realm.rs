//! One address space.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HostId, NatId};

/// Who has an address, or where it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Host(HostId),
    /// The router's own address.
    Nat(NatId),
    /// A machine behind a router that does not translate it.
    Behind(NatId),
}

/// One network: the public one, or that behind a router.
#[derive(Debug)]
pub(super) struct Realm {
    number: u32,
    depth: u8,
    gateway: Option<NatId>,
    owners: BTreeMap<IpAddr, Owner>,
    last_v4: u32,
    last_v6: u64,
}

impl Realm {
    pub(super) fn public() -> Self {
        Self::new(0, 0, None)
    }

    pub(super) fn behind(number: u32, depth: u8, gateway: NatId) -> Self {
        Self::new(number, depth, Some(gateway))
    }

    fn new(number: u32, depth: u8, gateway: Option<NatId>) -> Self {
        Self { number, depth, gateway, owners: BTreeMap::new(), last_v4: 0, last_v6: 0 }
    }

    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    pub(super) fn gateway(&self) -> Option<NatId> {
        self.gateway
    }

    pub(super) fn owner(&self, address: IpAddr) -> Option<Owner> {
        self.owners.get(&address).copied()
    }

    pub(super) fn attach(&mut self, address: IpAddr, owner: Owner) {
        self.owners.insert(address, owner);
    }

    pub(super) fn detach(&mut self, address: IpAddr) {
        self.owners.remove(&address);
    }

    /// The next free address: of 198.18.0.0/15 (RFC 2544) in the public realm, 10.DEPTH.x.y behind
    /// NATs, the same in each realm of that depth. Given-up addresses are used again, but last.
    ///
    /// # Panics
    ///
    /// When all are taken, 131,071 or 65,535: the network was built too large.
    pub(super) fn free_v4(&mut self) -> IpAddr {
        let (first, most) = match self.depth {
            0 => (Ipv4Addr::new(198, 18, 0, 0), (1 << 17) - 1),
            depth => (Ipv4Addr::new(10, depth, 0, 0), (1 << 16) - 1),
        };
        for _ in 0..most {
            self.last_v4 = if self.last_v4 < most { self.last_v4 + 1 } else { 1 };
            let address = Ipv4Addr::from_bits(first.to_bits() + self.last_v4);
            if !self.owners.contains_key(&address.into()) {
                return address.into();
            }
        }
        panic!("a realm has {most} addresses: spread the hosts over several routers");
    }

    /// The next IPv6 address, of this realm's prefix 2001:db8:REALM:REALM::/64 (RFC 3849).
    pub(super) fn free_v6(&mut self) -> IpAddr {
        self.last_v6 += 1;
        let prefix = 0x2001_0db8_u128 << 96 | u128::from(self.number) << 64;
        Ipv6Addr::from(prefix | u128::from(self.last_v6)).into()
    }
}
