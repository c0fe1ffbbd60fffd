//! Archives: stage-in and stage-out, up and down, resumed after a cut.

mod download;
mod pace;
mod upload;

use std::io;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::client::ClientError;

pub use self::pace::Pace;
pub use self::upload::StageinState;
pub(crate) use self::upload::{counted, stalled};

/// No byte in this time: the connection is dead. Longer than the 30 s that a phone's radio may need.
const STALL: Duration = Duration::from_secs(60);

/// Pauses before a transfer is resumed. A transfer that got further begins again with the first.
pub(crate) const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// An archive that did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The coordinator refused, or could not be reached in several attempts.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file on this side.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// What arrived is not what was announced.
    #[error("the archive arrived damaged (SHA-256 {found} instead of {wanted}): try again")]
    Damaged {
        /// What was announced.
        wanted: String,
        /// What arrived.
        found: String,
    },
    /// More arrives than anybody would have announced.
    #[error("the archive is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// A plain OAR server that answers otherwise fails at the results again and again.
    #[error(
        "the OAR server takes no upload of {length} bytes ({error}): its administrator can allow longer ones \
         (FcgidMaxRequestLen of Apache's mod_fcgid), and should look whether its STAGEOUT_DIR can be written"
    )]
    NotTaken {
        /// Bytes of the archive.
        length: u64,
        /// How it failed the last time.
        error: ClientError,
    },
    /// The file changed while it was being sent.
    #[error("{path} changed while it was being sent: try again")]
    Changed {
        /// The file.
        path: String,
    },
}

impl TransferError {
    /// Trying the same again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Client(error) => error.is_transient(),
            Self::Damaged { .. } => true,
            Self::TooLarge { .. }
            | Self::File { .. }
            | Self::Changed { .. }
            | Self::NotTaken { .. } => false,
        }
    }

    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { path: path.clone(), source }
    }
}

/// How far a transfer is, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// At the other end (upload) or here (download).
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// SHA-256 of a file, 64 hexadecimal digits, as the routes want it.
///
/// # Errors
///
/// The file cannot be read.
pub async fn sha256_of_file(path: &Path) -> Result<String, TransferError> {
    let failed = TransferError::file(path);
    let mut file = tokio::fs::File::open(path).await.map_err(&failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).await.map_err(&failed)?;
        if read == 0 {
            return Ok(HEXLOWER.encode(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}
