//! Stage-in: archives by their hash, received in pieces.

use std::fmt;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncSeekExt;

use super::receive::{self, ContentHash};
use super::{StageError, StageStore, Stored, open_stored, sync_dir};

/// What is here of a stage-in archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageinState {
    /// Nothing.
    Absent,
    /// Its beginning.
    Partial {
        /// Bytes that are here: the next piece begins there.
        offset: u64,
    },
    /// All of it.
    Complete {
        /// Its length, bytes.
        length: u64,
    },
}

/// Which part of an archive a request brings: `Content-Range: bytes FIRST-LAST/TOTAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub first: u64,
    /// Its last byte.
    pub last: u64,
    /// The archive's length.
    pub total: u64,
}

/// The header is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Range must be `bytes FIRST-LAST/TOTAL`, with FIRST <= LAST < TOTAL")]
pub struct PieceError;

impl Piece {
    /// Reads the header's value.
    ///
    /// # Errors
    ///
    /// [`PieceError`].
    pub fn parse(header: &str) -> Result<Self, PieceError> {
        let parse = || {
            let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let number = |text: &str| text.trim().parse::<u64>().ok();
            Some(Self { first: number(first)?, last: number(last)?, total: number(total)? })
        };
        parse()
            .filter(|piece| piece.first <= piece.last && piece.last < piece.total)
            .ok_or(PieceError)
    }

    fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What came of a request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieced {
    /// The archive is complete and right (201).
    Complete,
    /// The next piece begins here (204 with `Upload-Offset`).
    Partial {
        /// Bytes that are here.
        offset: u64,
    },
    /// The piece does not begin where the last one ended (409 with `Upload-Offset`).
    Elsewhere {
        /// Bytes that are here.
        offset: u64,
    },
}

impl StageStore {
    /// What is here of the archive `hash`.
    ///
    /// # Errors
    ///
    /// [`StageError::Io`].
    pub async fn stagein_state(&self, hash: ContentHash) -> Result<StageinState, StageError> {
        if let Some(length) = length_of(&self.stagein_path(hash)).await? {
            return Ok(StageinState::Complete { length });
        }
        Ok(match length_of(&self.part_path(hash)).await? {
            Some(offset) if offset > 0 => StageinState::Partial { offset },
            _ => StageinState::Absent,
        })
    }

    /// Takes the archive `hash` (no `piece`) or its next piece.
    ///
    /// Several may send the same archive at once: each request is done whole before the next one of that archive.
    /// A whole archive begins anew; of a piece that is cut off the bytes that came are kept. The hash is checked
    /// when the last byte is here.
    ///
    /// # Errors
    ///
    /// [`StageError::TooLarge`], [`DiskFull`](StageError::DiskFull), [`WrongHash`](StageError::WrongHash) (what was
    /// here is thrown away), [`Cut`](StageError::Cut), [`Io`](StageError::Io).
    pub async fn put_stagein<S, E>(
        &self,
        hash: ContentHash,
        piece: Option<Piece>,
        body: S,
    ) -> Result<Pieced, StageError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: fmt::Display,
    {
        let limit = self.inner.limits.max_stagein;
        if piece.is_some_and(|piece| piece.total > limit) {
            return Err(StageError::TooLarge { limit });
        }
        let _writer = self.inner.stageins.lock(hash).await;
        let offset = match self.stagein_state(hash).await? {
            StageinState::Complete { .. } => return Ok(Pieced::Complete),
            StageinState::Partial { offset } => offset,
            StageinState::Absent => 0,
        };
        let part = self.part_path(hash);
        match piece {
            None => self.put_whole(hash, &part, body).await,
            Some(piece) if piece.first != offset => Ok(Pieced::Elsewhere { offset }),
            Some(piece) => self.put_piece(hash, &part, piece, body).await,
        }
    }

    /// The archive, if it is complete. Seek in it to serve a range.
    ///
    /// # Errors
    ///
    /// [`StageError::Io`].
    pub async fn open_stagein(&self, hash: ContentHash) -> Result<Option<Stored>, StageError> {
        open_stored(&self.stagein_path(hash)).await
    }

    async fn put_whole<S, E>(
        &self,
        hash: ContentHash,
        part: &Path,
        body: S,
    ) -> Result<Pieced, StageError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: fmt::Display,
    {
        let limit = self.inner.limits.max_stagein;
        let mut file = File::create(part).await?;
        let mut hasher = Sha256::new();
        let (_, outcome) = receive::append(&mut file, &mut hasher, limit, body).await;
        if let Err(StageError::TooLarge { .. }) = outcome {
            tokio::fs::remove_file(part).await?;
        }
        outcome?;
        self.complete(hash, part, file, ContentHash(hasher.finalize().into())).await
    }

    async fn put_piece<S, E>(
        &self,
        hash: ContentHash,
        part: &Path,
        piece: Piece,
        body: S,
    ) -> Result<Pieced, StageError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: fmt::Display,
    {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).open(part).await?;
        file.seek(SeekFrom::Start(piece.first)).await?;
        let mut hasher = Sha256::new();
        let (written, outcome) =
            receive::append(&mut file, &mut hasher, piece.length(), body).await;
        match outcome {
            Err(StageError::TooLarge { .. }) => {
                // Which of the bytes are the announced ones? None is kept.
                file.set_len(piece.first).await?;
                return Err(StageError::Cut { reason: "longer than its Content-Range".to_owned() });
            }
            outcome => outcome?,
        }
        if written < piece.length() {
            return Err(StageError::Cut { reason: "shorter than its Content-Range".to_owned() });
        }
        if piece.last + 1 < piece.total {
            return Ok(Pieced::Partial { offset: piece.last + 1 });
        }
        let found = match piece.first {
            0 => ContentHash(hasher.finalize().into()),
            _ => receive::hash_of(part).await?,
        };
        self.complete(hash, part, file, found).await
    }

    async fn complete(
        &self,
        wanted: ContentHash,
        part: &Path,
        file: File,
        found: ContentHash,
    ) -> Result<Pieced, StageError> {
        if found != wanted {
            tokio::fs::remove_file(part).await?;
            return Err(StageError::WrongHash { wanted, found });
        }
        file.sync_all().await?;
        tokio::fs::rename(part, self.stagein_path(wanted)).await?;
        sync_dir(&self.inner.dir.join("in")).await?;
        Ok(Pieced::Complete)
    }

    pub(super) fn stagein_path(&self, hash: ContentHash) -> PathBuf {
        self.inner.dir.join("in").join(hash.to_string())
    }

    fn part_path(&self, hash: ContentHash) -> PathBuf {
        self.inner.dir.join("in").join(format!("{hash}.part"))
    }
}

async fn length_of(path: &Path) -> io::Result<Option<u64>> {
    match tokio::fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
