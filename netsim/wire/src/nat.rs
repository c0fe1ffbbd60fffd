//! A NAT by axes, on real frames.
//!
//! Stands between a router's kernel and its outer network:
//!
//! ```text
//!   LAN ── router's kernel ── near | Translator | far ── outer network
//!                                     \_ hairpin _/ back to near
//! ```
//! The tables are the simulator's ([`NatTable`]), one for each of UDP, TCP and pings, so that both
//! back ends have one model. The kernel must not hold the outer address as its own, or what comes
//! back through a hairpin would never leave it: this side answers for the address when neighbours ask.
//! Later fragments carry no ports and are dropped; IPv6 passes untouched.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use netsim_sim::NatProfile;
use netsim_sim::nat::{NatTable, TCP_LIFETIME};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::frame::{self, Arp, Parsed, Payload, V4, parse, parse_quoted};
use crate::rewrite::{End, replace, sum_message};

/// The hardware address under which the router's kernel finds its own outer address: locally
/// administered, and nobody's.
const OWN_HARDWARE: [u8; 6] = [0x02, 0, 0xc6, 0x12, 0xff, 0x01];

/// A NAT at work.
#[derive(Debug)]
pub struct Translator {
    outer: Ipv4Addr,
    /// The router's hardware address on its outer network.
    hardware: [u8; 6],
    hairpin: bool,
    udp: NatTable,
    tcp: NatTable,
    ping: NatTable,
    rng: ChaCha8Rng,
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass(Vec<u8>),
    /// This goes back to where the frame came from.
    Back(Vec<u8>),
    /// It ends here.
    Drop,
}

/// The table that a packet belongs to, and its ports in order of sender and receiver.
#[derive(Clone, Copy)]
struct Flow {
    table: Table,
    source: SocketAddrV4,
    destination: SocketAddrV4,
}

#[derive(Clone, Copy)]
enum Table {
    Udp,
    Tcp,
    Ping,
}

