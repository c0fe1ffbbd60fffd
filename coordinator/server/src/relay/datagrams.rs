//! The relay for nodes whose UDP gets to port 443 alone: QUIC's datagrams on the port of the tunnels, with the key
//! that is the relay's name.
//!
//! Whoever connects shows nothing; before the handshake costs this side anything, the address is proved (RFC 9000
//! §8.1.2).

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context;
use coordinator_client::Identity;
use overlay_core::wire::tunnel::DATAGRAM_ALPN;
use overlay_relay::gateway::Gateway;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt,
};
use tokio::time::timeout;

use super::Never;
use super::door::{Door, PATIENCE};
use crate::places::Place;

/// A connection without a packet for so long has ended: a node sends one every 10 s.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(30_000);

/// See the module.
pub(super) struct Datagrams {
    endpoint: Endpoint,
    gateway: Gateway,
    door: Door,
}

impl Datagrams {
    /// Listens on the port of the tunnels; none where the relay itself, or another program, has it.
    pub(super) fn open(
        at: SocketAddr,
        identity: Identity,
        relay: SocketAddr,
        door: Door,
    ) -> anyhow::Result<Option<Self>> {
        if at.port() == relay.port() {
            return Ok(None);
        }
        let socket = match UdpSocket::bind(at) {
            Ok(socket) => socket,
            Err(error) => {
                // A relay that has done without it shall start as before.
                tracing::warn!(%at, %error, "no QUIC beside the tunnels: cannot listen on this UDP port");
                return Ok(None);
            }
        };
        let server = server_config(identity)?;
        let endpoint = overlay_tunnel::endpoint(EndpointConfig::default(), Some(server), socket)
            .context("cannot use the UDP socket of --tunnel")?;
        Ok(Some(Self { endpoint, gateway: Gateway::of_relay(relay), door }))
    }

    /// Serves for ever.
    pub(super) async fn serve(self) -> Never {
        while let Some(incoming) = self.endpoint.accept().await {
            if !incoming.remote_address_validated() && incoming.may_retry() {
                // It fails only where a retry is not due.
                let _ = incoming.retry();
                continue;
            }
            let Some(place) = self.door.knock(incoming.remote_address().ip()) else {
                incoming.refuse();
                continue;
            };
            tokio::spawn(carry(incoming, self.gateway, (place, self.door.clone())));
        }
        // Nobody closes the endpoint.
        std::future::pending().await
    }
}

async fn carry(incoming: Incoming, gateway: Gateway, (stranger, door): (Place, Door)) {
    let remote = incoming.remote_address().ip();
    let Ok(connecting) = incoming.accept() else { return };
    let Ok(Ok(connection)) = timeout(PATIENCE, connecting).await else { return };
    let Some(_inside) = door.enter(remote) else {
        tracing::debug!(%remote, "too many tunnels");
        return;
    };
    drop(stranger);
    let ended = gateway.serve_datagrams(connection).await;
    tracing::debug!(?ended, "a tunnel of QUIC datagrams has ended");
}

fn server_config(identity: Identity) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("cannot set TLS up")?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)
        .context("cannot use the relay's key for TLS")?;
    tls.alpn_protocols = vec![DATAGRAM_ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).context("cannot set QUIC up")?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)));
    overlay_tunnel::prepare(&mut transport);
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport));
    Ok(server)
}
