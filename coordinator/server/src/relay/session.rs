//! One connection with the coordinator.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coordinator_client::pinned_tls_with_identity;
use overlay_core::control::codec::{FrameReader, encode};
use overlay_core::control::relays::{FromRelay, RELAY_ALPN, RELAY_VERSION, ToRelay};
use overlay_relay::RelayKeys;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use quinn::{TransportConfig, VarInt};
use tokio::time::timeout;

use super::any_like;
use super::place::{Place, keys_of};

/// Between packets that say that the relay lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Silence after which either side gives the other up. Chosen: the pairs have gone over another relay by
/// themselves before (3 s); from then on nobody is sent here any more.
const SILENCE: Duration = Duration::from_secs(4);

/// How long the coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The coordinator's close code for whom it does not know.
const NOT_ENROLLED: VarInt = VarInt::from_u32(1);

/// Why there is no connection.
pub(super) enum Ended {
    /// The coordinator does not want this relay.
    Refused(String),
    /// Anything else.
    Lost(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Where nodes reach the relay.
pub(super) struct Reached {
    /// By UDP.
    pub(super) endpoints: Vec<SocketAddr>,
    /// The TCP port beside them.
    pub(super) tunnel: u16,
}

/// A relay that the coordinator knows.
pub(super) struct Session {
    connection: Connection,
    /// Ends with the session.
    _endpoint: Endpoint,
    _streams: (SendStream, RecvStream),
}

impl Session {
    /// Connects, says hello and gets the keys.
    pub(super) async fn open(
        place: &Place,
        token: Option<&str>,
        reached: &Reached,
    ) -> Result<(Self, RelayKeys), Ended> {
        let opened = timeout(PATIENCE, Self::try_open(place, token, reached)).await;
        opened.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}").into()))
    }

    async fn try_open(
        place: &Place,
        token: Option<&str>,
        reached: &Reached,
    ) -> Result<(Self, RelayKeys), Ended> {
        let Some(membership) = place.membership() else {
            return Err(Ended::Refused("it has never enrolled".to_owned()));
        };
        let mut tls = pinned_tls_with_identity(membership.root, place.identity()?)?;
        tls.alpn_protocols = vec![RELAY_ALPN.to_vec()];
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(SIGN_OF_LIFE));
        transport.max_idle_timeout(Some(SILENCE.try_into()?));
        config.transport_config(Arc::new(transport));
        let mut found = tokio::net::lookup_host(&membership.server).await?;
        let server = found.next().ok_or_else(|| anyhow::anyhow!("the name has no address"))?;
        let endpoint = Endpoint::client(any_like(server))?;
        let connection = endpoint.connect_with(config, server, &membership.name)?.await?;
        let result = greet(&connection, token, reached).await;
        match (result, connection.close_reason()) {
            (Ok((streams, keys)), _) => {
                Ok((Self { connection, _endpoint: endpoint, _streams: streams }, keys))
            }
            (Err(_), Some(reason)) => Err(ended_by(reason)),
            (Err(error), None) => Err(Ended::Lost(error)),
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(self) -> Ended {
        ended_by(self.connection.closed().await)
    }
}

fn ended_by(reason: ConnectionError) -> Ended {
    if let ConnectionError::ApplicationClosed(close) = &reason
        && close.error_code == NOT_ENROLLED
    {
        return Ended::Refused(String::from_utf8_lossy(&close.reason).into_owned());
    }
    Ended::Lost(reason.into())
}

async fn greet(
    connection: &Connection,
    token: Option<&str>,
    reached: &Reached,
) -> anyhow::Result<((SendStream, RecvStream), RelayKeys)> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let hello = FromRelay::Hello {
        version: RELAY_VERSION,
        software: concat!("coordinator relay ", env!("CARGO_PKG_VERSION")).to_owned(),
        token: token.map(str::to_owned),
        endpoints: reached.endpoints.clone(),
        tunnel: Some(reached.tunnel),
    };
    send.write_all(&encode(&hello)?).await?;
    let mut reader = FrameReader::<ToRelay>::new();
    let welcome = loop {
        if let Some(message) = reader.next_message()? {
            break message;
        }
        let chunk = receive.read_chunk(usize::MAX, true).await?;
        let chunk = chunk.ok_or_else(|| anyhow::anyhow!("the stream ended before the answer"))?;
        reader.extend(&chunk.bytes);
    };
    let ToRelay::Welcome { ticket_key, reflector_key } = welcome;
    let keys = keys_of(&ticket_key, &reflector_key);
    let keys = keys.ok_or_else(|| anyhow::anyhow!("the coordinator gave keys that are none"))?;
    Ok(((send, receive), keys))
}
