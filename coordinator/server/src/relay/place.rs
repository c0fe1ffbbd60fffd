//! The relay's directory: its key, and its place at the coordinator.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coordinator_client::{Identity, JoinToken, RootPin};
use overlay_core::NodeId;
use overlay_core::wire::{format_hex, parse_key};
use overlay_relay::RelayKeys;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::serve::sockets::DataLock;

/// The file of the key: PEM.
const KEY_FILE: &str = "relay-key.pem";

/// The file of the membership: JSON.
const MEMBERSHIP_FILE: &str = "relay.json";

/// Where the coordinator is, whom to trust, and what it gave. There is no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Membership {
    /// Host and port of the control channel.
    pub(super) server: String,
    /// The API's URL, which tells where the control channel is; none: `server` was given by hand, or by an older
    /// version.
    #[serde(default)]
    pub(super) api: Option<String>,
    /// The name that the coordinator's certificate must carry.
    pub(super) name: String,
    /// The coordinator's root certificate.
    pub(super) root: RootPin,
    /// Once it has answered: ticket key and reflector key, hexadecimal.
    pub(super) keys: Option<(String, String)>,
}

/// See the module.
pub(super) struct Place {
    folder: PathBuf,
    key: KeyPair,
    membership: Option<Membership>,
    _lock: DataLock,
}

impl Place {
    /// Opens the directory, or makes it, for this process alone.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make the state directory {}", folder.display()))?;
        let lock = DataLock::take(folder)?;
        let key = match read(folder, KEY_FILE)? {
            Some(pem) => KeyPair::from_pem(&pem).with_context(|| {
                format!("{KEY_FILE} is damaged: restore it, or remove it and enrol anew")
            })?,
            None => {
                let key = KeyPair::generate_for(&PKCS_ED25519).context("cannot make a key")?;
                write_private(folder, KEY_FILE, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let membership = match read(folder, MEMBERSHIP_FILE)? {
            Some(text) => Some(serde_json::from_str(&text).with_context(|| {
                format!("{MEMBERSHIP_FILE} is damaged: restore it, or enrol anew")
            })?),
            None => None,
        };
        Ok(Self { folder: folder.to_owned(), key, membership, _lock: lock })
    }

    /// Notes where the coordinator is. The token's secret, if it is still to be shown.
    pub(super) fn enrol(
        &mut self,
        token: Option<JoinToken>,
        rendezvous: Option<&str>,
        membership_of: impl FnOnce(&JoinToken, Option<&str>) -> Option<Membership>,
    ) -> anyhow::Result<Option<String>> {
        match (&mut self.membership, token) {
            (Some(known), Some(token)) if known.root != token.root => bail!(
                "the state directory {} belongs to the relay of another coordinator: give this one \
                 its own with --state",
                self.folder.display()
            ),
            (Some(known), token) => {
                if let Some(server) = rendezvous {
                    known.server = server.to_owned();
                    known.api = None;
                }
                Ok(token.map(|token| token.token))
            }
            (None, Some(token)) => {
                self.membership = membership_of(&token, rendezvous);
                Ok(Some(token.token))
            }
            (None, None) => bail!(
                "this machine is no relay yet: give a token of `coordinator token add --relay` with \
                 --join"
            ),
        }
    }

    /// The relay's name.
    pub(super) fn id(&self) -> NodeId {
        let mut id = [0; 32];
        id.iter_mut().zip(self.key.public_key_raw()).for_each(|(byte, key)| *byte = *key);
        NodeId(id)
    }

    /// Where the coordinator is.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// The control channel is there.
    pub(super) fn set_server(&mut self, server: String) {
        if let Some(membership) = &mut self.membership {
            membership.server = server;
        }
    }

    /// The keys that the coordinator gave, this time or before.
    pub(super) fn keys(&self) -> Option<RelayKeys> {
        let (ticket_key, reflector_key) = self.membership.as_ref()?.keys.as_ref()?;
        keys_of(ticket_key, reflector_key)
    }

    /// Keeps them for the next start.
    pub(super) fn keep_keys(&mut self, keys: &RelayKeys) -> anyhow::Result<()> {
        let Some(membership) = &mut self.membership else { return Ok(()) };
        membership.keys = Some((format_hex(&keys.ticket_key), format_hex(&keys.reflector_key)));
        let text = serde_json::to_vec(membership).context("cannot write the membership")?;
        write_private(&self.folder, MEMBERSHIP_FILE, &text)
    }

    /// A self-signed certificate of the key: the coordinator looks at the key alone.
    pub(super) fn identity(&self) -> anyhow::Result<Identity> {
        let params = CertificateParams::new(Vec::new()).context("cannot make a certificate")?;
        let certificate = params.self_signed(&self.key).context("cannot make a certificate")?;
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Ok(Identity { certificate: certificate.der().clone(), key: PrivateKeyDer::Pkcs8(key) })
    }
}

/// Reads the two keys of a welcome.
pub(super) fn keys_of(ticket_key: &str, reflector_key: &str) -> Option<RelayKeys> {
    let ticket_key = parse_key(ticket_key).ok()?;
    Some(RelayKeys { ticket_key, reflector_key: parse_key(reflector_key).ok()? })
}

fn read(folder: &Path, name: &str) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read {name} in the state directory"))
        }
    }
}

/// Writes the file whole and durably (mode 0600).
fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(folder.join(name)).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {name} in the state directory"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn membership(token: &JoinToken, _: Option<&str>) -> Option<Membership> {
        let (server, name) = ("c.example:1".to_owned(), "c.example".to_owned());
        Some(Membership { server, api: None, name, root: token.root, keys: None })
    }

    fn token(root: u8) -> JoinToken {
        let url = "https://c.example:6443/oarapi".to_owned();
        JoinToken { url, root: RootPin([root; 32]), token: "secret".to_owned() }
    }

    #[test]
    fn a_relay_keeps_its_name_and_its_keys_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let keys = RelayKeys::generate();
        let mut first = Place::open(folder.path()).unwrap();
        assert!(first.enrol(None, None, membership).is_err(), "it needs a token");
        let secret = first.enrol(Some(token(1)), None, membership).unwrap();
        assert_eq!((secret.as_deref(), first.keys().is_none()), (Some("secret"), true));
        first.keep_keys(&keys).unwrap();
        assert!(Place::open(folder.path()).is_err(), "it is in use");
        let id = first.id();
        drop(first);
        let mut again = Place::open(folder.path()).unwrap();
        assert!(again.id() == id && again.keys() == Some(keys));
        assert_eq!(again.enrol(None, None, membership).unwrap(), None);
        assert!(again.enrol(Some(token(2)), None, membership).is_err(), "another coordinator");
        for name in [KEY_FILE, MEMBERSHIP_FILE] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
