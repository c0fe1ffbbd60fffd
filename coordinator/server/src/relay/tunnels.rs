//! The relay for nodes that get no UDP out: TLS on a TCP port, with the key that is the relay's name.
//!
//! Whoever connects shows nothing: what comes out of a tunnel is judged by the relay like all other datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coordinator_client::Identity;
use overlay_core::wire::tunnel;
use overlay_relay::gateway::Gateway;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Never;
use super::door::{Door, PATIENCE};
use crate::places::Place;
use crate::serve::sockets;

/// After the system could not accept: there are no descriptors, for example.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Tunnels {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    gateway: Gateway,
    door: Door,
}

impl Tunnels {
    /// Listens; what comes goes on to the relay's UDP socket.
    pub(super) fn open(
        at: SocketAddr,
        identity: Identity,
        relay: SocketAddr,
        door: Door,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("cannot set TLS up")?
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .context("cannot use the relay's key for TLS")?;
        tls.alpn_protocols = vec![tunnel::ALPN.to_vec()];
        let listener = TcpListener::from_std(sockets::bind_tcp("--tunnel", at)?)
            .context("cannot use the socket of --tunnel")?;
        let address = listener.local_addr().context("cannot read the address of --tunnel")?;
        Ok(Self {
            listener,
            address,
            tls: TlsAcceptor::from(Arc::new(tls)),
            gateway: Gateway::of_relay(relay),
            door,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub(super) async fn serve(self) -> anyhow::Result<Never> {
        loop {
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a tunnel");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.door.knock(remote.ip()) else {
                tracing::debug!(%remote, "too many handshakes of tunnels");
                continue;
            };
            let (tls, gateway, door) = (self.tls.clone(), self.gateway, self.door.clone());
            tokio::spawn(async move {
                if let Err(error) = carry((stream, remote), &tls, gateway, (place, door)).await {
                    tracing::debug!(%error, "a tunnel has ended");
                }
            });
        }
    }
}

async fn carry(
    (stream, remote): (TcpStream, SocketAddr),
    tls: &TlsAcceptor,
    gateway: Gateway,
    (stranger, door): (Place, Door),
) -> io::Result<()> {
    // Small packets, keep-alives and handshakes, shall not wait for more.
    stream.set_nodelay(true)?;
    let accepted = timeout(PATIENCE, tls.accept(stream)).await;
    let stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if stream.get_ref().1.alpn_protocol() != Some(tunnel::ALPN) {
        return Err(io::Error::other("it asks for no tunnel"));
    }
    let _inside = door.enter(remote.ip()).ok_or_else(|| io::Error::other("too many tunnels"))?;
    drop(stranger);
    gateway.serve(stream).await
}