impl Translator {
    /// A NAT without mappings, that owns the address `outer` on the network where the router's
    /// hardware address is `hardware`.
    pub fn new(profile: NatProfile, outer: Ipv4Addr, hardware: [u8; 6], seed: u64) -> Self {
        let tcp = NatProfile { lifetime: TCP_LIFETIME, ..profile };
        Self {
            outer,
            hardware,
            hairpin: profile.hairpin,
            udp: NatTable::new(profile),
            tcp: NatTable::new(tcp),
            ping: NatTable::new(profile),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Forgets all mappings and goes on with other ports.
    pub fn reboot(&mut self) {
        for table in [&mut self.udp, &mut self.tcp, &mut self.ping] {
            table.reboot(&mut self.rng);
        }
    }

    /// A frame from the router's kernel.
    pub fn outbound(&mut self, now: Duration, frame: Vec<u8>) -> Verdict {
        match parse(&frame) {
            Parsed::Arp(arp) => self.ask_of_kernel(&arp, frame),
            Parsed::V4(packet) => self.translate_out(now, frame, &packet),
            Parsed::V6(_) => Verdict::Pass(frame),
            Parsed::Other => Verdict::Drop,
        }
    }

    /// A frame from the outer network.
    pub fn inbound(&mut self, now: Duration, mut frame: Vec<u8>) -> Verdict {
        match parse(&frame) {
            Parsed::Arp(arp) if arp.target == self.outer && arp.is_request => {
                Verdict::Back(frame::arp_answer(&arp, self.hardware))
            }
            Parsed::Arp(_) | Parsed::V6(_) => Verdict::Pass(frame),
            Parsed::V4(packet) if packet.destination == self.outer => {
                if self.translate_in(now, &mut frame, &packet) {
                    Verdict::Pass(frame)
                } else {
                    Verdict::Drop
                }
            }
            Parsed::V4(_) | Parsed::Other => Verdict::Drop,
        }
    }

    /// The router's kernel asks its neighbours; its own outer address is here.
    fn ask_of_kernel(&self, arp: &Arp, frame: Vec<u8>) -> Verdict {
        if arp.is_request && arp.target == self.outer {
            return Verdict::Back(frame::arp_answer(arp, OWN_HARDWARE));
        }
        Verdict::Pass(frame)
    }

    fn translate_out(&mut self, now: Duration, mut frame: Vec<u8>, packet: &V4) -> Verdict {
        if packet.destination.is_multicast() || packet.destination.is_broadcast() {
            return Verdict::Drop;
        }
        let is_hairpin = packet.destination == self.outer;
        if let Payload::About { at, quoted } = packet.payload {
            if is_hairpin || !self.mend_notice_out(&mut frame, packet, at, quoted) {
                return Verdict::Drop;
            }
            return Verdict::Pass(frame);
        }
        let Some(flow) = flow(packet, true) else { return Verdict::Drop };
        if is_hairpin && !self.hairpin {
            return Verdict::Drop;
        }
        let (inner, to) = (flow.source.into(), flow.destination.into());
        let (table, rng) = self.table(flow.table);
        let Some(port) = table.outbound(now, inner, to, rng) else { return Verdict::Drop };
        let outer = SocketAddrV4::new(self.outer, port);
        replace(&mut frame, packet, End::Source, outer);
        if !is_hairpin {
            return Verdict::Pass(frame);
        }
        // Round: what was sent to the outer address comes in from it.
        let Parsed::V4(again) = parse(&frame) else { return Verdict::Drop };
        if !self.translate_in(now, &mut frame, &again) {
            return Verdict::Drop;
        }
        let (to, from) = frame.split_at_mut(6);
        to.swap_with_slice(&mut from[..6]);
        Verdict::Back(frame)
    }

    fn translate_in(&mut self, now: Duration, frame: &mut [u8], packet: &V4) -> bool {
        if let Payload::About { at, quoted } = packet.payload {
            return self.mend_notice_in(frame, packet, at, quoted);
        }
        let Some(flow) = flow(packet, false) else { return false };
        let (table, _) = self.table(flow.table);
        let inner = table.inbound(now, flow.destination.port(), flow.source.into());
        let Some(SocketAddr::V4(inner)) = inner else { return false };
        replace(frame, packet, End::Destination, inner);
        true
    }

    /// Somebody inside says something about a packet that it got: the quoted packet is shown as it was
    /// outside (RFC 5508 §4.2).
    fn mend_notice_out(&mut self, frame: &mut [u8], packet: &V4, at: usize, quoted: usize) -> bool {
        let Some(about) = parse_quoted(frame, quoted) else { return false };
        let Some(seen) = flow(&about, false) else { return false };
        let (table, _) = self.table(seen.table);
        let (inner, remote) = (seen.destination.into(), seen.source.into());
        let Some(port) = table.mapped(inner, remote) else { return false };
        let outer = SocketAddrV4::new(self.outer, port);
        replace(frame, &about, End::Destination, outer);
        replace(frame, packet, End::Source, SocketAddrV4::new(self.outer, 0));
        sum_message(frame, packet, at);
        true
    }

    /// Somebody outside says something about a packet that was sent: the quoted packet is shown as it
    /// was inside.
    fn mend_notice_in(&mut self, frame: &mut [u8], packet: &V4, at: usize, quoted: usize) -> bool {
        let Some(about) = parse_quoted(frame, quoted) else { return false };
        if about.source != self.outer {
            return false;
        }
        let Some(seen) = flow(&about, true) else { return false };
        let (table, _) = self.table(seen.table);
        let Some(SocketAddr::V4(inner)) = table.owner(seen.source.port()) else { return false };
        replace(frame, &about, End::Source, inner);
        replace(frame, packet, End::Destination, SocketAddrV4::new(*inner.ip(), 0));
        sum_message(frame, packet, at);
        true
    }

    fn table(&mut self, table: Table) -> (&mut NatTable, &mut ChaCha8Rng) {
        let tables = match table {
            Table::Udp => &mut self.udp,
            Table::Tcp => &mut self.tcp,
            Table::Ping => &mut self.ping,
        };
        (tables, &mut self.rng)
    }
}

/// What a packet belongs to. A question of `ping` has its identifier in the sender's place, an answer
/// in the receiver's; the other place has no port.
fn flow(packet: &V4, is_outbound: bool) -> Option<Flow> {
    let ends = |source, destination| {
        (
            SocketAddrV4::new(packet.source, source),
            SocketAddrV4::new(packet.destination, destination),
        )
    };
    let (table, (source, destination)) = match packet.payload {
        Payload::Udp(ports) => (Table::Udp, ends(ports.source, ports.destination)),
        Payload::Tcp(ports) => (Table::Tcp, ends(ports.source, ports.destination)),
        Payload::Echo { id, is_request, .. } => {
            // Pings from outside are not for anybody inside.
            if is_request != is_outbound {
                return None;
            }
            (Table::Ping, if is_outbound { ends(id, 0) } else { ends(0, id) })
        }
        Payload::About { .. } | Payload::Fragment | Payload::Other => return None,
    };
    Some(Flow { table, source, destination })
}

#[cfg(test)]
mod tests;
