//! The one UDP socket of a node, shared by the data plane and QUIC.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use overlay_tunnel::mangles_batches;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::kernel;
use crate::tunnel::Detour;

/// Kernel buffer in each direction: 8 MiB holds 30 ms of 2 Gbit/s. Without the privilege to force it the
/// kernel's `rmem_max` and `wmem_max` cap it.
const SOCKET_BUFFER: usize = 8 << 20;

/// A nonblocking UDP socket with segmentation offload where the kernel has it.
///
/// A dual-stack socket wants IPv4 destinations mapped into IPv6 and reports sources so; both are
/// undone here, everything else in this crate sees plain addresses.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// Datagrams go one by one, whatever the kernel offers.
    lone: bool,
    detour: Arc<Detour>,
}

impl Socket {
    /// Binds `address`: IPv4 only for an IPv4 address, dual stack for an IPv6 one.
    ///
    /// `[::]` falls back to `0.0.0.0` on a machine without IPv6.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = match open(address) {
            Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
                open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))?
            }
            other => other?,
        };
        let state = UdpSocketState::new((&udp).into())?;
        let local = udp.local_addr()?;
        let lone = kernel::release().is_some_and(|release| mangles_batches(&release));
        if lone {
            tracing::warn!(
                "this kernel damages batches of datagrams (Linux 7.0 to 7.1.4): they go one by one"
            );
        }
        Ok(Self { udp, state, local, lone, detour: Arc::default() })
    }

    /// The bound address.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The way around UDP.
    pub(crate) fn detour(&self) -> &Arc<Detour> {
        &self.detour
    }

    /// Whether datagrams can be sent to IPv6 addresses.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.local.is_ipv6()
    }

    /// The most datagrams of one size that one system call takes.
    pub(crate) fn max_segments(&self) -> usize {
        if self.lone { 1 } else { self.state.max_gso_segments() }
    }

    pub(crate) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Sends `contents` to `to`, cut into datagrams of `segment_size` bytes when that is given, each with that
    /// congestion mark. A detour carries no marks: no router is asked to set them there.
    pub(crate) fn send(
        &self,
        (to, ecn): (SocketAddr, Option<EcnCodepoint>),
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        if !self.can_reach(to) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if self.detour.is_open() && self.detour.take(to, contents, segment_size) {
            return Ok(());
        }
        let destination = self.to_wire(to);
        self.send_raw(&Transmit { destination, ecn, contents, segment_size, src_ip: None })
    }

    /// Sends one datagram by UDP, whatever the detour says.
    pub(crate) fn send_past_detour(&self, to: SocketAddr, contents: &[u8]) -> io::Result<()> {
        if !self.can_reach(to) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let destination = self.to_wire(to);
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        self.state.try_send((&self.udp).into(), &transmit)
    }

    /// Sends what QUIC made; its addresses are already in the socket's form.
    pub(crate) fn send_raw(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.detour.is_open() {
            let (to, segment) = (plain(transmit.destination), transmit.segment_size);
            if self.detour.take(to, transmit.contents, segment) {
                return Ok(());
            }
        }
        self.state.try_send((&self.udp).into(), transmit)
    }

    /// Receives at most one batch. The sources in `meta` are in the socket's form.
    pub(crate) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv((&self.udp).into(), buffers, meta)
    }

    /// Whether the kernel could send there at all.
    ///
    /// Endpoints come from other nodes. The kernel's EINVAL for a senseless one would be taken for a
    /// missing offload, and slow everything down.
    fn can_reach(&self, to: SocketAddr) -> bool {
        let ip = to.ip();
        let lacks_scope = match to {
            SocketAddr::V4(_) => false,
            SocketAddr::V6(v6) => v6.ip().is_unicast_link_local() && v6.scope_id() == 0,
        };
        to.port() != 0
            && (to.is_ipv4() || self.is_ipv6())
            && !ip.is_unspecified()
            && !ip.is_multicast()
            && !lacks_scope
    }

    /// The form that this socket reports a source in.
    pub(crate) fn to_wire(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.is_ipv6() => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }
}

/// An address without the mapping of IPv4 into IPv6, and without flow label.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(v4) => SocketAddrV4::new(v4, v6.port()).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_endpoints_do_not_cost_the_offload() {
        let socket = Socket::bind("[::]:0".parse().unwrap()).unwrap();
        let segments = socket.max_segments();
        for endpoint in ["192.0.2.1:0", "0.0.0.0:9", "224.0.0.1:9", "[fe80::1]:9", "[::]:9"] {
            assert!(
                socket.send((endpoint.parse().unwrap(), None), b"x", None).is_err(),
                "{endpoint}"
            );
        }
        let v4_only = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(v4_only.send(("[::1]:9".parse().unwrap(), None), b"x", None).is_err());
        assert_eq!(socket.max_segments(), segments);
    }

    #[test]
    fn addresses_lose_their_mapping() {
        let plain_v4: SocketAddr = "192.0.2.1:9".parse().unwrap();
        assert_eq!(plain("[::ffff:192.0.2.1]:9".parse().unwrap()), plain_v4);
        assert_eq!(plain(plain_v4), plain_v4);
        let v6: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
        assert_eq!(plain(v6), v6);
    }
}
