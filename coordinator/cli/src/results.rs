//! Results: one archive with a folder `rank-K` for each rank.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use coordinator_client::archive::{EntryGate, EntryKind, EntryRefused};
use coordinator_client::transfer::TransferError;
use coordinator_client::{Client, ClientError};
use flate2::read::GzDecoder;
use tar::{Archive, Entry};
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::output::plain_line;
use crate::progress::Display;

/// Fetches the results to a temporary file beside `near`'s other files.
pub(crate) async fn download(
    client: &Client,
    job: u64,
    near: &Path,
) -> Result<NamedTempFile, Failure> {
    let file = NamedTempFile::with_prefix_in("oar-results-", near).map_err(Failure::file(near))?;
    let mut display = Display::new("results");
    let fetched = client.download_result(job, file.path(), |p| display.show(p)).await;
    display.finish();
    match fetched {
        Err(TransferError::Client(error)) if is_missing(&error) => {
            // 404 for both: ask which.
            let found = client.job(job).await.map_err(Failure::of_job(job))?;
            let message = plain_line(&found.message);
            Err(match found.state.is_final() {
                true => Failure::LeftNoResults { job, message },
                false => Failure::NoResults { job },
            })
        }
        fetched => Ok(fetched.map(|()| file)?),
    }
}

/// Unpacks the archive into `dir`; answers the paths of entries that were left out.
pub(crate) fn unpack(archive: &Path, dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut refused = Vec::new();
    for_each(archive, |entry, path| match path {
        Ok(path) if path.as_os_str().is_empty() => Ok(()),
        // The check of names knows nothing of what lies in `dir`; this one does not leave it either.
        Ok(_) => match entry.unpack_in(dir)? {
            true => Ok(()),
            false => {
                refused.push(entry.path()?.into_owned());
                Ok(())
            }
        },
        Err(_) => {
            refused.push(entry.path()?.into_owned());
            Ok(())
        }
    })?;
    Ok(refused)
}

/// Calls `take` with each regular file of the archive.
pub(crate) fn for_each_file(
    archive: &Path,
    mut take: impl FnMut(&Path, &mut dyn Read) -> std::io::Result<()>,
) -> Result<(), Failure> {
    for_each(archive, |entry, path| match path {
        Ok(path) if entry.header().entry_type().is_file() => take(&path, entry),
        _ => Ok(()),
    })
}

type OfArchive = GzDecoder<BufReader<File>>;

fn for_each(
    archive: &Path,
    mut take: impl FnMut(
        &mut Entry<'_, OfArchive>,
        Result<PathBuf, EntryRefused>,
    ) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let mut read = || {
        let mut archive = Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
        let mut gate = EntryGate::default();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = judge(&mut gate, &entry);
            if let Err(reason @ EntryRefused::TooMany) = path {
                return Err(std::io::Error::other(reason));
            }
            take(&mut entry, path)?;
        }
        Ok(())
    };
    read().map_err(Failure::file(Path::new("the results")))
}

fn judge(gate: &mut EntryGate, entry: &Entry<'_, OfArchive>) -> Result<PathBuf, EntryRefused> {
    let path = entry.path().map_err(|_| EntryRefused::Path)?;
    let target = entry.link_name().map_err(|_| EntryRefused::LinkTarget)?;
    let kind = entry.header().entry_type();
    let kind = if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Folder
    } else if kind.is_symlink() {
        EntryKind::Link(target.as_deref().ok_or(EntryRefused::LinkTarget)?)
    } else {
        EntryKind::Other
    };
    gate.check(&path, kind)
}

fn is_missing(error: &ClientError) -> bool {
    error.status() == Some(404)
}
