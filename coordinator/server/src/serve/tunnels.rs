//! API and tunnels share a port: what the client chose in the TLS handshake (ALPN) tells which it is.

use std::io;
use std::pin::Pin;

use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use overlay_core::wire::tunnel;
use overlay_relay::gateway::Gateway;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::doorkeeper::{Doorkeeper, Placed};

/// Passes the API's connections on, and serves the tunnels itself.
#[derive(Clone)]
pub(super) struct Tunnels {
    tls: RustlsAcceptor<Doorkeeper>,
    gateway: Gateway,
}

impl Tunnels {
    pub(super) fn new(tls: RustlsAcceptor<Doorkeeper>, gateway: Gateway) -> Self {
        Self { tls, gateway }
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Tunnels {
    type Stream = TlsStream<Placed>;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Small packets, keep-alives and handshakes, shall not wait for more.
        let _ = stream.set_nodelay(true);
        let accepting = self.tls.accept(stream, service);
        let gateway = self.gateway;
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            if stream.get_ref().1.alpn_protocol() != Some(tunnel::ALPN) {
                return Ok((stream, service));
            }
            tokio::spawn(async move {
                if let Err(error) = gateway.serve(stream).await {
                    tracing::debug!(%error, "a tunnel has ended");
                }
            });
            // For the API there is nothing here.
            Err(io::ErrorKind::ConnectionAborted.into())
        })
    }
}
