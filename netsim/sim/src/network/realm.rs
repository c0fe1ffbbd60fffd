//! One address space.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::{HostId, NatId};

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Host(HostId),
    Nat(NatId),
}

/// One address space: the public one, or that behind a NAT.
#[derive(Debug)]
pub(super) struct Realm {
    depth: u8,
    gateway: Option<NatId>,
    owners: BTreeMap<IpAddr, Owner>,
    attached: u16,
}

impl Realm {
    pub(super) fn public() -> Self {
        Self { depth: 0, gateway: None, owners: BTreeMap::new(), attached: 0 }
    }

    pub(super) fn private(depth: u8, gateway: NatId) -> Self {
        Self { depth, gateway: Some(gateway), owners: BTreeMap::new(), attached: 0 }
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

    /// Gives out the next address: 198.18.x.y (RFC 2544) in the public realm, 10.DEPTH.x.y behind
    /// NATs, the same in each realm of that depth.
    pub(super) fn attach(&mut self, owner: Owner) -> IpAddr {
        self.attached += 1;
        let [high, low] = self.attached.to_be_bytes();
        let address = match self.depth {
            0 => Ipv4Addr::new(198, 18, high, low),
            depth => Ipv4Addr::new(10, depth, high, low),
        };
        self.owners.insert(address.into(), owner);
        address.into()
    }

    pub(super) fn detach(&mut self, address: IpAddr) {
        self.owners.remove(&address);
    }
}
