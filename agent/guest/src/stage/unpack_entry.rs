//! One entry of an archive, on its way into the target directory.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use tar::{Entry, EntryType};

use super::unpack::Seen;

/// The deepest path. Chosen: keeps every path below the kernel's PATH_MAX of 4,096 bytes with
/// ordinary names.
const MAX_DEPTH: usize = 64;

/// Why an entry is refused.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The path starts at the root, or a link points there.
    #[error("{0:?} is an absolute path")]
    Absolute(PathBuf),
    /// The path holds `..`, or a link leaves the job's directory.
    #[error("{0:?} leads out of the job's directory")]
    Escapes(PathBuf),
    /// The path names nothing, or is too deep.
    #[error("the path is empty or deeper than {MAX_DEPTH} folders")]
    BadPath,
    /// A parent of the path is a symbolic link.
    #[error("{0:?} is a symbolic link made by the same archive")]
    ThroughLink(PathBuf),
    /// An earlier entry made the same path.
    #[error("the archive holds this path twice")]
    Duplicate,
    /// A parent of the path is a file.
    #[error("{0:?} is not a folder")]
    NotAFolder(PathBuf),
    /// A hard link to something that the archive has not made before.
    #[error("it is a hard link to {0:?}, which is no file that came before it in the archive")]
    HardLink(PathBuf),
    /// A device, a fifo or something unknown.
    #[error("its type {0:?} is not a file, a folder or a link")]
    Type(EntryType),
    /// A pax record overrides the size.
    #[error("a pax record overrides its size")]
    SizeOverride,
    /// The disk failed, or the archive is cut short.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl EntryError {
    /// The archive is at fault, not this machine's disk.
    pub(super) fn is_archives_fault(&self) -> bool {
        !matches!(self, Self::Io(error) if matches!(
            error.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::PermissionDenied
        ))
    }
}

/// The directory that is being filled.
pub(super) struct Target {
    root: PathBuf,
    files: Seen,
    folders: Seen,
    links: Seen,
}

impl Target {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, files: Seen::new(), folders: Seen::new(), links: Seen::new() }
    }

    /// Makes the folders above `path`, none of which may be a link or a file.
    fn make_parents(&mut self, path: &Path) -> Result<(), EntryError> {
        let mut parent = PathBuf::new();
        let parts: Vec<_> = path.components().collect();
        for part in &parts[..parts.len() - 1] {
            parent.push(part);
            self.make_folder(&parent)?;
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &Path) -> Result<(), EntryError> {
        if self.links.contains(path) {
            return Err(EntryError::ThroughLink(path.to_owned()));
        }
        if self.files.contains(path) {
            return Err(EntryError::NotAFolder(path.to_owned()));
        }
        if self.folders.insert(path.to_owned()) {
            DirBuilder::new().mode(0o755).create(self.root.join(path))?;
        }
        Ok(())
    }

    fn claim(&self, path: &Path) -> Result<(), EntryError> {
        let taken =
            self.files.contains(path) || self.links.contains(path) || self.folders.contains(path);
        if taken { Err(EntryError::Duplicate) } else { Ok(()) }
    }
}

pub(super) fn unpack_entry<R: Read>(
    entry: &mut Entry<'_, R>,
    target: &mut Target,
) -> Result<(), EntryError> {
    let kind = entry.header().entry_type();
    let path = plain_path(Path::new(OsStr::from_bytes(&entry.path_bytes())))?;
    if path.as_os_str().is_empty() {
        // `tar -C DIR .` names the directory itself first.
        return if kind == EntryType::Directory { Ok(()) } else { Err(EntryError::BadPath) };
    }
    target.make_parents(&path)?;
    let full = target.root.join(&path);

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an allow-list: every other type is refused"
    )]
    match kind {
        EntryType::Directory => {
            target.make_folder(&path)?;
        }
        EntryType::Regular | EntryType::Continuous => {
            target.claim(&path)?;
            // Owner may read and write; set-id and sticky bits are dropped.
            let mode = (entry.header().mode()? & 0o755) | 0o600;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&full)?;
            let size = entry.size();
            if io::copy(entry, &mut file)? != size {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            target.files.insert(path);
        }
        EntryType::Symlink => {
            target.claim(&path)?;
            let points_to = link_name(entry)?;
            check_link(&path, &points_to)?;
            std::os::unix::fs::symlink(&points_to, &full)?;
            target.links.insert(path);
        }
        EntryType::Link => {
            target.claim(&path)?;
            let name = link_name(entry)?;
            let first = plain_path(&name)?;
            if !target.files.contains(&first) {
                return Err(EntryError::HardLink(name));
            }
            fs::hard_link(target.root.join(&first), &full)?;
            target.files.insert(path);
        }
        other => return Err(EntryError::Type(other)),
    }
    Ok(())
}

fn link_name<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf, EntryError> {
    let bytes = entry.link_name_bytes().ok_or(EntryError::BadPath)?;
    Ok(PathBuf::from(OsStr::from_bytes(&bytes)))
}

/// The path without `.` parts; refuses absolute paths and `..`.
fn plain_path(path: &Path) -> Result<PathBuf, EntryError> {
    let mut plain = PathBuf::new();
    let mut depth = 0;
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => continue,
            Component::RootDir | Component::Prefix(_) => {
                return Err(EntryError::Absolute(path.to_owned()));
            }
            Component::ParentDir => return Err(EntryError::Escapes(path.to_owned())),
        }
        depth += 1;
    }
    if depth > MAX_DEPTH {
        return Err(EntryError::BadPath);
    }
    Ok(plain)
}

/// Whether the symbolic link at `link` stays inside the directory that both paths are relative to.
///
/// `..` counts only in front: behind a name, that name may itself be a link, and then the text does not
/// say where `..` leads. In front, the folders above the link are real folders.
pub(super) fn check_link(link: &Path, points_to: &Path) -> Result<(), EntryError> {
    let mut up = 0;
    let mut named = false;
    if points_to.as_os_str().is_empty() {
        return Err(EntryError::BadPath);
    }
    for part in points_to.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => {
                return Err(EntryError::Absolute(points_to.to_owned()));
            }
            Component::ParentDir if named => {
                return Err(EntryError::Escapes(points_to.to_owned()));
            }
            Component::ParentDir => up += 1,
            Component::Normal(_) => named = true,
            Component::CurDir => {}
        }
    }
    let above = link.components().count().saturating_sub(1);
    if up > above { Err(EntryError::Escapes(points_to.to_owned())) } else { Ok(()) }
}
