//! Sending archives.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{PAUSES, Progress, STALL, TransferError};
use crate::client::{Client, ClientError, answer};

/// Bytes of one piece of a stage-in: what a cut costs at most.
const PIECE: u64 = 4 * 1024 * 1024;

/// Time for one piece: 4 MiB over the slowest uplink worth using, 128 kbit/s, take 262 s.
const PIECE_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes of results that are read and sent at once.
const CHUNK: usize = 64 * 1024;

/// What the coordinator has of a stage-in archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageinState {
    /// Nothing.
    Absent,
    /// This many bytes from its beginning.
    Partial(u64),
    /// All of it: it need not be sent.
    Complete,
}

impl Client {
    /// `HEAD /stagein/SHA256`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn stagein_state(&self, sha256: &str) -> Result<StageinState, ClientError> {
        let request = self.request(Method::HEAD, self.at(&["stagein", sha256]));
        let response = self.send(request.timeout(STALL)).await?;
        match response.status().as_u16() {
            200 => Ok(StageinState::Complete),
            404 => Ok(StageinState::Absent),
            status if response.status().is_success() => match upload_offset(response.headers()) {
                Some(offset) => Ok(StageinState::Partial(offset)),
                None => Err(self.unusable(format!("status {status} without Upload-Offset"))),
            },
            _ => match answer::success(self.base(), response).await {
                Err(error) => Err(error),
                Ok(_) => Err(self.unusable("a success that is none")),
            },
        }
    }

    /// Sends a stage-in archive in pieces, unless the coordinator has it. Goes on where an earlier attempt, or
    /// somebody who sends the same archive, has stopped.
    ///
    /// `progress` is called with each piece that has arrived.
    ///
    /// # Errors
    ///
    /// See [`TransferError`].
    pub async fn upload_stagein(
        &self,
        path: &Path,
        sha256: &str,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), TransferError> {
        let failed = TransferError::file(path);
        let mut file = File::open(path).await.map_err(&failed)?;
        let total = file.metadata().await.map_err(&failed)?.len();

        let mut best = 0;
        let mut attempts = 0;
        loop {
            let mut arrived = |offset| {
                if offset > best {
                    best = offset;
                    attempts = 0;
                }
                progress(Progress { done: offset, total });
            };
            let sent = self.send_pieces(&mut file, path, sha256, total, &mut arrived).await;
            match (sent, PAUSES.get(attempts)) {
                (Err(error), Some(pause)) if error.is_transient() => {
                    tokio::time::sleep(*pause).await;
                }
                (sent, _) => return sent,
            }
            attempts += 1;
        }
    }

    async fn send_pieces(
        &self,
        file: &mut File,
        path: &Path,
        sha256: &str,
        total: u64,
        arrived: &mut impl FnMut(u64),
    ) -> Result<(), TransferError> {
        let mut offset = match self.stagein_state(sha256).await? {
            StageinState::Complete => {
                arrived(total);
                return Ok(());
            }
            StageinState::Partial(offset) => offset,
            StageinState::Absent => 0,
        };
        while offset < total {
            arrived(offset);
            let piece = read_piece(file, path, offset, total).await?;
            match self.put_piece(sha256, offset, total, piece).await? {
                None => {
                    arrived(total);
                    return Ok(());
                }
                Some(next) => offset = next,
            }
        }
        // Everything has been sent, but the archive is not complete: the server holds other bytes.
        Err(self
            .unusable(format!("holds {offset} of {total} bytes and does not say complete"))
            .into())
    }

    /// Sends one piece; answers where the next one begins, or none when the archive is complete.
    async fn put_piece(
        &self,
        sha256: &str,
        offset: u64,
        total: u64,
        piece: Bytes,
    ) -> Result<Option<u64>, ClientError> {
        let next = offset + piece.len() as u64;
        let request = self
            .request(Method::PUT, self.at(&["stagein", sha256]))
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, format!("bytes {offset}-{}/{total}", next - 1))
            .timeout(PIECE_TIMEOUT)
            .body(piece);
        let response = self.send(request).await?;
        let status = response.status();
        let stored = upload_offset(response.headers());
        match (status.as_u16(), stored) {
            (201, _) => Ok(None),
            // Somebody else sends the same archive, or an answer was lost: go on from there.
            (409, Some(stored)) if stored != offset => Ok(Some(stored)),
            _ => {
                answer::success(self.base(), response).await?;
                Ok(Some(stored.unwrap_or(next)))
            }
        }
    }

    /// `POST /jobs/ID/stageout.tgz?generation=G`: sends this node's results, whole, replacing what it sent
    /// before. One attempt; to a plain OAR server several, as long as it answers otherwise.
    ///
    /// # Errors
    ///
    /// See [`TransferError`].
    pub async fn upload_stageout(
        &self,
        job: u64,
        generation: u32,
        path: &Path,
    ) -> Result<(), TransferError> {
        if self.plain.is_some() {
            return self.oar_stageout(job, path).await;
        }
        let sha256 = super::sha256_of_file(path).await?;
        let failed = TransferError::file(path);
        let file = File::open(path).await.map_err(&failed)?;
        let length = file.metadata().await.map_err(&failed)?.len();

        let stream = ReaderStream::with_capacity(file.take(length), CHUNK);
        let (body, handed_over) = counted(self.clone(), stream);
        let mut url = self.at(&["jobs", &job.to_string(), "stageout.tgz"]);
        url.query_pairs_mut().append_pair("generation", &generation.to_string());
        let request = self
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/gzip")
            .header(CONTENT_LENGTH, length)
            .header("X-Content-SHA256", sha256)
            .body(body);
        let response = tokio::select! {
            response = self.send(request) => response?,
            () = stalled(&handed_over) => {
                return Err(ClientError::unreachable(self.base(), "the upload stands still").into());
            }
        };
        answer::success(self.base(), response).await?;
        Ok(())
    }
}

