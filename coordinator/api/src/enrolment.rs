//! How a volunteer's machine becomes a node.

use serde::{Deserialize, Serialize};

/// `POST /agents`: a join token, once, for a node's name and credential.
///
/// The same key that presents the same token again gets the same node and a fresh credential, so that a
/// lost answer costs nothing; another key is refused.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// The secret of the join token.
    pub token: String,
    /// The node's Ed25519 public key, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9a-fA-F]{64}$"))]
    pub node: String,
    /// Signature by that key of [`signed_text`], hexadecimal: the key's owner asks.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9a-fA-F]{128}$"))]
    pub signature: String,
    /// Cores that the volunteer gives.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 4096))]
    pub cores: u16,
    /// Memory that the volunteer gives, MiB.
    pub memory_mib: u64,
    /// Name and version of the program, for people.
    pub software: String,
}

/// What an [`Enrol`]'s signature covers.
pub fn signed_text(token: &str, node: &str) -> String {
    format!("clouds-at-home enrol 1\n{token}\n{node}\n")
}

/// The answer to [`Enrol`] (201).
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolled {
    /// The node's OAR host name, for ever.
    pub hostname: String,
    /// Bearer token of the node's further requests.
    pub credential: String,
    /// UDP endpoint of the control protocol, `host:port`; the host of the API's URL is meant when the
    /// host part is empty, as in `:6443`.
    pub rendezvous: String,
    /// How often to poll, milliseconds.
    pub poll_interval_ms: u64,
}

/// The answer to `GET /agents`: where agents and relays find the control channel. Nobody has to be known for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ControlChannel {
    /// As in [`Enrolled`].
    pub rendezvous: String,
}
