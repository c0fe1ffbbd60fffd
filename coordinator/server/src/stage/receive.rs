//! Writing a request's body to a file: counted, bounded, hashed.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::StageError;

/// A sender that sends nothing for this long is cut off: others may wait to send the same archive.
const STALL: Duration = Duration::from_secs(60);

/// SHA-256 of an archive, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// The text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is written as 64 hexadecimal digits")]
pub struct ParseHashError;

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = ParseHashError;

    /// Also takes the form `sha256:HEX` of a submission.
    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| ParseHashError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseHashError)?))
    }
}

/// Appends a body to `file` and feeds it to `hasher`. Answers the number of bytes.
///
/// At most `limit` bytes are written: one more is [`StageError::TooLarge`] (with `limit` 0 in it; the caller
/// knows the real one). Whatever the outcome, what was counted has been handed to the system.
pub(super) async fn append<S, E>(
    file: &mut File,
    hasher: &mut Sha256,
    limit: u64,
    body: S,
) -> (u64, Result<(), StageError>)
where
    S: Stream<Item = Result<Bytes, E>>,
    E: fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut written = 0;
    let outcome = loop {
        let chunk = match tokio::time::timeout(STALL, body.next()).await {
            Err(_) => {
                break Err(StageError::Cut { reason: "nothing came for a minute".to_owned() });
            }
            Ok(None) => break Ok(()),
            Ok(Some(Err(error))) => break Err(StageError::Cut { reason: error.to_string() }),
            Ok(Some(Ok(chunk))) => chunk,
        };
        if written + chunk.len() as u64 > limit {
            break Err(StageError::TooLarge { limit });
        }
        if let Err(error) = file.write_all(&chunk).await {
            break Err(error.into());
        }
        hasher.update(&chunk);
        written += chunk.len() as u64;
    };
    // tokio's files write behind: an error of the last write shows here.
    let outcome = match file.flush().await {
        Err(error) => Err(error.into()),
        Ok(()) => outcome,
    };
    (written, outcome)
}

/// The hash of a file.
pub(super) async fn hash_of(path: &Path) -> Result<ContentHash, StageError> {
    let mut file = File::open(path).await?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(ContentHash(hasher.finalize().into()));
        }
        hasher.update(&buffer[..read]);
    }
}
