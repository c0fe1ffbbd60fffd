//! The users' own areas on the coordinator's disk: what OAR's media routes read and write.
//!
//! `DIR/of-LOGIN/…` holds regular files and folders only, made here. A path is a list of plain names below the
//! user's folder: nothing in it leads upwards, and no link is followed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The longest file, bytes. Chosen: scripts, parameters, outputs; archives have routes of their own.
pub const MAX_FILE: usize = 64 << 20;

/// The most bytes of one user.
const MAX_AREA: u64 = 1 << 30;

/// The most files and folders of one user.
const MAX_ENTRIES: u64 = 10_000;

/// The most folders in one another, and the longest name, bytes (ext4's).
const MAX_DEPTH: usize = 32;
const MAX_NAME: usize = 255;

/// Why something is not done with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not a path below the user's folder.
    #[error("a path here is ~/ and plain names with / between")]
    Path,
    /// There is none.
    #[error("there is no such file or folder")]
    Missing,
    /// It is there, and may not be replaced.
    #[error("The file already exists")]
    Exists,
    /// A folder where a file is needed, or the other way round.
    #[error("it is not what it should be: a file, or a folder")]
    Kind,
    /// The area is full.
    #[error(
        "your files would be more than the 1 GiB or the 10,000 files that a user may have here"
    )]
    Full,
    /// The disk.
    #[error("cannot use the users' files")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        if is(&[io::ErrorKind::NotFound]) {
            Self::Missing
        } else if is(&[io::ErrorKind::NotADirectory, io::ErrorKind::IsADirectory]) {
            Self::Kind
        } else if is(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]) {
            Self::Full
        } else {
            Self::Io(error)
        }
    }
}

/// A path below a user's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPath(Vec<String>);

impl OwnPath {
    /// Reads `~/a/b`; `~/` is the folder itself.
    ///
    /// # Errors
    ///
    /// [`FileError::Path`] for everything else.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let below = text.strip_prefix('~').ok_or(FileError::Path)?;
        let below = match below.strip_prefix('/') {
            Some(below) => below.strip_suffix('/').unwrap_or(below),
            None if below.is_empty() => below,
            None => return Err(FileError::Path),
        };
        if below.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let names: Vec<String> = below.split('/').map(str::to_owned).collect();
        let is_plain = |name: &String| {
            !name.is_empty()
                && name.len() <= MAX_NAME
                && name != "."
                && name != ".."
                && !name.chars().any(char::is_control)
        };
        let good = names.len() <= MAX_DEPTH && names.iter().all(is_plain);
        if good { Ok(Self(names)) } else { Err(FileError::Path) }
    }

    /// The one name of a file right in the user's folder.
    pub fn single(&self) -> Option<&str> {
        match self.0.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }
}

/// One line of a folder's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// It is a folder.
    pub is_folder: bool,
    /// Kind and permissions, as in `stat`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Last change, seconds since the epoch.
    pub mtime: u64,
}

/// All users' areas. Every method works on the disk: not for a thread that answers polls.
#[derive(Clone, Debug)]
pub struct FileStore {
    dir: PathBuf,
}

impl FileStore {
    /// Opens or makes the folder `dir`, and removes uploads that a crash has left. Only one process may use it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// What lies in a folder, by name. The user's own folder is there from the beginning.
    ///
    /// # Errors
    ///
    /// See [`FileError`]; so for every method here.
    pub fn list(&self, user: &str, path: &OwnPath) -> Result<Vec<Entry>, FileError> {
        let folder = self.locate(user, path)?;
        let entries = match fs::read_dir(folder) {
            Err(error) if path.0.is_empty() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let modified =
                metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            found.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_folder: metadata.is_dir(),
                mode: metadata.mode(),
                size: metadata.len(),
                mtime: modified.map_or(0, |since| since.as_secs()),
            });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// A file's content.
    pub fn read(&self, user: &str, path: &OwnPath) -> Result<Vec<u8>, FileError> {
        let file = self.locate(user, path)?;
        if !fs::symlink_metadata(&file)?.is_file() {
            return Err(FileError::Kind);
        }
        Ok(fs::read(file)?)
    }

