//! Archives on the coordinator's disk: what jobs bring in and what they leave.
//!
//! ```text
//! DIR/in/SHA256        a complete stage-in archive
//! DIR/in/SHA256.part   the beginning of one
//! DIR/out/JOB/RANK.GENERATION.tgz   what a rank has sent
//! DIR/out/JOB/RANK.GENERATION.stdout   what it has written so far, before that; also .stderr
//! DIR/tmp/             uploads under way, results being put together; emptied at start
//! ```
//!
//! A complete file appears by renaming, after it has been written to the disk, so that a crash leaves the old
//! file or the new one.

mod incoming;
mod keyed_lock;
mod live;
mod outgoing;
mod receive;
mod result;
mod retention;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::File;
use tokio::sync::Semaphore;

use self::keyed_lock::KeyedLock;

pub use self::incoming::{Piece, PieceError, Pieced, StageinState};
pub use self::live::{LiveOutput, LivePiece, MAX_LIVE};
pub use self::receive::ContentHash;
pub use self::retention::{Needed, Removed, Retention};

/// Results that are put together at the same time: each keeps a core busy.
const RESULTS_AT_ONCE: usize = 2;

/// Limits of a [`StageStore`], bytes of an archive as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLimits {
    /// The largest stage-in.
    pub max_stagein: u64,
    /// The largest stage-out of one rank.
    pub max_stageout: u64,
}

impl Default for StageLimits {
    /// 4 GiB each: the documented default of `--max-stagein`.
    fn default() -> Self {
        Self { max_stagein: 4 << 30, max_stageout: 4 << 30 }
    }
}

/// An archive that was not taken, or not found.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// More bytes than allowed (413). Nothing is kept.
    #[error("the archive is larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// No space (507). What had arrived of a stage-in is kept.
    #[error("the coordinator's disk is full: tell its administrator, and try again later")]
    DiskFull,
    /// The bytes have another hash than announced (422). They are thrown away.
    #[error("the archive's SHA-256 is {found}, not {wanted} as announced: send it again")]
    WrongHash {
        /// As announced.
        wanted: ContentHash,
        /// As received.
        found: ContentHash,
    },
    /// The sender stopped before the end (400). What had arrived of a stage-in is kept.
    #[error("the upload was cut off: {reason}")]
    Cut {
        /// What happened.
        reason: String,
    },
    /// A later launch of the job has sent its results already (409).
    #[error("results of launch {newest} are here; those of launch {generation} come too late")]
    Stale {
        /// The launch that was sent.
        generation: u32,
        /// The newest launch here.
        newest: u32,
    },
    /// The disk (500).
    #[error("cannot use the stage directory")]
    Io(#[source] io::Error),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) { Self::DiskFull } else { Self::Io(error) }
    }
}

/// A file to send, open at its beginning.
#[derive(Debug)]
pub struct Stored {
    /// The file. It stays readable when it is replaced meanwhile.
    pub file: File,
    /// Its length, bytes.
    pub length: u64,
}

/// The archives. Cheap to clone.
#[derive(Clone)]
pub struct StageStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    limits: StageLimits,
    /// One writer for each stage-in.
    stageins: KeyedLock<ContentHash>,
    /// One replacement at a time for each job.
    jobs: KeyedLock<u64>,
    results: Arc<Semaphore>,
}

impl StageStore {
    /// Opens or makes the folder `dir`. Only one process may use it.
    ///
    /// # Errors
    ///
    /// The folders cannot be made or emptied.
    pub fn open(dir: &Path, limits: StageLimits) -> io::Result<Self> {
        let tmp = dir.join("tmp");
        match std::fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Only this user: users' archives lie here, and the data directory may have been made by somebody else.
        for folder in [dir.to_owned(), dir.join("in"), dir.join("out"), tmp] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                dir: dir.to_owned(),
                limits,
                stageins: KeyedLock::default(),
                jobs: KeyedLock::default(),
                results: Arc::new(Semaphore::new(RESULTS_AT_ONCE)),
            }),
        })
    }

    fn tmp(&self) -> PathBuf {
        self.inner.dir.join("tmp")
    }
}

async fn open_stored(path: &Path) -> Result<Option<Stored>, StageError> {
    match File::open(path).await {
        Ok(file) => {
            let length = file.metadata().await?.len();
            Ok(Some(Stored { file, length }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a rename in `dir` durable.
async fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).await?.sync_all().await
}

#[cfg(test)]
mod tests;
