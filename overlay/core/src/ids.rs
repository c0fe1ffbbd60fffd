//! Names of nodes, meshes and WireGuard keys.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A node's identity: its Ed25519 public key, 32 bytes, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

/// A node's WireGuard public key in one mesh, 32 bytes (X25519), written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireGuardKey(pub [u8; 32]);

/// A node's Ed25519 public key in one mesh, for the programs that run there, 32 bytes, written as 64 hexadecimal
/// digits: with it they know each other's SSH servers. The overlay itself has no use for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey(pub [u8; 32]);

/// The public keys that a node makes for one mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberKeys {
    /// Its packets'.
    pub wireguard: WireGuardKey,
    /// Its programs'.
    pub host: Option<HostKey>,
}

/// One launch of one job's network: the job's number and the generation of its launch.
///
/// A job that is launched again gets a new generation, new WireGuard keys and a new mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshId {
    /// The coordinator's job number.
    pub job: u64,
    /// The launch of that job, from 1.
    pub generation: u32,
}

/// One WireGuard session: a peer as seen in one mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The mesh that the session's traffic belongs to.
    pub mesh: MeshId,
    /// The node at the other end.
    pub peer: NodeId,
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is written as 64 hexadecimal digits")]
pub struct ParseKeyError;

macro_rules! key_text {
    ($name:ident, $prefix:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        /// Shortened to eight digits: enough to tell nodes apart in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{}"), &self.to_string()[..8])
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                let bytes =
                    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| ParseKeyError)?;
                Ok(Self(bytes.try_into().map_err(|_| ParseKeyError)?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

key_text!(NodeId, "node");
key_text!(WireGuardKey, "wg");
key_text!(HostKey, "host");

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mesh-{}.{}", self.job, self.generation)
    }
}
