//! Stage-out: one archive for each rank of a job's newest launch.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use sha2::{Digest, Sha256};
use tokio::fs::File;

use super::receive::{self, ContentHash};
use super::{StageError, StageStore, Stored, live, result, sync_dir};

/// The most of an output that is shown at once, bytes; the archive has all of it. Chosen: what a browser shows.
const MAX_OUTPUT: u64 = 64 << 20;

/// What a rank has sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RankArchive {
    pub(super) rank: u16,
    pub(super) generation: u32,
    pub(super) path: PathBuf,
}

impl StageStore {
    /// Takes what `rank` sends of the launch `generation`, and replaces what it sent before.
    ///
    /// With `announced` (the header `X-Content-SHA256`) the hash is checked. Answers the hash.
    ///
    /// # Errors
    ///
    /// [`StageError::Stale`] if the rank has sent the results of a later launch; the others as for
    /// [`put_stagein`](Self::put_stagein). What was here before stays.
    pub async fn put_stageout<S, E>(
        &self,
        job: u64,
        rank: u16,
        generation: u32,
        announced: Option<ContentHash>,
        body: S,
    ) -> Result<ContentHash, StageError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: fmt::Display,
    {
        let limit = self.inner.limits.max_stageout;
        let upload = tempfile::NamedTempFile::new_in(self.tmp())?;
        let mut file = File::from_std(upload.as_file().try_clone()?);
        let mut hasher = Sha256::new();
        receive::append(&mut file, &mut hasher, limit, body).await.1?;
        let found = ContentHash(hasher.finalize().into());
        if let Some(wanted) = announced.filter(|wanted| *wanted != found) {
            return Err(StageError::WrongHash { wanted, found });
        }
        file.sync_all().await?;

        let _writer = self.inner.jobs.lock(job).await;
        let folder = self.job_folder(job);
        tokio::fs::create_dir_all(&folder).await?;
        let earlier: Vec<_> =
            archives(&folder)?.into_iter().filter(|archive| archive.rank == rank).collect();
        let newest = earlier.iter().map(|archive| archive.generation).max();
        if let Some(newest) = newest.filter(|newest| *newest > generation) {
            return Err(StageError::Stale { generation, newest });
        }
        let path = folder.join(format!("{rank}.{generation}.tgz"));
        upload.persist(&path).map_err(|error| error.error)?;
        for archive in earlier.iter().filter(|archive| archive.path != path) {
            tokio::fs::remove_file(&archive.path).await?;
        }
        live::remove(&folder, rank, generation)?;
        sync_dir(&folder).await?;
        // The job's folder may be new, and is a name on the disk, too.
        sync_dir(&self.inner.dir.join("out")).await?;
        Ok(found)
    }

    /// The results of a job's newest launch as one archive with a folder `rank-K` for each rank that has sent
    /// something; none if no rank has.
    ///
    /// The archives of the ranks come from volunteers' machines: entries that could do harm are left out.
    ///
    /// # Errors
    ///
    /// [`StageError::DiskFull`], [`StageError::Io`].
    pub async fn result(&self, job: u64) -> Result<Option<Stored>, StageError> {
        let permit = self.inner.results.clone().acquire_owned().await.map_err(io::Error::other)?;
        // Opened under the lock: from here on the files stay readable.
        let parts = {
            let _writer = self.inner.jobs.lock(job).await;
            open_newest(&self.job_folder(job))?
        };
        if parts.is_empty() {
            return Ok(None);
        }
        let tmp = self.tmp();
        let build = move || {
            // Held until the work ends: who asked may be gone long before.
            let _permit = permit;
            result::build(&tmp, job, parts)
        };
        let file = tokio::task::spawn_blocking(build).await.map_err(io::Error::other)??;
        let length = file.metadata()?.len();
        Ok(Some(Stored { file: File::from_std(file), length }))
    }

    /// One file right in the archive of a rank of the job's newest launch, as `stdout_file` names it, and that launch;
    /// none if the rank has sent nothing, or no such file. What is beyond 64 MiB is left out.
    ///
    /// # Errors
    ///
    /// [`StageError::Io`].
    pub async fn output(
        &self,
        job: u64,
        rank: u16,
        name: String,
    ) -> Result<Option<(u32, Vec<u8>)>, StageError> {
        let permit = self.inner.results.clone().acquire_owned().await.map_err(io::Error::other)?;
        let parts = {
            let _writer = self.inner.jobs.lock(job).await;
            let folder = self.job_folder(job);
            let generation = archives(&folder)?.iter().map(|archive| archive.generation).max();
            generation.zip(Some(open_newest(&folder)?))
        };
        let Some((generation, parts)) = parts else { return Ok(None) };
        let Some((_, part)) = parts.into_iter().find(|(of, _)| *of == rank) else {
            return Ok(None);
        };
        let find = move || {
            let _permit = permit;
            result::file_of(&part, &name, MAX_OUTPUT)
        };
        let found = tokio::task::spawn_blocking(find).await.map_err(io::Error::other)??;
        Ok(found.map(|content| (generation, content)))
    }

    pub(super) fn job_folder(&self, job: u64) -> PathBuf {
        self.inner.dir.join("out").join(job.to_string())
    }
}

fn open_newest(folder: &Path) -> io::Result<Vec<(u16, std::fs::File)>> {
    let archives = archives(folder)?;
    let newest = archives.iter().map(|archive| archive.generation).max();
    archives
        .into_iter()
        .filter(|archive| Some(archive.generation) == newest)
        .map(|archive| Ok((archive.rank, std::fs::File::open(archive.path)?)))
        .collect()
}

/// What lies in a job's folder, in the order of the ranks.
pub(super) fn archives(folder: &Path) -> io::Result<Vec<RankArchive>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let numbers = name.strip_suffix(".tgz").and_then(|stem| stem.split_once('.'));
        if let Some((rank, generation)) = numbers
            && let (Ok(rank), Ok(generation)) = (rank.parse(), generation.parse())
        {
            found.push(RankArchive { rank, generation, path });
        }
    }
    found.sort();
    Ok(found)
}
