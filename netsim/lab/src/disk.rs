//! Whether there is room left on the disk of a run.

use std::path::Path;

use anyhow::bail;
use nix::sys::statvfs::statvfs;

/// The least that is room. Chosen: a page for each of a few logs; below it some program of the run
/// waits for something that cannot be written.
const LEAST: u64 = 32 * 1024;

/// With less than this left, whatever failed has probably failed for want of room: what could not be
/// written as a whole is taken back.
const LITTLE: u64 = 256 * 1024;

/// Fails when the disk that a directory is on is full.
pub(crate) fn check(dir: &Path) -> anyhow::Result<()> {
    if left(dir).is_some_and(|left| left < LEAST) {
        bail!("No space left on device: make room on the disk of {}", dir.display());
    }
    Ok(())
}

/// Adds the want of room to an error, where it is its likely cause.
pub(crate) fn explain(dir: &Path, error: anyhow::Error) -> anyhow::Error {
    match left(dir).filter(|left| *left < LITTLE) {
        Some(left) => {
            let (kib, dir) = (left / 1024, dir.display());
            error.context(format!("No space left on device: {kib} KiB on the disk of {dir}"))
        }
        None => error,
    }
}

/// None where the disk cannot be asked.
fn left(dir: &Path) -> Option<u64> {
    let disk = statvfs(dir).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}
