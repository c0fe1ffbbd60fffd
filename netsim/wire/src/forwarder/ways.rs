//! Regions of the public network, and what lies between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netsim_sim::OneWay;
use netsim_sim::link::Pipe;

/// A part of the public network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(pub u16);

/// What lies between regions, and which addresses are where.
#[derive(Debug, Default)]
pub struct Ways {
    pipes: BTreeMap<(Region, Region), Pipe>,
    addresses: BTreeMap<IpAddr, Region>,
    /// By the first address of a /24 or a /64.
    networks: BTreeMap<IpAddr, Region>,
}

impl Ways {
    /// Sets what packets from one region to another meet. The other direction is another way.
    pub fn set(&mut self, from: Region, to: Region, way: OneWay) {
        self.pipes.insert((from, to), Pipe::new(way));
    }

    /// Says where an address is.
    pub fn place(&mut self, address: IpAddr, region: Region) {
        self.addresses.insert(address, region);
    }

    /// Says where the /24, or over IPv6 the /64, of an address is.
    pub fn place_network(&mut self, address: IpAddr, region: Region) {
        self.networks.insert(network(address), region);
    }

    /// What packets from a region to an address meet; none where that is near, or unknown.
    pub(super) fn between(&mut self, from: Region, to: IpAddr) -> Option<&mut Pipe> {
        let region = self.addresses.get(&to).or_else(|| self.networks.get(&network(to)))?;
        self.pipes.get_mut(&(from, *region))
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