async fn read_piece(
    file: &mut File,
    path: &Path,
    offset: u64,
    total: u64,
) -> Result<Bytes, TransferError> {
    let failed = TransferError::file(path);
    let length = PIECE.min(total - offset);
    file.seek(SeekFrom::Start(offset)).await.map_err(&failed)?;
    let mut piece = Vec::new();
    file.take(length).read_to_end(&mut piece).await.map_err(&failed)?;
    if piece.len() as u64 != length {
        return Err(TransferError::Changed { path: path.display().to_string() });
    }
    Ok(piece.into())
}

/// A body that goes as fast as the client may, and a number that changes while it is read.
pub(crate) fn counted<R: AsyncRead + Send + 'static>(
    client: Client,
    stream: ReaderStream<R>,
) -> (reqwest::Body, Arc<AtomicU64>) {
    let handed_over = Arc::new(AtomicU64::new(0));
    let counter = handed_over.clone();
    let stream = stream.then(move |chunk| {
        let (client, counter) = (client.clone(), counter.clone());
        async move {
            // Who waits for leave to send does not stand still.
            let tick = || {
                counter.fetch_add(1, Ordering::Relaxed);
            };
            if let Ok(chunk) = &chunk {
                client.pace(chunk.len(), tick).await;
                tick();
            }
            chunk
        }
    });
    (reqwest::Body::wrap_stream(stream), handed_over)
}

/// Returns when the number has not changed for [`STALL`].
pub(crate) async fn stalled(number: &AtomicU64) {
    let mut last = number.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(STALL).await;
        let now = number.load(Ordering::Relaxed);
        if now == last {
            return;
        }
        last = now;
    }
}

fn upload_offset(headers: &HeaderMap) -> Option<u64> {
    headers.get("Upload-Offset")?.to_str().ok()?.parse().ok()
}
