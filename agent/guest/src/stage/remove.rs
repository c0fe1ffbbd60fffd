//! Removes a tree that a job has made: as deep as it likes, with rights taken away.
//!
//! The standard library's way needs a descriptor and a stack frame for each level, which a job can make
//! run out. Here every folder found inside a folder is first moved to the top, so that two levels are all
//! there ever is to look at. Nothing is reached through a link.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Removes `root` and all in it. Nothing there is nothing to do.
///
/// # Errors
/// When the disk fails, or something in it belongs to somebody else.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    let top = match File::open(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(root, Permissions::from_mode(0o700))?;
            File::open(root)?
        }
        opened => opened?,
    };
    top.set_permissions(Permissions::from_mode(0o700))?;
    // What is moved to the top may or may not be seen by the listing that is under way.
    while empty_once(&top)? {}
    fs::remove_dir(root)
}

/// Removes what `top` holds, and leaves there what those folders held. False when there was nothing.
fn empty_once(top: &File) -> io::Result<bool> {
    let mut found = false;
    for item in list(top)? {
        let item = item?;
        found = true;
        let name = item.file_name();
        if item.file_type()?.is_dir() {
            let folder = open_folder(top, &name)?;
            move_up(&folder, top)?;
            drop(folder);
            unlinkat(top, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
        } else {
            unlinkat(top, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(found)
}

/// Empties a folder: its folders go to `top`, the rest goes.
fn move_up(folder: &File, top: &File) -> io::Result<()> {
    for item in list(folder)? {
        let item = item?;
        let name = item.file_name();
        if !item.file_type()?.is_dir() {
            unlinkat(folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            continue;
        }
        let fresh = format!("{:032x}", rand::random::<u128>());
        match renameat(folder, name.as_os_str(), top, fresh.as_str()) {
            // A folder that changes its parent must be writable itself.
            Err(Errno::EACCES) => {
                drop(open_folder(folder, &name)?);
                renameat(folder, name.as_os_str(), top, fresh.as_str())?;
            }
            moved => moved?,
        }
    }
    Ok(())
}

/// Opens a folder inside `parent`, and gives its owner all rights in it.
fn open_folder(parent: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder: File = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::EACCES) => {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            openat(parent, name, flags, Mode::empty())?
        }
        opened => opened?,
    }
    .into();
    folder.set_permissions(Permissions::from_mode(0o700))?;
    Ok(folder)
}

fn list(folder: &File) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut at = File::open(&root).unwrap();
        for _ in 0..5_000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = open_folder(&at, OsStr::new("d")).unwrap();
        }
        nix::sys::stat::mkdirat(&at, "e", Mode::S_IRWXU).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("root"), folder.path().join("other"));
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "kept").unwrap();
        symlink(&other, root.join("link")).unwrap();
        symlink(&other, root.join("a/b/link")).unwrap();
        fs::write(root.join("a/b/file"), "").unwrap();
        for shut in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(root.join(shut), Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "kept");
    }
}
