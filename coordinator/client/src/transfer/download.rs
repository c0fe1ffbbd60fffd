//! Fetching archives to files.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{PAUSES, Progress, STALL, TransferError};
use crate::client::{Client, ClientError, answer};

impl Client {
    /// `GET /jobs/ID/stagein.tgz` to the file `to`.
    ///
    /// The bytes gather in `to` + `.part`, also over several calls, and become `to` when they are complete and,
    /// where `sha256` is given, right. What is longer than `limit` bytes is given up.
    ///
    /// # Errors
    ///
    /// See [`TransferError`].
    pub async fn download_stagein(
        &self,
        job: u64,
        sha256: Option<&str>,
        to: &Path,
        limit: u64,
        progress: impl FnMut(Progress),
    ) -> Result<(), TransferError> {
        let url = self.at(&["jobs", &job.to_string(), "stagein.tgz"]);
        let fetched = self.download(url, sha256, to, limit, progress).await;
        if let Err(TransferError::TooLarge { .. }) = &fetched {
            remove(&part_of(to)).await?;
        }
        fetched
    }

    /// `GET /jobs/ID/stageout.tgz`: the results of all ranks, to the file `to`.
    ///
    /// # Errors
    ///
    /// See [`TransferError`].
    pub async fn download_result(
        &self,
        job: u64,
        to: &Path,
        progress: impl FnMut(Progress),
    ) -> Result<(), TransferError> {
        let url = self.at(&["jobs", &job.to_string(), "stageout.tgz"]);
        // Built anew for each request: an earlier beginning need not fit.
        let part = part_of(to);
        remove(&part).await?;
        let fetched = self.download(url, None, to, u64::MAX, progress).await;
        if fetched.is_err() {
            remove(&part).await?;
        }
        fetched
    }

    async fn download(
        &self,
        url: Url,
        sha256: Option<&str>,
        to: &Path,
        limit: u64,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), TransferError> {
        let part = part_of(to);
        let failed = TransferError::file(&part);
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(false).write(true).open(&part).await.map_err(&failed)?;

        let resume = sha256.is_some();
        let mut best = file.metadata().await.map_err(&failed)?.len();
        let mut attempts = 0;
        loop {
            let fetched = self.fetch(&url, resume, &mut file, &part, limit, &mut progress).await;
            match (fetched, PAUSES.get(attempts)) {
                (Ok(()), _) => break,
                (Err(error), Some(pause)) if error.is_transient() => {
                    tokio::time::sleep(*pause).await;
                }
                (Err(error), _) => return Err(error),
            }
            let now = file.metadata().await.map_err(&failed)?.len();
            attempts = if now > best { 0 } else { attempts + 1 };
            best = best.max(now);
        }
        file.sync_all().await.map_err(&failed)?;
        drop(file);

        if let Some(wanted) = sha256 {
            let found = super::sha256_of_file(&part).await?;
            if !found.eq_ignore_ascii_case(wanted) {
                remove(&part).await?;
                return Err(TransferError::Damaged { wanted: wanted.to_owned(), found });
            }
        }
        tokio::fs::rename(&part, to).await.map_err(TransferError::file(to))
    }

    /// One request, which appends to `file` what is missing.
    async fn fetch(
        &self,
        url: &Url,
        resume: bool,
        file: &mut File,
        path: &Path,
        limit: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), TransferError> {
        let failed = TransferError::file(path);
        let have = if resume { file.metadata().await.map_err(&failed)?.len() } else { 0 };
        let mut request = self.request(Method::GET, url.clone());
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let mut response = self.within(self.send(request)).await?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && have > 0 {
            // Complete already, or not its beginning: the hash tells.
            return Ok(());
        }
        response = answer::success(self.base(), response).await?;

        let mut done = begins_at(&response).filter(|first| *first <= have).unwrap_or(0);
        let total = done + response.content_length().unwrap_or(0);
        file.set_len(done).await.map_err(&failed)?;
        file.seek(SeekFrom::Start(done)).await.map_err(&failed)?;
        progress(Progress { done, total });
        loop {
            let next = async {
                response.chunk().await.map_err(|error| ClientError::of_request(self.base(), error))
            };
            let Some(chunk) = self.within(next).await? else { break };
            if done + chunk.len() as u64 > limit {
                return Err(TransferError::TooLarge { limit });
            }
            file.write_all(&chunk).await.map_err(&failed)?;
            done += chunk.len() as u64;
            self.pace(chunk.len(), || {}).await;
            progress(Progress { done, total: total.max(done) });
        }
        file.flush().await.map_err(&failed)
    }

    async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        timeout(STALL, step)
            .await
            .unwrap_or_else(|_| Err(ClientError::unreachable(self.base(), "no answer in time")))
    }
}

/// The first byte of a partial answer; none for a whole one.
fn begins_at(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

async fn remove(path: &Path) -> Result<(), TransferError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TransferError::file(path)(error))
        }
        _ => Ok(()),
    }
}