    /// Makes a file and the folders above it; with `replace` in place of an earlier one. What is there is
    /// whole: a file appears by renaming.
    pub fn write(
        &self,
        user: &str,
        path: &OwnPath,
        content: &[u8],
        replace: bool,
    ) -> Result<(), FileError> {
        let file = self.locate(user, path)?;
        let folder = file.parent().filter(|_| !path.0.is_empty()).ok_or(FileError::Path)?;
        match fs::symlink_metadata(&file) {
            Ok(found) if !found.is_file() => return Err(FileError::Kind),
            Ok(_) if !replace => return Err(FileError::Exists),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let (bytes, entries) = measure(&self.area(user))?;
        let more = u64::try_from(path.0.len()).unwrap_or(u64::MAX);
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if bytes.saturating_add(length) > MAX_AREA || entries.saturating_add(more) > MAX_ENTRIES {
            return Err(FileError::Full);
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut upload = tempfile::NamedTempFile::new_in(&self.dir)?;
        upload.write_all(content)?;
        upload.as_file().sync_all()?;
        if replace {
            upload.persist(&file).map_err(|error| error.error)?;
        } else {
            // Of two at a time one is the first.
            upload.persist_noclobber(&file).map_err(|error| {
                let is_there = error.error.kind() == io::ErrorKind::AlreadyExists;
                if is_there { FileError::Exists } else { error.error.into() }
            })?;
        }
        Ok(File::open(folder)?.sync_all()?)
    }

    /// Sets a file's permissions; its owner, the coordinator, may always read and write.
    pub fn chmod(&self, user: &str, path: &OwnPath, mode: u32) -> Result<(), FileError> {
        let file = self.locate(user, path)?;
        if !fs::symlink_metadata(&file)?.is_file() {
            return Err(FileError::Kind);
        }
        Ok(fs::set_permissions(file, Permissions::from_mode(mode & 0o777 | 0o600))?)
    }

    /// Removes a file, or an empty folder.
    pub fn remove(&self, user: &str, path: &OwnPath) -> Result<(), FileError> {
        let file = self.locate(user, path)?;
        if path.0.is_empty() {
            return Err(FileError::Path);
        }
        match fs::symlink_metadata(&file)?.is_dir() {
            true => fs::remove_dir(file).map_err(|error| {
                let is_full = error.kind() == io::ErrorKind::DirectoryNotEmpty;
                if is_full { FileError::Kind } else { error.into() }
            }),
            false => Ok(fs::remove_file(file)?),
        }
    }

    /// A user's folder. A login has no slash in it, but may be `..`.
    fn area(&self, user: &str) -> PathBuf {
        self.dir.join(format!("of-{user}"))
    }

    /// The path on the disk; a link on the way, which is none of ours, is as good as nothing.
    fn locate(&self, user: &str, path: &OwnPath) -> Result<PathBuf, FileError> {
        let mut at = self.area(user);
        for name in &path.0 {
            at.push(name);
            match fs::symlink_metadata(&at) {
                Ok(found) if found.is_symlink() => return Err(FileError::Missing),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(at)
    }
}

/// Bytes and entries below a folder.
fn measure(folder: &Path) -> Result<(u64, u64), FileError> {
    let (mut bytes, mut entries) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let found = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        for entry in found {
            let entry = entry?;
            let metadata = entry.metadata()?;
            entries += 1;
            bytes += metadata.len();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok((bytes, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> OwnPath {
        OwnPath::parse(text).unwrap()
    }

    #[test]
    fn only_plain_names_below_the_own_folder_are_paths() {
        for odd in ["", "/etc/passwd", "~bob/x", "~/..", "~/a/../b", "~/a//b", "~/.", "~/a\0b"] {
            assert!(matches!(OwnPath::parse(odd), Err(FileError::Path)), "{odd:?}");
        }
        assert!(OwnPath::parse(&format!("~/{}", "a/".repeat(40))).is_err());
        assert_eq!(path("~"), path("~/"));
        assert_eq!(path("~/a").single(), Some("a"));
    }

    #[test]
    fn files_are_made_once_or_replaced_and_are_one_users() {
        let dir = tempfile::tempdir().unwrap();
        let files = FileStore::open(dir.path()).unwrap();
        let file = path("~/sub/dir/file.txt");
        assert_eq!(files.list("alice", &path("~/")).unwrap(), []);
        files.write("alice", &file, b"one", false).unwrap();
        assert!(matches!(files.write("alice", &file, b"two", false), Err(FileError::Exists)));
        assert_eq!(files.read("alice", &file).unwrap(), b"one");
        files.write("alice", &file, b"two", true).unwrap();
        assert_eq!(files.read("alice", &file).unwrap(), b"two");
        assert!(matches!(files.read("bob", &file), Err(FileError::Missing)));
        for kind in ["~/sub", "~/sub/dir/file.txt/x"] {
            assert!(matches!(files.write("alice", &path(kind), b"", true), Err(FileError::Kind)));
        }
        files.chmod("alice", &file, 0o7000).unwrap();
        let entries = files.list("alice", &path("~/sub/dir")).unwrap();
        assert_eq!(entries[0].mode, 0o100_600, "no special bits, and never unreadable");
        assert!(matches!(files.remove("alice", &path("~/sub")), Err(FileError::Kind)));
        files.remove("alice", &file).unwrap();
        assert!(matches!(files.remove("alice", &file), Err(FileError::Missing)));
    }

    #[test]
    fn links_that_somebody_has_laid_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let files = FileStore::open(dir.path()).unwrap();
        files.write("alice", &path("~/a"), b"", false).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("of-alice/etc")).unwrap();
        assert!(matches!(files.read("alice", &path("~/etc/passwd")), Err(FileError::Missing)));
        assert!(matches!(files.list("alice", &path("~/etc")), Err(FileError::Missing)));
    }
}
