//! The coordinator's certificates: a root for ever, leaves for a day.
//!
//! Clients pin the root ([`Pki::root_pin`]), so the leaf can change under them at any time. The chain that
//! the server shows is leaf, root.

mod leaf;
mod root;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use coordinator_client::RootPin;
use overlay_core::NodeId;
use overlay_relay::RelayKeys;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use self::leaf::Leaf;
use self::root::Root;

/// Making or reading the certificates failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The folder or a file in it cannot be used.
    #[error("cannot use {path}: check the data directory's permissions and free space")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The stored root is not what this program wrote.
    #[error("{path} is damaged: restore it from a backup, or remove it to begin with a new root")]
    DamagedRoot {
        /// The file.
        path: String,
    },
    /// A name of the coordinator can stand in no certificate.
    #[error("`{name}` is neither a host name nor an IP address")]
    BadName {
        /// The name.
        name: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library takes no such key.
    #[error("cannot use a freshly made key")]
    Key(#[from] rustls::Error),
}

/// The root and the current leaf.
pub struct Pki {
    root: Root,
    names: Vec<String>,
    leaf: Mutex<Arc<Leaf>>,
}

impl Pki {
    /// Reads the root in the folder `dir`, or makes folder and root, and makes a first leaf.
    ///
    /// The leaf holds `names` (host names or IP addresses), `localhost`, `127.0.0.1` and `::1`. Several
    /// processes may open the same folder: the first one's root is everybody's.
    ///
    /// # Errors
    ///
    /// See [`PkiError`].
    pub fn open(dir: &Path, names: &[String]) -> Result<Self, PkiError> {
        Self::open_at(dir, names, OffsetDateTime::now_utc())
    }

    fn open_at(dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Self, PkiError> {
        let root = Root::open(dir)?;
        let names = leaf::complete(names)?;
        let leaf = Mutex::new(Arc::new(Leaf::make(&root, &names, now)?));
        Ok(Self { root, names, leaf })
    }

    /// What join tokens and login strings name.
    pub fn root_pin(&self) -> RootPin {
        RootPin::of_certificate(self.root.certificate())
    }

    /// SHA-256 of the root certificate's DER.
    pub fn root_sha256(&self) -> [u8; 32] {
        self.root_pin().0
    }

    /// The secret of QUIC's stateless resets, see [`RendezvousConfig`](crate::rendezvous::RendezvousConfig).
    pub fn reset_secret(&self) -> [u8; 32] {
        self.root.reset_secret()
    }

    /// The keys of the coordinator's own relay, the same after every start.
    pub fn relay_keys(&self) -> RelayKeys {
        self.root.relay_keys().clone()
    }

    /// The keys of a relay that runs alone: of no use at any other, and the same after every start.
    pub fn keys_of_relay(&self, relay: NodeId) -> RelayKeys {
        self.root.keys_of_relay(relay)
    }

    /// For the TLS and QUIC servers: the current leaf, renewed when it is due.
    pub fn resolver(self: &Arc<Self>) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver(self.clone()))
    }

    /// The leaf to show at `now`. Making one takes well under a millisecond (P-256).
    fn leaf_at(&self, now: OffsetDateTime) -> Arc<Leaf> {
        let mut current = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_due(now) {
            match Leaf::make(&self.root, &self.names, now) {
                Ok(leaf) => *current = Arc::new(leaf),
                Err(error) => tracing::error!(%error, "cannot renew the server's certificate"),
            }
        }
        current.clone()
    }
}

struct Resolver(Arc<Pki>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("names", &self.0.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.leaf_at(OffsetDateTime::now_utc()).certified.clone())
    }
}

#[cfg(test)]
mod tests;
