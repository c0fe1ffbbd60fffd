//! The files that make `ssh` work between a job's nodes without a flag: made by the agent, seen by the job in
//! [`SSH_DIRECTORY`].
//!
//! Each node of a job has one Ed25519 key, which is its server's host key and its programs' identity. Its public
//! half goes round with the netmap, so every node knows every other's and nobody else's. The secret half comes
//! from the mesh's WireGuard secret, so that an agent that takes a job up again has it, too; it cannot be
//! turned back into that.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use blake2::digest::Digest;
use overlay_core::HostKey;
use overlay_core::netmap::Netmap;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, PrivateKey};
use russh::keys::ssh_key::public::{Ed25519PublicKey, PublicKey};
use zeroize::Zeroizing;

use crate::environment::{MeshAddresses, USER};
use crate::job::replace;
use crate::mesh::WireGuardSecret;

/// Where the files are, as the job sees it: where OpenSSH's programs look of themselves.
pub const SSH_DIRECTORY: &str = "/etc/ssh";

/// The node's secret key.
pub const IDENTITY: &str = "id_ed25519";

/// Who may come in: the job's nodes.
pub const AUTHORIZED_KEYS: &str = "authorized_keys";

/// How the nodes' servers are known; OpenSSH's own name for it.
const KNOWN_HOSTS: &str = "ssh_known_hosts";

/// What OpenSSH's clients read.
const CONFIG: &str = "ssh_config";

/// Told apart from all other uses of the secret.
const LABEL: &[u8] = b"clouds-at-home ssh key 1";

/// A node's key for one job.
pub struct NodeKey(Ed25519Keypair);

impl NodeKey {
    /// The key that belongs to the mesh's secret.
    pub fn of(secret: &WireGuardSecret) -> Self {
        let mut hash = blake2::Blake2s256::new();
        hash.update(LABEL);
        hash.update(*secret.to_bytes());
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(hash.finalize().into());
        Self(Ed25519Keypair::from_seed(&seed))
    }

    /// What the other nodes may know.
    pub fn public(&self) -> HostKey {
        HostKey(self.0.public.0)
    }
}

/// Writes everything into the folder, which is made if need be: with the first netmap, and with each that follows.
///
/// # Errors
/// When the disk fails.
pub fn write(folder: &Path, key: &NodeKey, netmap: &Netmap) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let identity = folder.join(IDENTITY);
    if !identity.exists() {
        let text = PrivateKey::from(key.0.clone()).to_openssh(LineEnding::LF);
        let text = text.map_err(io::Error::other)?;
        let fresh = folder.join("id_ed25519.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        fs::rename(fresh, &identity)?;
    }
    replace(&folder.join(CONFIG), &config())?;
    replace(&folder.join(KNOWN_HOSTS), &known_hosts(netmap))?;
    replace(&folder.join(AUTHORIZED_KEYS), &authorized_keys(netmap))
}

/// Strict, since every key is known, and silent, since what a program prints is the job's output.
fn config() -> String {
    format!(
        "Host *\n\
         \x20 User {USER}\n\
         \x20 IdentityFile {SSH_DIRECTORY}/{IDENTITY}\n\
         \x20 IdentitiesOnly yes\n\
         \x20 PreferredAuthentications publickey\n\
         \x20 GlobalKnownHostsFile {SSH_DIRECTORY}/{KNOWN_HOSTS}\n\
         \x20 UserKnownHostsFile /dev/null\n\
         \x20 StrictHostKeyChecking yes\n\
         \x20 UpdateHostKeys no\n\
         \x20 LogLevel ERROR\n\
         \x20 SendEnv LANG LC_*\n"
    )
}

fn known_hosts(netmap: &Netmap) -> String {
    let mut text = String::new();
    for member in &netmap.members {
        let Some(key) = member.host_key.and_then(openssh) else { continue };
        let number = u32::from(member.index) + 1;
        let MeshAddresses { ipv4, ipv6 } = MeshAddresses::of(netmap.mesh, member.index);
        let _ = writeln!(text, "node-{number},{},{ipv4},{ipv6} {key}", member.name);
    }
    text
}

fn authorized_keys(netmap: &Netmap) -> String {
    let keys = netmap.members.iter().filter_map(|member| member.host_key.and_then(openssh));
    keys.map(|key| key + "\n").collect()
}

/// A key as OpenSSH writes it.
fn openssh(key: HostKey) -> Option<String> {
    PublicKey::from(Ed25519PublicKey(key.0)).to_openssh().ok()
}

#[cfg(test)]
mod tests {
    use overlay_core::netmap::{Member, NETMAP_VERSION};
    use overlay_core::{MeshId, NodeId, WireGuardKey};

    use super::*;

    fn netmap(keys: &[Option<HostKey>]) -> Netmap {
        let member = |(index, host_key): (u16, &Option<HostKey>)| Member {
            index,
            node: NodeId([index as u8; 32]),
            name: format!("vol-{index}"),
            wireguard_key: WireGuardKey([index as u8; 32]),
            host_key: *host_key,
        };
        Netmap {
            version: NETMAP_VERSION,
            mesh: MeshId { job: 7, generation: 1 },
            era: 0,
            epoch: 1,
            members: (0u16..).zip(keys).map(member).collect(),
            pattern: None,
            signature: None,
        }
    }

    #[test]
    fn the_key_follows_from_the_secret_and_is_not_it() {
        let secret = WireGuardSecret::generate();
        let key = NodeKey::of(&secret).public();
        assert_eq!(NodeKey::of(&secret).public(), key);
        assert_ne!(NodeKey::of(&WireGuardSecret::generate()).public(), key);
        assert_ne!(key.0, secret.public().0);
    }

    #[test]
    fn every_member_with_a_key_is_known_and_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let own = NodeKey::of(&WireGuardSecret::generate());
        let peer = NodeKey::of(&WireGuardSecret::generate()).public();
        write(folder.path(), &own, &netmap(&[Some(own.public()), None, Some(peer)])).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();

        let peer = openssh(peer).unwrap();
        let known = read(KNOWN_HOSTS);
        let line = known.lines().nth(1).unwrap();
        assert_eq!(known.lines().count(), 2);
        assert!(line.starts_with("node-3,vol-2,10.128.0.3,fd"), "{line}");
        assert!(line.ends_with(&peer), "{line}");
        assert_eq!(read(AUTHORIZED_KEYS).lines().nth(1), Some(peer.as_str()));

        let identity = PrivateKey::from_openssh(read(IDENTITY)).unwrap();
        assert_eq!(identity.public_key().to_openssh().ok(), openssh(own.public()));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(folder.path().join(IDENTITY)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
