//! What a job's directory held before the job ran, to tell afterwards what the job made or changed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The most paths that are remembered or walked. Chosen: as for the archive's entries, with room for
/// what the job adds.
pub const MAX_PATHS: usize = 1_000_000;

/// The state of a directory tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline(BTreeMap<PathBuf, Mark>);

/// What changes when a file does. The change time cannot be set by a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Baseline {
    /// Reads the tree under `root`.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut marks = BTreeMap::new();
        walk(root, |relative, metadata| {
            marks.insert(relative.to_owned(), Mark::of(metadata));
        })?;
        Ok(Self(marks))
    }

    /// Whether `relative` is new, or another than it was. A folder that was there counts as unchanged.
    pub fn differs(&self, relative: &Path, metadata: &Metadata) -> bool {
        match self.0.get(relative) {
            None => true,
            Some(mark) => !metadata.is_dir() && *mark != Mark::of(metadata),
        }
    }
}

/// What a walk did not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// It did not stop at [`MAX_PATHS`].
    pub complete: bool,
    /// What could not be read (no right to, or too deep), the first [`MAX_UNREADABLE`] of them.
    pub unreadable: Vec<PathBuf>,
}

/// The most of [`Walked::unreadable`].
pub const MAX_UNREADABLE: usize = 1_000;

/// Visits everything under `root`, folders before what they hold, in the order of the names; follows no
/// link. Folders that cannot be read are passed over.
///
/// # Errors
/// When `root` cannot be read.
pub fn walk(root: &Path, mut visit: impl FnMut(&Path, &Metadata)) -> io::Result<Walked> {
    let mut unreadable = Vec::new();
    let mut pending = vec![PathBuf::new()];
    let mut count = 0;
    while let Some(folder) = pending.pop() {
        let listing = match fs::read_dir(root.join(&folder)) {
            Ok(listing) => listing,
            Err(error) if folder.as_os_str().is_empty() => return Err(error),
            Err(_) => {
                unreadable.push(folder);
                continue;
            }
        };
        let mut names: Vec<_> = listing.filter_map(|item| Some(item.ok()?.file_name())).collect();
        names.sort();
        let mut folders = Vec::new();
        for name in names {
            count += 1;
            if count > MAX_PATHS {
                return Ok(Walked { complete: false, unreadable });
            }
            let relative = folder.join(name);
            let Ok(metadata) = fs::symlink_metadata(root.join(&relative)) else {
                unreadable.push(relative);
                continue;
            };
            visit(&relative, &metadata);
            if metadata.is_dir() {
                folders.push(relative);
            }
        }
        unreadable.truncate(MAX_UNREADABLE);
        pending.extend(folders.into_iter().rev());
    }
    Ok(Walked { complete: true, unreadable })
}
