//! A packet on its way: from the host through its routers, the public realm and the other side's
//! routers to a host.

use std::net::SocketAddr;
use std::time::Duration;

use super::realm::Owner;
use super::{
    Delivery, Entry, Happening, HostId, HostState, MAX_HOPS, NatId, Network, Outgoing, PUBLIC,
    Packet, RealmId, RegionId, TooBigNotice,
};
use crate::link::Passage;

/// Where a packet is next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    Realm(RealmId),
    /// In the public realm, after the way between two regions.
    Region,
    RouterFromOutside(NatId),
    Host(HostId),
}

/// Which link a packet takes.
#[derive(Clone, Copy, Debug)]
enum Way {
    HostUp(HostId),
    HostDown(HostId),
    RouterUp(NatId),
    RouterDown(NatId),
    Between(RegionId, RegionId),
}

impl<P: Clone> Network<P> {
    /// Sends a packet from a host. Its source address is the host's, of the destination's family.
    pub fn send_packet(&mut self, host: HostId, outgoing: Outgoing<P>) {
        let Outgoing { protocol, port, to, size_bytes, payload } = outgoing;
        self.counters.sent += 1;
        let sender = &self.hosts[host.0];
        if sender.state != HostState::Running {
            self.counters.down += 1;
            return;
        }
        let source = if to.is_ipv6() { sender.ipv6 } else { Some(sender.address) };
        let Some(source) = source else {
            self.counters.unroutable += 1;
            return;
        };
        let packet = Packet {
            from: SocketAddr::new(source, port),
            to,
            protocol,
            size_bytes,
            sender: host,
            sender_port: port,
            sent_to: to,
            sent_at: self.now,
            hops: 0,
            region: sender.region,
            payload,
        };
        let realm = sender.realm;
        self.travel(Way::HostUp(host), Arrival::Realm(realm), packet);
    }

    /// Handles the next event, moving the clock to it. None when nobody outside has to know.
    pub fn handle_next(&mut self) -> Option<Happening<P>> {
        let ((at, _), entry) = self.in_flight.pop_first()?;
        self.advance_to(at);
        match entry {
            Entry::Packet(arrival, packet) => {
                self.packets_in_flight -= 1;
                self.arrive(arrival, packet).map(Happening::Delivered)
            }
            Entry::Notice(notice) => {
                let is_running = self.hosts[notice.host.0].state == HostState::Running;
                is_running.then_some(Happening::TooBig(notice))
            }
            Entry::Change(change) => self.apply(change).then_some(Happening::Changed(change)),
        }
    }

    fn arrive(&mut self, arrival: Arrival, packet: Packet<P>) -> Option<Delivery<P>> {
        match arrival {
            Arrival::Realm(realm) => self.enter(realm, packet),
            Arrival::Region => self.enter_region(packet),
            Arrival::RouterFromOutside(router) => self.come_in(router, packet),
            Arrival::Host(host) => return self.deliver(host, packet),
        }
        None
    }

    fn travel(&mut self, way: Way, arrival: Arrival, packet: Packet<P>) {
        let now = self.now;
        let pipe = match way {
            Way::HostUp(host) => &mut self.hosts[host.0].link.up,
            Way::HostDown(host) => &mut self.hosts[host.0].link.down,
            Way::RouterUp(router) => &mut self.routers[router.0].uplink.up,
            Way::RouterDown(router) => &mut self.routers[router.0].uplink.down,
            Way::Between(from, to) => match self.backbone.get_mut(&(from, to)) {
                Some(pipe) => pipe,
                None => return self.enter_region(packet),
            },
        };
        match pipe.pass(now, packet.size_bytes, &mut self.rng) {
            Passage::Arrives { at, again: None } => self.launch(at, arrival, packet),
            Passage::Arrives { at, again: Some(again) } => {
                self.counters.duplicated += 1;
                self.launch(at, arrival, packet.clone());
                self.launch(again, arrival, packet);
            }
            Passage::Lost => self.counters.lost += 1,
            Passage::QueueFull => self.counters.queue_full += 1,
            Passage::Down => self.counters.down += 1,
            Passage::TooBig { mtu_bytes, notice } => {
                self.counters.too_big += 1;
                if notice {
                    self.notify(mtu_bytes, &packet);
                }
            }
        }
    }

