//! The control protocol between a relay that runs alone and the coordinator's rendezvous.
//!
//! The same socket and framing as the nodes' [control protocol](super), told apart by the ALPN
//! ([`RELAY_ALPN`]). Mutual TLS: the relay's certificate carries its Ed25519 key, which is its name. The
//! relay opens one stream and speaks first; the connection is its sign of life, so it keeps it lively.
//! When the connection ends, nodes are not sent to that relay any more.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The ALPN of this protocol, version 1.
pub const RELAY_ALPN: &[u8] = b"clouds-at-home/relay/1";

/// The version in [`FromRelay::Hello`].
pub const RELAY_VERSION: u16 = 1;

/// The most endpoints that a relay may announce. Chosen: a few addresses of both families.
pub const MAX_RELAY_ENDPOINTS: usize = 8;

/// What a relay says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromRelay {
    /// The first message of a connection.
    Hello {
        /// [`RELAY_VERSION`].
        version: u16,
        /// Name and version of the program, for people.
        software: String,
        /// The secret of an enrolment token, until the coordinator has answered once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Where nodes reach its UDP socket, at most [`MAX_RELAY_ENDPOINTS`].
        endpoints: Vec<SocketAddr>,
        /// The TCP port at those addresses where it takes tunnels over TLS; none: it takes none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tunnel: Option<u16>,
    },
}

/// Leaves the token out.
impl fmt::Debug for FromRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Hello { version, software, token: _, endpoints, tunnel } = self;
        f.debug_struct("Hello")
            .field("version", version)
            .field("software", software)
            .field("endpoints", endpoints)
            .field("tunnel", tunnel)
            .finish_non_exhaustive()
    }
}

/// What the coordinator says to a relay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToRelay {
    /// The answer to `Hello`: what tickets and reflector tokens for this relay are made with. Of no use
    /// at any other relay, and the same after every start of either side.
    Welcome {
        /// Opens tickets. Hexadecimal, 32 bytes.
        ticket_key: String,
        /// Makes reflector tokens. Hexadecimal, 32 bytes.
        reflector_key: String,
    },
}

/// Leaves the keys out.
impl fmt::Debug for ToRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Welcome { .. }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let hello = FromRelay::Hello {
            version: RELAY_VERSION,
            software: "relay 1".to_owned(),
            token: Some("5ec7e7".to_owned()),
            endpoints: vec!["192.0.2.1:6444".parse().unwrap()],
            tunnel: Some(443),
        };
        let key = "5ec7e7".to_owned();
        let welcome = ToRelay::Welcome { ticket_key: key.clone(), reflector_key: key };
        for shown in [format!("{hello:?}"), format!("{welcome:?}")] {
            assert!(!shown.contains("5ec7e7"), "{shown}");
        }
        let text = serde_json::to_string(&hello).unwrap();
        assert_eq!(serde_json::from_str::<FromRelay>(&text).unwrap(), hello);
        let older = "{\"type\":\"hello\",\"version\":1,\"software\":\"\",\"endpoints\":[]}";
        let FromRelay::Hello { tunnel, .. } = serde_json::from_str(older).unwrap();
        assert_eq!(tunnel, None, "relays of before took none");
    }
}
