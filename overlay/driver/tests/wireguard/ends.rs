//! The two implementations, as the suite sees them.

use std::net::{IpAddr, Ipv4Addr};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use netsim_virtual::wireguard::{Inner, Message, Opened, Tick, Tunnel};

use crate::clock;

/// What opening a message gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got<P> {
    Refused,
    Nothing,
    Reply(P),
    /// An inner packet of that many bytes.
    Inner(usize),
}

/// What the timers asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due<P> {
    Nothing,
    Send(P),
    Expired,
}

/// One end of a tunnel.
pub(crate) trait End: Sized {
    type Packet: Clone + std::fmt::Debug + PartialEq;

    /// The end of machine `own` towards machine `peer`.
    fn new(own: u8, peer: u8) -> Self;
    fn initiate(&mut self, force: bool) -> Option<Self::Packet>;
    /// Seals an inner packet of that many bytes, at least 20; none: a keepalive.
    fn seal(&mut self, bytes: Option<usize>) -> Option<Self::Packet>;
    fn unqueue(&mut self) -> Option<Self::Packet>;
    fn open_from(&mut self, from: IpAddr, packet: &Self::Packet) -> Got<Self::Packet>;
    fn tick(&mut self) -> Due<Self::Packet>;
    /// Bytes of the UDP payload.
    fn size(packet: &Self::Packet) -> usize;

    fn open(&mut self, packet: &Self::Packet) -> Got<Self::Packet> {
        self.open_from(Ipv4Addr::new(198, 18, 0, 1).into(), packet)
    }
}

/// What overlay/driver uses.
pub(crate) struct Boringtun(Tunn);

impl End for Boringtun {
    type Packet = Vec<u8>;

    fn new(own: u8, peer: u8) -> Self {
        let secret = |of: u8| StaticSecret::from([of; 32]);
        let peer_key = PublicKey::from(&secret(peer));
        Self(Tunn::new(secret(own), peer_key, None, None, own.into(), None))
    }

    fn initiate(&mut self, force: bool) -> Option<Vec<u8>> {
        sent(self.0.format_handshake_initiation(&mut [0; 256], force))
    }

    fn seal(&mut self, bytes: Option<usize>) -> Option<Vec<u8>> {
        let inner = bytes.map(ipv4).unwrap_or_default();
        sent(self.0.encapsulate(&inner, &mut [0; 2048]))
    }

    fn unqueue(&mut self) -> Option<Vec<u8>> {
        sent(self.0.decapsulate(None, &[], &mut [0; 2048]))
    }

    fn open_from(&mut self, from: IpAddr, packet: &Vec<u8>) -> Got<Vec<u8>> {
        match self.0.decapsulate(Some(from), packet, &mut [0; 2048]) {
            TunnResult::Done => Got::Nothing,
            TunnResult::Err(_) => Got::Refused,
            TunnResult::WriteToNetwork(reply) => Got::Reply(reply.to_vec()),
            TunnResult::WriteToTunnelV4(inner, _) | TunnResult::WriteToTunnelV6(inner, _) => {
                Got::Inner(inner.len())
            }
        }
    }

    fn tick(&mut self) -> Due<Vec<u8>> {
        match self.0.update_timers(&mut [0; 256]) {
            TunnResult::Err(_) => Due::Expired,
            TunnResult::WriteToNetwork(packet) => Due::Send(packet.to_vec()),
            TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => Due::Nothing,
        }
    }

    fn size(packet: &Vec<u8>) -> usize {
        packet.len()
    }
}

fn sent(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(packet) => Some(packet.to_vec()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}

/// An IPv4 packet of that length.
fn ipv4(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; bytes];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(bytes as u16).to_be_bytes());
    packet
}

/// What the simulator uses.
pub(crate) struct StandIn(Tunnel);

impl End for StandIn {
    type Packet = Message;

    fn new(own: u8, peer: u8) -> Self {
        // Later ends draw larger numbers, as their initiations have later times.
        let draw = u64::try_from(clock::now().as_millis()).unwrap() << 8 | u64::from(own);
        Self(Tunnel::new(clock::now(), own.into(), peer.into(), own.into(), draw))
    }

    fn initiate(&mut self, force: bool) -> Option<Message> {
        self.0.initiate(clock::now(), force)
    }

    fn seal(&mut self, bytes: Option<usize>) -> Option<Message> {
        let inner = bytes.map_or(Inner::Keepalive, |bytes| Inner::Bulk(bytes as u32));
        self.0.seal(clock::now(), inner)
    }

    fn unqueue(&mut self) -> Option<Message> {
        self.0.unqueue(clock::now())
    }

    fn open_from(&mut self, from: IpAddr, packet: &Message) -> Got<Message> {
        match self.0.open(clock::now(), from, packet) {
            Opened::Refused => Got::Refused,
            Opened::Nothing => Got::Nothing,
            Opened::Reply(reply) => Got::Reply(reply),
            Opened::Inner(inner) => Got::Inner(inner.len()),
        }
    }

    fn tick(&mut self) -> Due<Message> {
        match self.0.tick(clock::now()) {
            Tick::Nothing => Due::Nothing,
            Tick::Send(message) => Due::Send(message),
            Tick::Expired => Due::Expired,
        }
    }

    fn size(packet: &Message) -> usize {
        packet.wire_len()
    }
}
