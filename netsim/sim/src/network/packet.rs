//! Packets: as they are sent, on their way, and as they arrive.

use std::net::SocketAddr;
use std::time::Duration;

use super::route::Arrival;
use super::{Change, HostId, RegionId};
use crate::firewall::Protocol;

/// The size of packets whose sender names none, in bytes. Chosen: a WireGuard handshake in IPv4
/// (148 + 8 + 20), the largest of the small packets of an overlay.
pub const DEFAULT_SIZE_BYTES: u32 = 176;

/// A packet to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing<P> {
    /// What routers take it for.
    pub protocol: Protocol,
    /// The source port.
    pub port: u16,
    /// Where it goes.
    pub to: SocketAddr,
    /// Bytes of the whole IP packet: what rates, queues and MTUs count.
    pub size_bytes: u32,
    /// What it carries.
    pub payload: P,
}

impl<P> Outgoing<P> {
    /// A UDP packet.
    pub fn udp(port: u16, to: SocketAddr, size_bytes: u32, payload: P) -> Self {
        Self { protocol: Protocol::Udp, port, to, size_bytes, payload }
    }

    /// A TCP packet.
    pub fn tcp(port: u16, to: SocketAddr, size_bytes: u32, payload: P) -> Self {
        Self { protocol: Protocol::Tcp, port, to, size_bytes, payload }
    }
}

/// A packet that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<P> {
    /// The host that receives it.
    pub host: HostId,
    /// The sender as the receiver sees it.
    pub from: SocketAddr,
    /// The receiver's own endpoint.
    pub to: SocketAddr,
    /// What it is.
    pub protocol: Protocol,
    /// Bytes of the whole IP packet.
    pub size_bytes: u32,
    /// What was sent.
    pub payload: P,
}

/// A sender hears that a packet was too big, as by ICMP. It comes after the time that the packet
/// took to the narrow link, and is never lost or filtered itself: paths that lose these notices are
/// links with [`crate::TooBig::Drop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBigNotice {
    /// The sender.
    pub host: HostId,
    /// The packet's source port, as it was sent.
    pub port: u16,
    /// The packet's destination, as it was sent.
    pub to: SocketAddr,
    /// What would have fitted: bytes of the whole IP packet.
    pub mtu_bytes: u32,
}

/// What those outside have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening<P> {
    /// A packet has arrived.
    Delivered(Delivery<P>),
    /// A packet was too big.
    TooBig(TooBigNotice),
    /// A scheduled change has taken place.
    Changed(Change),
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub(super) struct Packet<P> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) size_bytes: u32,
    pub(super) sender: HostId,
    pub(super) sender_port: u16,
    pub(super) sent_to: SocketAddr,
    pub(super) sent_at: Duration,
    pub(super) hops: u8,
    /// Where it has entered the public realm.
    pub(super) region: RegionId,
    pub(super) payload: P,
}

/// What the network waits for.
#[derive(Debug)]
pub(super) enum Entry<P> {
    Packet(Arrival, Packet<P>),
    Notice(TooBigNotice),
    Change(Change),
}
