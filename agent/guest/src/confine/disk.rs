//! A job's disk budget. File systems have no limit for a folder that an ordinary user could set, so the shim
//! looks: at the file system, which costs nothing, and at the folder when the file system has filled up by a
//! good part of the budget since it last did.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::time::{Instant, sleep};

use crate::stage::baseline::walk;

/// How often the file system is asked. Chosen: a fast disk takes half a gigabyte in it.
const INTERVAL: Duration = Duration::from_millis(250);

/// How often the folder is looked at, whatever the file system says.
const WALK_INTERVAL: Duration = Duration::from_secs(60);

/// What must stay free of the volunteer's disk, bytes. Chosen: a desktop still works with it.
const RESERVE: u64 = 256 << 20;

/// The part of the budget whose loss makes the folder worth a look.
const SHARE: u64 = 8;

/// What a file costs beside its bytes: a job that makes empty files fills the disk as well.
const ENTRY_BYTES: u64 = 512;

/// Completes with a sentence when what is in `work` has become more than `budget` bytes, or the disk is nearly
/// full; never with a budget of 0.
pub async fn exceeded(work: PathBuf, budget: u64) -> String {
    if budget == 0 {
        return std::future::pending().await;
    }
    let at_start = free(&work).unwrap_or(u64::MAX);
    let (mut free_then, mut walked) = (at_start, Instant::now());
    loop {
        sleep(INTERVAL).await;
        let Ok(now) = free(&work) else { continue };
        // Who begins on a full disk may go on with what is there.
        let is_full = now < RESERVE && now < at_start / 2;
        let is_worth_a_look = now < free_then.saturating_sub(budget / SHARE);
        if !is_full && !is_worth_a_look && walked.elapsed() < WALK_INTERVAL {
            continue;
        }
        let folder = work.clone();
        let used = tokio::task::spawn_blocking(move || used(&folder)).await;
        let used = used.ok().and_then(Result::ok).unwrap_or(0);
        if used > budget {
            return format!("the job has written more than its {} MiB of disk", budget >> 20);
        }
        if is_full {
            return format!(
                "the node's disk is nearly full; the job has written {} MiB",
                used >> 20
            );
        }
        (free_then, walked) = (now, Instant::now());
    }
}

fn free(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.blocks_available() * found.fragment_size())
}

/// What a folder takes of the disk, about.
fn used(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0u64;
    let walked = walk(folder, |_, metadata| bytes += metadata.blocks() * 512 + ENTRY_BYTES)?;
    // More files than are looked at are too many.
    Ok(if walked.complete { bytes } else { u64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_blocks_and_not_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("sparse")).unwrap();
        file.set_len(1 << 40).unwrap();
        std::fs::write(folder.path().join("full"), vec![1u8; 1 << 20]).unwrap();
        let used = used(folder.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
    }
}
