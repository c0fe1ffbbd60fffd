//! The suite's view of a NAT of the simulator.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Inner, NatProbe, Outer};
use crate::network::{Delivery, HostId, Network, PUBLIC, RouterProfile};

/// A network with two machines behind routers, and two outside.
#[derive(Debug)]
pub struct SimulatedNat {
    network: Network<()>,
    inside: [HostId; 2],
    outside: [HostId; 2],
}

impl SimulatedNat {
    /// Two machines behind a chain of routers, given from the machines outwards.
    pub fn new(chain: &[RouterProfile], seed: u64) -> Self {
        let mut network = Network::new(seed);
        let link = crate::Link::PERFECT;
        let outside = [(); 2].map(|()| network.add_host(PUBLIC, link));
        let realm = chain.iter().rev().fold(PUBLIC, |realm, router| {
            let (_, inside) = network.add_router(realm, router);
            inside
        });
        let inside = [(); 2].map(|()| network.add_host(realm, link));
        Self { network, inside, outside }
    }

    /// Sends one packet and runs until nothing is on its way.
    fn send(&mut self, from: HostId, port: u16, to: SocketAddr) -> Option<Delivery<()>> {
        self.network.send(from, port, to, ());
        let mut arrived = None;
        while self.network.next_event().is_some() {
            arrived = self.network.step().or(arrived);
        }
        arrived
    }

    fn inner_of(&self, delivery: &Delivery<()>) -> Option<Inner> {
        let machine = self.inside.iter().position(|host| *host == delivery.host)?;
        Some(Inner { machine: u8::try_from(machine).ok()?, port: delivery.to.port() })
    }
}

impl NatProbe for SimulatedNat {
    type Error = Infallible;

    fn endpoint(&self, inner: Inner) -> SocketAddr {
        let host = self.inside[usize::from(inner.machine % 2)];
        SocketAddr::new(self.network.address(host), inner.port)
    }

    fn send_out(&mut self, from: Inner, to: Outer) -> Result<Option<SocketAddr>, Infallible> {
        let receiver = self.outside[usize::from(to.address % 2)];
        let target = SocketAddr::new(self.network.address(receiver), to.port);
        let sender = self.inside[usize::from(from.machine % 2)];
        let delivery = self.send(sender, from.port, target);
        Ok(delivery.filter(|delivery| delivery.host == receiver).map(|delivery| delivery.from))
    }

    fn send_in(&mut self, from: Outer, to: SocketAddr) -> Result<Option<Inner>, Infallible> {
        let delivery = self.send(self.outside[usize::from(from.address % 2)], from.port, to);
        Ok(delivery.and_then(|delivery| self.inner_of(&delivery)))
    }

    fn send_round(
        &mut self,
        from: Inner,
        to: SocketAddr,
    ) -> Result<Option<(Inner, SocketAddr)>, Infallible> {
        let delivery = self.send(self.inside[usize::from(from.machine % 2)], from.port, to);
        Ok(delivery.and_then(|delivery| Some((self.inner_of(&delivery)?, delivery.from))))
    }

    fn wait(&mut self, time: Duration) -> Result<(), Infallible> {
        let until = self.network.now() + time;
        self.network.advance_to(until);
        Ok(())
    }
}
