//! Makes the ways that a ladder asks for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use overlay_core::ladder::Rung;
use overlay_core::wire::tunnel::DATAGRAM_ALPN;
use quinn::crypto::rustls::NoInitialCipherSuite;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ask::{Asking, By};
use super::link::Link;
use super::{Detour, Dialer};
use crate::control::by_use;
use crate::quic::datagram_config;
use crate::socket::Socket;
use crate::view::Seen;

/// How long a QUIC connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(5);

/// A place that takes QUIC connections.
pub(crate) struct QuicPlace {
    /// Host and port.
    pub(crate) server: String,
    /// What its certificate must carry.
    pub(crate) name: String,
    /// For connections that carry datagrams.
    datagrams: ClientConfig,
}

/// What ways to one place are made with.
pub(super) struct Making {
    pub(super) socket: Arc<Socket>,
    /// Where QUIC's datagrams are taken.
    pub(super) quic: Option<QuicPlace>,
    /// The coordinator's control session, which UDP has to carry besides, at the same place. None: the place is a
    /// relay that runs alone.
    pub(super) control: Option<ClientConfig>,
    pub(super) dialer: Option<Dialer>,
}

impl QuicPlace {
    /// With the TLS that the place is known by.
    pub(crate) fn new(
        server: String,
        name: String,
        tls: rustls::ClientConfig,
    ) -> Result<Self, NoInitialCipherSuite> {
        Ok(Self { server, name, datagrams: datagram_config(tls, DATAGRAM_ALPN)? })
    }

    /// A connection of its own: it must not take the detour.
    async fn connect(&self, socket: &Socket, client: &ClientConfig) -> io::Result<Connection> {
        let local = socket.local_addr();
        let addresses = tokio::net::lookup_host(&self.server).await?;
        let usable = addresses.filter(|address| address.is_ipv4() || local.is_ipv6());
        let mut last = io::Error::other("the name has no usable address");
        for address in by_use(usable.collect()) {
            let endpoint = plain_endpoint(local, address)?;
            let connecting = endpoint.connect_with(client.clone(), address, &self.name);
            match timeout(PATIENCE, connecting.map_err(io::Error::other)?).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error.into(),
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

impl Making {
    /// The switch in the socket.
    pub(super) fn detour(&self) -> &Arc<Detour> {
        self.socket.detour()
    }

    /// The ways that there may be.
    pub(super) fn rungs(&self) -> Vec<Rung> {
        let mut rungs = vec![Rung::Udp];
        rungs.extend(self.quic.is_some().then_some(Rung::Quic));
        rungs.extend(self.dialer.iter().flat_map(Dialer::rungs));
        rungs
    }

    /// Makes the way, or proves that it is there: what can carry, if it needs anything.
    pub(super) async fn make(
        &self,
        rung: Rung,
        mut seen: watch::Receiver<Option<Seen>>,
    ) -> io::Result<Option<Link>> {
        match rung {
            Rung::Udp => {
                let seen = wait_for(&mut seen).await;
                let by = By::Udp(Arc::clone(&self.socket));
                Asking { detour: Arc::clone(self.detour()), by, seen }.until_answered().await;
                // The control channel must be reached, too.
                let wanted = self.control.as_ref().filter(|_| !self.detour().has_session_by_udp());
                match (wanted, &self.quic) {
                    (Some(control), Some(place)) => {
                        place.connect(&self.socket, control).await.map(|_| None)
                    }
                    _ => Ok(None),
                }
            }
            Rung::Quic => {
                let unset = || io::Error::other("no such connection is taken there");
                let place = self.quic.as_ref().ok_or_else(unset)?;
                let connected = place.connect(&self.socket, &place.datagrams).await;
                connected.map(|connection| Some(Link::Datagrams(connection)))
            }
            Rung::Tls => self.dial(false).await.map(Some),
            Rung::Connect => self.dial(true).await.map(Some),
        }
    }

    async fn dial(&self, by_proxy: bool) -> io::Result<Link> {
        let unset = || io::Error::other("no tunnel is configured");
        let dialer = self.dialer.as_ref().ok_or_else(unset)?;
        let stream = if by_proxy { dialer.dial_by_proxy().await } else { dialer.dial().await };
        Ok(Link::Stream(Box::new(stream?)))
    }
}

/// A socket of its own, on the address that the node's is bound to.
fn plain_endpoint(local: SocketAddr, to: SocketAddr) -> io::Result<Endpoint> {
    let ip = match (local.ip(), to) {
        (ip, _) if !ip.is_unspecified() => ip,
        (_, SocketAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (_, SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, 0))?;
    overlay_tunnel::endpoint(EndpointConfig::default(), None, socket)
}

async fn wait_for(seen: &mut watch::Receiver<Option<Seen>>) -> Seen {
    loop {
        if let Some(seen) = *seen.borrow_and_update() {
            return seen;
        }
        if seen.changed().await.is_err() {
            // The overlay has stopped.
            return std::future::pending().await;
        }
    }
}
