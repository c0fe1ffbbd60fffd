//! The agent's directory on the disk: identity, credential, and a folder per launch.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenStateError {
    /// It cannot be made or opened.
    #[error("the state directory {path} cannot be used")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent holds it.
    #[error(
        "another agent uses the state directory {path}: stop it, or give this one its own with --state"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// The directory, held for this process alone.
pub struct StateDir {
    root: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Makes the directory if need be (0700) and locks it.
    ///
    /// # Errors
    /// [`OpenStateError`].
    pub fn open(path: &Path) -> Result<Self, OpenStateError> {
        let failed = |source| OpenStateError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let root = path.canonicalize().map_err(failed)?;
        let lock = lock_file(&root).map_err(failed)?;
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { root, _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(OpenStateError::InUse { path: root }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// The directory itself, absolute.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where the launches' folders are.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }
}

fn lock_file(root: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(root.join("lock"))
}

/// Whether an agent holds the directory.
pub fn is_in_use(path: &Path) -> bool {
    let Ok(file) = File::open(path.join("lock")) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Where the state is when nothing else is said: `$XDG_STATE_HOME/clouds-at-home/agent`, for root
/// `/var/lib/clouds-at-home/agent`.
pub fn default_path() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/clouds-at-home/agent"));
    }
    let base = directories::BaseDirs::new()?;
    Some(base.state_dir()?.join("clouds-at-home/agent"))
}

/// Writes a file that only its owner may read (0600): whole or not at all, also when the power fails.
///
/// # Errors
/// When the disk does.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a JSON file; none when it does not exist.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What to say where a state directory cannot be looked into.
pub fn unreadable(state: &Path) -> String {
    format!(
        "{} cannot be read: ask as the user whose agent it is, or name yours with --state",
        state.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        assert!(matches!(StateDir::open(folder.path()), Err(OpenStateError::InUse { .. })));
        assert!(is_in_use(folder.path()));
        drop(first);
        assert!(!is_in_use(folder.path()));
        StateDir::open(folder.path()).unwrap();
    }

    #[test]
    fn private_files_are_private_and_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.json");
        write_private(&path, b"\"a longer text\"").unwrap();
        write_private(&path, b"\"b\"").unwrap();
        assert_eq!(read_json::<String>(&path).unwrap().as_deref(), Some("b"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
