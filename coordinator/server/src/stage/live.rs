//! What a job writes while it runs: the beginning of each output, piece by piece.
//!
//! ```text
//! DIR/out/JOB/RANK.GENERATION.stdout   until the rank's results come, which hold all of it
//! ```
//!
//! It is for whoever looks on, and not kept like results: nothing is made durable. A piece that was lost is asked for
//! again, since the sender is told where the next one begins.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::outgoing::archives;
use super::{StageError, StageStore};

/// The most of each output that is kept while the job runs, bytes. Chosen: a person reads less, and a thousand jobs
/// with both outputs fill 8 GiB.
pub const MAX_LIVE: u64 = 4 << 20;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivePiece {
    /// The next one begins here. It is not the end of this one when something is missing before it.
    Next(u64),
    /// No more is kept.
    Full,
}

/// What is here of a running job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveOutput {
    /// The launch that wrote it.
    pub generation: u32,
    /// From its beginning.
    pub content: Vec<u8>,
}

impl StageStore {
    /// Takes a piece of what `rank` has written to the output `stream` in the launch `generation`. Repeating it changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StageError::Stale`] when a later launch has written; [`StageError::DiskFull`], [`StageError::Io`].
    pub async fn append_live(
        &self,
        job: u64,
        rank: u16,
        generation: u32,
        stream: &'static str,
        offset: u64,
        piece: &[u8],
    ) -> Result<LivePiece, StageError> {
        let _writer = self.inner.jobs.lock(job).await;
        let folder = self.job_folder(job);
        tokio::fs::create_dir_all(&folder).await?;
        let results = archives(&folder)?.into_iter().filter(|archive| archive.rank == rank);
        let results = results.map(|archive| archive.generation).max();
        let earlier = live_files(&folder, rank)?;
        let newest = earlier.iter().map(|file| file.generation).chain(results).max();
        if let Some(newest) = newest.filter(|newest| *newest > generation) {
            return Err(StageError::Stale { generation, newest });
        }
        if results == Some(generation) {
            return Ok(LivePiece::Full);
        }
        for file in earlier.iter().filter(|file| file.generation < generation) {
            std::fs::remove_file(&file.path)?;
        }

        let path = folder.join(format!("{rank}.{generation}.{stream}"));
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let have = file.metadata()?.len();
        if have >= MAX_LIVE {
            return Ok(LivePiece::Full);
        }
        let known = have.checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        let Some(new) = known.and_then(|known| piece.get(known..)) else {
            return Ok(LivePiece::Next(have));
        };
        let room = usize::try_from(MAX_LIVE - have).unwrap_or(usize::MAX);
        let new = &new[..new.len().min(room)];
        file.write_all(new)?;
        Ok(match have + new.len() as u64 {
            MAX_LIVE => LivePiece::Full,
            next => LivePiece::Next(next),
        })
    }

    /// What `rank` has written to the output `stream` in a launch that has sent no results yet; none if nothing is
    /// here, or the results of that launch are.
    ///
    /// # Errors
    ///
    /// [`StageError::Io`].
    pub async fn live(
        &self,
        job: u64,
        rank: u16,
        stream: &str,
    ) -> Result<Option<LiveOutput>, StageError> {
        let _writer = self.inner.jobs.lock(job).await;
        let folder = self.job_folder(job);
        let results = archives(&folder)?.into_iter().map(|archive| archive.generation).max();
        let found = live_files(&folder, rank)?
            .into_iter()
            .filter(|file| file.stream == stream && Some(file.generation) > results)
            .max_by_key(|file| file.generation);
        let Some(LiveFile { generation, path, .. }) = found else { return Ok(None) };
        Ok(Some(LiveOutput { generation, content: tokio::fs::read(path).await? }))
    }
}

/// Removes what `rank` wrote in launches up to `generation`: its results are here.
pub(super) fn remove(folder: &Path, rank: u16, generation: u32) -> io::Result<()> {
    for file in live_files(folder, rank)?.iter().filter(|file| file.generation <= generation) {
        std::fs::remove_file(&file.path)?;
    }
    Ok(())
}

struct LiveFile {
    generation: u32,
    stream: String,
    path: PathBuf,
}

fn live_files(folder: &Path, rank: u16) -> io::Result<Vec<LiveFile>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut parts = name.split('.');
        if let (Some(of), Some(generation), Some(stream @ ("stdout" | "stderr")), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && of.parse() == Ok(rank)
            && let Ok(generation) = generation.parse()
        {
            found.push(LiveFile { generation, stream: stream.to_owned(), path });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::StageLimits;

    async fn append(store: &StageStore, generation: u32, offset: u64, piece: &[u8]) -> LivePiece {
        store.append_live(7, 0, generation, "stdout", offset, piece).await.unwrap()
    }

    async fn content(store: &StageStore) -> Option<(u32, Vec<u8>)> {
        let live = store.live(7, 0, "stdout").await.unwrap();
        live.map(|live| (live.generation, live.content))
    }

    fn store() -> (StageStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (StageStore::open(dir.path(), StageLimits::default()).unwrap(), dir)
    }

    #[tokio::test]
    async fn pieces_are_put_together_whatever_is_repeated_or_missing() {
        let (store, _dir) = store();
        assert_eq!(content(&store).await, None);
        assert_eq!(append(&store, 1, 0, b"one ").await, LivePiece::Next(4));
        assert_eq!(append(&store, 1, 0, b"one ").await, LivePiece::Next(4));
        assert_eq!(append(&store, 1, 2, b"e two").await, LivePiece::Next(7));
        // The sender goes on from where the coordinator is.
        assert_eq!(append(&store, 1, 100, b"lost").await, LivePiece::Next(7));
        assert_eq!(append(&store, 1, 0, b"").await, LivePiece::Next(7));
        assert_eq!(content(&store).await, Some((1, b"one two".to_vec())));
        assert!(store.live(7, 0, "stderr").await.unwrap().is_none());
        assert!(store.live(7, 1, "stdout").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn no_more_is_kept_than_may_be() {
        let (store, _dir) = store();
        let piece = vec![b'x'; 1 << 20];
        for at in 0..3 {
            assert_eq!(append(&store, 1, at << 20, &piece).await, LivePiece::Next((at + 1) << 20));
        }
        assert_eq!(append(&store, 1, 3 << 20, &vec![b'x'; 2 << 20]).await, LivePiece::Full);
        assert_eq!(append(&store, 1, 4 << 20, b"more").await, LivePiece::Full);
        assert_eq!(content(&store).await.unwrap().1.len(), 4 << 20);
    }

    #[tokio::test]
    async fn a_launch_takes_the_place_of_an_earlier_one_and_results_that_of_both() {
        let (store, dir) = store();
        append(&store, 1, 0, b"first").await;
        append(&store, 2, 0, b"second").await;
        assert_eq!(content(&store).await, Some((2, b"second".to_vec())));
        let stale = store.append_live(7, 0, 1, "stdout", 5, b"!").await;
        assert!(matches!(stale, Err(StageError::Stale { generation: 1, newest: 2 })));

        let body = futures_util::stream::iter([Ok::<_, io::Error>(bytes::Bytes::from("x"))]);
        store.put_stageout(7, 0, 2, None, body).await.unwrap();
        assert_eq!(content(&store).await, None);
        assert_eq!(std::fs::read_dir(dir.path().join("out/7")).unwrap().count(), 1);
        assert_eq!(append(&store, 2, 6, b"late").await, LivePiece::Full);
        assert_eq!(content(&store).await, None);
        append(&store, 3, 0, b"third").await;
        assert_eq!(content(&store).await, Some((3, b"third".to_vec())));
    }
}
