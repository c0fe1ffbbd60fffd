//! Makes the stream: TCP, or a proxy's CONNECT, then TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel as Connect;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use overlay_core::wire::tunnel::ALPN;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::TunnelConfig;

/// How long a stream may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// The proxy is tried when the direct way has not worked for so long. Chosen: a handshake over most
/// links.
const PROXY_AFTER: Duration = Duration::from_millis(300);

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

    /// How often UDP is tried again.
    pub(crate) fn recheck(&self) -> Duration {
        self.config.recheck
    }

    /// A stream to the gateway: directly, or through the proxy where one is set, whichever comes about
    /// first.
    pub(crate) async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let dialled = timeout(PATIENCE, async {
            let direct =
                async { self.shake_hands(TcpStream::connect(&self.config.server).await?).await };
            let Some(proxy) = &self.config.proxy else { return direct.await };
            let proxied = async {
                sleep(PROXY_AFTER).await;
                self.shake_hands(self.connect(proxy).await?).await
            };
            tokio::pin!(direct, proxied);
            tokio::select! {
                stream = &mut direct => match stream {
                    Ok(stream) => Ok(stream),
                    Err(_) => proxied.await,
                },
                stream = &mut proxied => match stream {
                    Ok(stream) => Ok(stream),
                    Err(_) => direct.await,
                },
            }
        });
        dialled.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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
