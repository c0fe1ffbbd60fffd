//! Opens a file in a tree that a job has made.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Opens the file at `relative` under the folder `root` to read it, and meets no link on the way: every
/// folder of the path is opened as a folder, in the one before. Does not wait for a fifo's other end.
///
/// # Errors
/// When one of them is something else, or may not be read.
pub(crate) fn open_inside(root: &File, relative: &Path) -> io::Result<File> {
    let name = relative.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let both = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folder = root.try_clone()?;
    for part in relative.parent().into_iter().flat_map(Path::components) {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | both;
        folder = openat(&folder, part.as_os_str(), flags, Mode::empty())?.into();
    }
    Ok(openat(&folder, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | both, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        fs::create_dir_all(work.join("a/b")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        for place in ["outside/file", "work/a/b/file"] {
            fs::write(folder.path().join(place), place).unwrap();
        }
        symlink("../../outside", work.join("a/folder-link")).unwrap();
        symlink("b/file", work.join("a/file-link")).unwrap();
        // The control: these lead somewhere.
        assert!(work.join("a/folder-link/file").exists() && work.join("a/file-link").exists());

        let root = File::open(&work).unwrap();
        let mut text = String::new();
        let mut plain = open_inside(&root, Path::new("a/b/file")).unwrap();
        plain.read_to_string(&mut text).unwrap();
        assert_eq!(text, "work/a/b/file");
        for refused in ["a/folder-link/file", "a/file-link", "a/b/none", "a/b/file/x"] {
            assert!(open_inside(&root, Path::new(refused)).is_err(), "{refused}");
        }
    }
}