    fn launch(&mut self, at: Duration, arrival: Arrival, packet: Packet<P>) {
        if self.packets_in_flight >= super::MAX_IN_FLIGHT {
            self.counters.overflowed += 1;
            return;
        }
        self.packets_in_flight += 1;
        self.insert(at, Entry::Packet(arrival, packet));
    }

    /// The sender hears of it after the time that the packet took to here.
    fn notify(&mut self, mtu_bytes: u32, packet: &Packet<P>) {
        let Packet { sender: host, sender_port: port, sent_to: to, sent_at, .. } = *packet;
        let back = self.now + (self.now - sent_at);
        // As many as packets at most: a router that is overwhelmed sends none (RFC 1812 §4.3.2.8).
        if self.in_flight.len() < super::MAX_IN_FLIGHT * 2 {
            self.insert(back, Entry::Notice(TooBigNotice { host, port, to, mtu_bytes }));
        }
    }

    fn enter(&mut self, realm: RealmId, packet: Packet<P>) {
        if realm != PUBLIC {
            return self.pass_on(realm, packet);
        }
        if self.blocked.contains(&(packet.from.ip(), packet.to.ip())) {
            self.counters.filtered += 1;
            return;
        }
        let there = self.region_of_address(packet.to.ip());
        if there == packet.region {
            self.enter_region(packet);
        } else {
            self.travel(Way::Between(packet.region, there), Arrival::Region, packet);
        }
    }

    fn enter_region(&mut self, packet: Packet<P>) {
        self.pass_on(PUBLIC, packet);
    }

    fn pass_on(&mut self, realm: RealmId, packet: Packet<P>) {
        match (self.realms[realm.0].owner(packet.to.ip()), self.realms[realm.0].gateway()) {
            (Some(Owner::Host(host)), _) => {
                self.travel(Way::HostDown(host), Arrival::Host(host), packet);
            }
            // A router's own address as seen from inside is the gateway's below: it is outside.
            (Some(Owner::Nat(router) | Owner::Behind(router)), _) => {
                let arrival = Arrival::RouterFromOutside(router);
                self.travel(Way::RouterDown(router), arrival, packet);
            }
            (None, Some(router)) => self.go_out(router, packet),
            (None, None) => self.counters.unroutable += 1,
        }
    }

    fn go_out(&mut self, router: NatId, mut packet: Packet<P>) {
        if packet.hops >= MAX_HOPS || (packet.to.is_ipv6() && !self.routers[router.0].ipv6) {
            self.counters.unroutable += 1;
            return;
        }
        let gate = &mut self.routers[router.0];
        match gate.outbound(self.now, packet.protocol, packet.from, packet.to, &mut self.rng) {
            Ok(from) => packet.from = from,
            Err(refusal) => {
                *refusal.counter(&mut self.counters) += 1;
                return;
            }
        }
        packet.hops += 1;
        packet.region = gate.region;
        let (outside, hairpins) = (gate.outside, gate.outer == Some(packet.to.ip()));
        if hairpins {
            // It turns round inside the router and never takes the uplink.
            self.come_in(router, packet);
        } else {
            self.travel(Way::RouterUp(router), Arrival::Realm(outside), packet);
        }
    }

    fn come_in(&mut self, router: NatId, mut packet: Packet<P>) {
        let gate = &mut self.routers[router.0];
        match gate.inbound(self.now, packet.protocol, packet.from, packet.to) {
            Ok(to) => {
                packet.to = to;
                let inside = gate.inside;
                self.pass_on(inside, packet);
            }
            Err(refusal) => *refusal.counter(&mut self.counters) += 1,
        }
    }

    fn deliver(&mut self, host: HostId, packet: Packet<P>) -> Option<Delivery<P>> {
        let receiver = &self.hosts[host.0];
        // The host may have moved while the packet was on its way.
        let own = [Some(receiver.address), receiver.ipv6];
        if !own.contains(&Some(packet.to.ip())) {
            self.counters.unroutable += 1;
            return None;
        }
        if receiver.state != HostState::Running {
            self.counters.down += 1;
            return None;
        }
        self.counters.delivered += 1;
        let Packet { from, to, protocol, size_bytes, payload, .. } = packet;
        Some(Delivery { host, from, to, protocol, size_bytes, payload })
    }
}
