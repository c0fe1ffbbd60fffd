//! Putting the ranks' archives together.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek};
use std::path::{Path, PathBuf};

use coordinator_client::archive::{EntryGate, EntryKind, EntryRefused};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, Entry, EntryType, Header};

/// The most bytes that one rank's archive may unpack to: 64 GiB. Chosen: 16 times the largest archive; more is
/// a bomb.
const MAX_UNPACKED: u64 = 64 << 30;

type Output = Builder<GzEncoder<BufWriter<File>>>;

/// Writes all `parts` to one archive: a file without a name in `tmp`, open at its beginning.
///
/// A part that is damaged contributes what could be read of it: the other ranks' results are worth having.
pub(super) fn build(tmp: &Path, job: u64, parts: Vec<(u16, File)>) -> io::Result<File> {
    let file = tempfile::tempfile_in(tmp)?;
    let encoder = GzEncoder::new(BufWriter::new(file), Compression::fast());
    let mut output = Builder::new(encoder);
    for (rank, mut part) in parts {
        let folder = PathBuf::from(format!("rank-{rank}"));
        output.append_data(&mut folder_header(), &folder, io::empty())?;
        let (intact, damage) = count_intact(read_archive(&part));
        if let Some(error) = damage {
            tracing::warn!(job, rank, %error, intact, "damaged stage-out");
        }
        part.rewind()?;
        copy(&mut output, &folder, read_archive(&part), intact, job, rank)?;
    }
    let mut file =
        output.into_inner()?.finish()?.into_inner().map_err(|error| error.into_error())?;
    file.rewind()?;
    Ok(file)
}

/// The regular file of that name right in the archive, or its first `limit` bytes.
///
/// Of an archive that is damaged it is found if it lies before the damage.
pub(super) fn file_of(part: &File, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut input = read_archive(part);
    let mut gate = EntryGate::default();
    for entry in input.entries()? {
        let Ok(mut entry) = entry else { return Ok(None) };
        match pass(&mut gate, &entry) {
            Ok(path) if path == Path::new(name) && entry.header().entry_type().is_file() => {
                let mut content = Vec::new();
                // What can be read of it is worth having.
                let _damage = entry.by_ref().take(limit).read_to_end(&mut content);
                return Ok(Some(content));
            }
            Err(EntryRefused::TooMany) => return Ok(None),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

fn read_archive(part: &File) -> Archive<impl Read + '_> {
    Archive::new(MultiGzDecoder::new(BufReader::new(part)).take(MAX_UNPACKED))
}

/// Entries that can be read to their end before the first that cannot, and why it cannot.
fn count_intact<R: Read>(mut input: Archive<R>) -> (usize, Option<io::Error>) {
    let mut intact = 0;
    let mut read_all = || {
        for entry in input.entries()? {
            let mut entry = entry?;
            if io::copy(&mut entry, &mut io::sink())? != entry.size() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            intact += 1;
        }
        Ok(())
    };
    let damage = read_all().err();
    (intact, damage)
}

/// Copies those of the first `intact` entries that may pass.
fn copy<R: Read>(
    output: &mut Output,
    folder: &Path,
    mut input: Archive<R>,
    intact: usize,
    job: u64,
    rank: u16,
) -> io::Result<()> {
    if intact == 0 {
        return Ok(());
    }
    let mut gate = EntryGate::default();
    // One line for all of them: there may be a million, and the log is the operator's.
    let mut left_out: Option<(EntryRefused, usize)> = None;
    for entry in input.entries()?.take(intact) {
        let mut entry = entry?;
        match pass(&mut gate, &entry) {
            Ok(path) if path.as_os_str().is_empty() => {}
            Ok(path) => append(output, &folder.join(path), &mut entry)?,
            Err(EntryRefused::TooMany) => {
                tracing::warn!(job, rank, "stage-out with too many entries");
                break;
            }
            Err(reason) => left_out.get_or_insert((reason, 0)).1 += 1,
        }
    }
    if let Some((reason, entries)) = left_out {
        tracing::warn!(job, rank, entries, %reason, "left out entries of a stage-out");
    }
    Ok(())
}

fn pass<R: Read>(gate: &mut EntryGate, entry: &Entry<'_, R>) -> Result<PathBuf, EntryRefused> {
    let path = entry.path().map_err(|_| EntryRefused::Path)?;
    let target = entry.link_name().map_err(|_| EntryRefused::LinkTarget)?;
    let kind = entry.header().entry_type();
    let kind = if kind.is_file() || kind.is_contiguous() {
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

/// Writes an entry anew, with nothing of its header but size, permissions and time.
fn append<R: Read>(output: &mut Output, path: &Path, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let kind = entry.header().entry_type();
    let mut header = Header::new_gnu();
    header.set_mtime(entry.header().mtime().unwrap_or(0));
    header.set_size(0);
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        output.append_data(&mut header, path, io::empty())
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        let target = entry.link_name()?.unwrap_or_default().into_owned();
        output.append_link(&mut header, path, target)
    } else {
        header.set_entry_type(EntryType::Regular);
        // No set-user-id, and always readable by the owner.
        header.set_mode(entry.header().mode().unwrap_or(0o644) & 0o777 | 0o400);
        header.set_size(entry.size());
        output.append_data(&mut header, path, entry)
    }
}

fn folder_header() -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    header
}
