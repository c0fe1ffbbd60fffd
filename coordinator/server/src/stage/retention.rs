//! What nobody needs any more goes: the disk is not endless.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{ContentHash, StageError, StageStore};

/// How long archives are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Stage-ins after their last use.
    pub stageins: Duration,
    /// Results after the last of them came.
    pub results: Duration,
}

/// What the jobs that have not ended need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Their stage-ins.
    pub stageins: BTreeSet<[u8; 32]>,
    /// Their numbers.
    pub jobs: BTreeSet<u64>,
}

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Stage-ins, or beginnings of them.
    pub stageins: u64,
    /// Jobs whose results went.
    pub results: u64,
}

impl StageStore {
    /// Removes what is older than `retention` and not needed.
    ///
    /// # Errors
    ///
    /// [`StageError::Io`]: what cannot be removed. What was removed before is gone.
    pub async fn clean(
        &self,
        now: SystemTime,
        retention: Retention,
        needed: &Needed,
    ) -> Result<Removed, StageError> {
        let mut removed = Removed::default();
        let mut stageins = tokio::fs::read_dir(self.inner.dir.join("in")).await?;
        while let Some(entry) = stageins.next_entry().await? {
            let Some(hash) = hash_of_name(&entry.file_name()) else { continue };
            if needed.stageins.contains(&hash.0) {
                continue;
            }
            // Nobody writes it, and nobody is just being told that it is here.
            let _writer = self.inner.stageins.lock(hash).await;
            if is_old(&entry.path(), now, retention.stageins).await? {
                tokio::fs::remove_file(entry.path()).await?;
                removed.stageins += 1;
            }
        }
        let mut results = tokio::fs::read_dir(self.inner.dir.join("out")).await?;
        while let Some(entry) = results.next_entry().await? {
            let name = entry.file_name();
            let Some(job) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else {
                continue;
            };
            if needed.jobs.contains(&job) {
                continue;
            }
            let _writer = self.inner.jobs.lock(job).await;
            if is_old(&entry.path(), now, retention.results).await? {
                tokio::fs::remove_dir_all(entry.path()).await?;
                removed.results += 1;
            }
        }
        Ok(removed)
    }

    /// Notes that a stage-in is used again.
    ///
    /// # Errors
    ///
    /// [`StageError::Io`].
    pub async fn touch_stagein(&self, hash: ContentHash) -> Result<(), StageError> {
        let _writer = self.inner.stageins.lock(hash).await;
        match std::fs::File::options().append(true).open(self.stagein_path(hash)) {
            Ok(file) => Ok(file.set_modified(SystemTime::now())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Of `HASH` and `HASH.part`.
fn hash_of_name(name: &OsStr) -> Option<ContentHash> {
    let name = name.to_str()?;
    name.strip_suffix(".part").unwrap_or(name).parse().ok()
}

/// A clock that was set back makes nothing old.
async fn is_old(path: &Path, now: SystemTime, keep: Duration) -> io::Result<bool> {
    match tokio::fs::metadata(path).await {
        Ok(metadata) => Ok(now.duration_since(metadata.modified()?).is_ok_and(|age| age > keep)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
