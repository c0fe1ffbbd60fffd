//! A relay's connection: who it is, where it can be reached, and that it lives.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlay_core::NodeId;
use overlay_core::control::codec::{FrameReader, encode};
use overlay_core::control::relays::{FromRelay, MAX_RELAY_ENDPOINTS, RELAY_VERSION, ToRelay};
use overlay_core::wire::format_hex;
use overlay_relay::canonical;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use super::AdmitsRelays;
use super::connection::{CLOSE_MALFORMED, CLOSE_NOT_ENROLLED, CLOSE_TOLD, SET_UP_TIMEOUT};
use super::shared::Shared;
use crate::places::Place;
use crate::rendezvous::registry::RelaySite;

/// There are too many relays.
const CLOSE_TOO_MANY: VarInt = VarInt::from_u32(6);

/// How often it is looked whether the relay may still be here: it can be revoked.
const ADMISSION_INTERVAL: Duration = Duration::from_secs(2);

/// The most bytes of a hello: endpoints and a token.
const MAX_HELLO: usize = 4096;

/// Serves a connection to its end.
pub(super) async fn serve(
    connection: Connection,
    relay: NodeId,
    handshake: Place,
    shared: &Shared,
    admits: &dyn AdmitsRelays,
) {
    let (code, reason) = match timeout(SET_UP_TIMEOUT, greet(&connection, relay, admits)).await {
        // The sending side stays open: its end would be a message.
        Ok(Ok((site, _sending, stream))) => {
            drop(handshake);
            let endpoints = site.endpoints.clone();
            if shared.attach_relay(relay, site, connection.clone()) {
                tracing::info!(%relay, ?endpoints, "relay is there");
                end_of(stream, relay, admits).await;
                shared.detach_relay(relay, &connection);
                tracing::info!(%relay, "relay is gone");
                (CLOSE_TOLD, "this relay is not known any more, or its stream has ended".to_owned())
            } else {
                (CLOSE_TOO_MANY, "there are too many relays".to_owned())
            }
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => (CLOSE_MALFORMED, "the relay opens a stream and says hello".to_owned()),
    };
    connection.close(code, reason.as_bytes());
}

type Refusal = (VarInt, String);

async fn greet(
    connection: &Connection,
    relay: NodeId,
    admits: &dyn AdmitsRelays,
) -> Result<(RelaySite, SendStream, RecvStream), Refusal> {
    let malformed = |why: String| (CLOSE_MALFORMED, why);
    let stream = connection.accept_bi().await;
    let (mut send, mut receive) = stream.map_err(|error| malformed(error.to_string()))?;
    let FromRelay::Hello { version, software, token, endpoints, tunnel } =
        hello(&mut receive).await?;
    if version != RELAY_VERSION {
        let ours = format!("this coordinator speaks version {RELAY_VERSION} of the relay protocol");
        return Err(malformed(format!("{ours}, not {version}")));
    }
    let observed = canonical(connection.remote_address()).ip();
    let endpoints = usable(endpoints, observed);
    if endpoints.is_empty() {
        return Err(malformed("a relay names an endpoint that nodes can reach".to_owned()));
    }
    let keys = admits.admit(relay, token.as_deref()).await.ok_or_else(|| {
        let reason = match token {
            Some(_) => {
                "its token is used up, expired, revoked or a node's: start it with a new one of `coordinator \
                 token add --relay`"
            }
            None => {
                "this relay is not enrolled: start it with a new token of `coordinator token add --relay`"
            }
        };
        (CLOSE_NOT_ENROLLED, reason.to_owned())
    })?;
    let software: String = software.chars().filter(|c| !c.is_control()).take(64).collect();
    tracing::debug!(%relay, %software, "a relay says hello");
    let welcome = ToRelay::Welcome {
        ticket_key: format_hex(&keys.ticket_key),
        reflector_key: format_hex(&keys.reflector_key),
    };
    let bytes = encode(&welcome).map_err(|error| malformed(error.to_string()))?;
    send.write_all(&bytes).await.map_err(|error| malformed(error.to_string()))?;
    let tunnel = tunnel.filter(|port| *port != 0);
    Ok((RelaySite { keys, endpoints, tunnel }, send, receive))
}

async fn hello(stream: &mut RecvStream) -> Result<FromRelay, Refusal> {
    let mut reader = FrameReader::<FromRelay>::new();
    let mut bytes = 0;
    loop {
        let read = |error: &dyn std::fmt::Display| (CLOSE_MALFORMED, error.to_string());
        if let Some(message) = reader.next_message().map_err(|error| read(&error))? {
            return Ok(message);
        }
        let chunk = stream.read_chunk(MAX_HELLO, true).await.map_err(|error| read(&error))?;
        let Some(chunk) = chunk else { return Err(read(&"the stream ended before the hello")) };
        bytes += chunk.bytes.len();
        if bytes > MAX_HELLO {
            return Err(read(&"the hello is too long"));
        }
        reader.extend(&chunk.bytes);
    }
}

/// Endpoints that nodes can send to. An unspecified address means the one that the coordinator sees.
fn usable(endpoints: Vec<SocketAddr>, observed: IpAddr) -> Vec<SocketAddr> {
    let named = endpoints.into_iter().take(MAX_RELAY_ENDPOINTS).map(canonical);
    let completed = named.map(|endpoint| match endpoint.ip().is_unspecified() {
        true => SocketAddr::new(observed, endpoint.port()),
        false => endpoint,
    });
    completed.filter(|endpoint| endpoint.port() != 0 && !endpoint.ip().is_multicast()).collect()
}

/// Completes when the relay has ended, was silent for too long, or may not be here any more.
async fn end_of(mut stream: RecvStream, relay: NodeId, admits: &dyn AdmitsRelays) {
    let mut look = tokio::time::interval(ADMISSION_INTERVAL);
    let mut unread = [0; 256];
    loop {
        tokio::select! {
            read = stream.read(&mut unread) => match read {
                // Later versions may say more; what they may not do is to keep this side busy.
                Ok(Some(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                Ok(None) | Err(_) => return,
            },
            _ = look.tick() => {
                if admits.admit(relay, None).await.is_none() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_completed_and_senseless_ones_left_out() {
        let named = ["0.0.0.0:6444", "192.0.2.1:0", "224.0.0.1:1", "[::ffff:192.0.2.7]:5"];
        let named = named.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        let expected: Vec<SocketAddr> =
            ["198.51.100.1:6444", "192.0.2.7:5"].iter().map(|e| e.parse().unwrap()).collect();
        assert_eq!(usable(named, "198.51.100.1".parse().unwrap()), expected);
        let many = vec!["192.0.2.1:1".parse().unwrap(); 40];
        assert_eq!(usable(many, "198.51.100.1".parse().unwrap()).len(), MAX_RELAY_ENDPOINTS);
    }
}
