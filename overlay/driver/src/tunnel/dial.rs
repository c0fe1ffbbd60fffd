//! Makes the stream: TCP, or a proxy's CONNECT, then TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel as Connect;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use overlay_core::ladder::Rung;
use overlay_core::wire::tunnel::ALPN;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::TunnelConfig;

/// How long a stream may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes streams to the coordinator's gateway.
pub(crate) struct Dialer {
    config: TunnelConfig,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// The tunnel cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name of a TLS server")]
pub(crate) struct BadName(String);

impl Dialer {
    /// `name` is what the coordinator's certificate must carry.
    pub(crate) fn new(
        config: TunnelConfig,
        name: &str,
        mut tls: rustls::ClientConfig,
    ) -> Result<Self, BadName> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| BadName(name.to_owned()))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config, name, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// The rungs that it can make.
    pub(super) fn rungs(&self) -> impl Iterator<Item = Rung> {
        [Rung::Tls].into_iter().chain(self.config.proxy.is_some().then_some(Rung::Connect))
    }

    /// When better ways are tried again.
    pub(super) fn recheck(&self) -> Duration {
        self.config.recheck
    }

    /// A stream to the gateway, directly.
    pub(super) async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        within(async { self.shake_hands(TcpStream::connect(&self.config.server).await?).await })
            .await
    }

    /// A stream to the gateway, through the proxy.
    pub(super) async fn dial_by_proxy(&self) -> io::Result<TlsStream<TcpStream>> {
        let proxy = self.config.proxy.as_deref().unwrap_or_default();
        within(async { self.shake_hands(self.connect(proxy).await?).await }).await
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        // Small packets are keep-alives and handshakes: they shall not wait for more.
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(chosen) if chosen == ALPN => Ok(stream),
            Some(_) | None => {
                Err(io::Error::other("the coordinator has no tunnel: is it too old?"))
            }
        }
    }

    async fn connect(&self, proxy: &str) -> io::Result<TcpStream> {
        let unusable = |what: &str| io::Error::other(format!("the proxy {what} cannot be used"));
        let server: Uri =
            format!("https://{}", self.config.server).parse().map_err(io::Error::other)?;
        // The matcher reads user and password out of the proxy's URL.
        let matcher = Matcher::builder().all(proxy.to_owned()).build();
        let proxy = matcher.intercept(&server).ok_or_else(|| unusable("address"))?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let mut connect = Connect::new(proxy.uri().clone(), connector);
        if let Some(auth) = proxy.basic_auth() {
            connect = connect.with_auth(auth.clone());
        }
        let stream = connect.call(server).await.map_err(io::Error::other)?;
        Ok(TokioIo::into_inner(stream))
    }
}

async fn within<T>(dialled: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
