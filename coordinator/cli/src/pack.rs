//! Packing a folder for stage-in, so that the same content always gives the same bytes.
//!
//! The coordinator knows an archive by its hash: a folder that has not changed is not sent again. So the
//! entries are sorted, and owners and times are left out.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coordinator_client::archive::{EntryGate, EntryKind};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use walkdir::{DirEntry, WalkDir};

use crate::failure::Failure;
use crate::scratch::Scratch;

/// The time of every entry: not 0, which some tools take for "no time". 1980-01-01, the earliest that a zip
/// archive can hold.
const MTIME: u64 = 315_532_800;

type Archive = Builder<GzEncoder<BufWriter<File>>>;

/// Packs what is in `dir` to a temporary file (tar, gzip).
///
/// Fails on entries that the other side would leave out: better now than in the job.
pub(crate) fn pack(dir: &Path) -> Result<Scratch, Failure> {
    let packed = Scratch::new()?;
    let temporary = std::env::temp_dir();
    let in_packed = Failure::file(&temporary);
    let file = File::options().write(true).open(packed.path()).map_err(&in_packed)?;
    let encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut archive = Builder::new(encoder);

    let mut gate = EntryGate::default();
    for entry in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(dir).to_owned();
            Failure::file(&path)(error.into())
        })?;
        append(&mut archive, &mut gate, dir, &entry)?;
    }
    let finish = || archive.into_inner()?.finish()?.into_inner().map_err(|e| e.into_error());
    finish().map_err(in_packed)?;
    Ok(packed)
}

/// Whether a file can be an archive of the kind that [`pack`] makes: it begins as gzip does (RFC 1952,
/// section 2.3.1).
pub(crate) fn is_archive(path: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(2).read_to_end(&mut start));
    read.map_err(Failure::file(path))?;
    Ok(start == [0x1f, 0x8b])
}

fn append(
    archive: &mut Archive,
    gate: &mut EntryGate,
    dir: &Path,
    entry: &DirEntry,
) -> Result<(), Failure> {
    let path = entry.path();
    let failed = Failure::file(path);
    let metadata = path.symlink_metadata().map_err(&failed)?;
    let target = match metadata.is_symlink() {
        true => Some(std::fs::read_link(path).map_err(&failed)?),
        false => None,
    };
    let kind = match &target {
        Some(target) => EntryKind::Link(target),
        None if metadata.is_dir() => EntryKind::Folder,
        None if metadata.is_file() => EntryKind::File,
        None => EntryKind::Other,
    };
    let inside = path.strip_prefix(dir).unwrap_or(path);
    let name = gate.check(inside, kind).map_err(|reason| Failure::Unpackable {
        path: path.display().to_string(),
        reason: reason.to_string(),
    })?;

    let mut header = header(&metadata);
    let write = || match target {
        Some(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, &name, target)
        }
        None if metadata.is_dir() => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, &name, io::empty())
        }
        None => {
            let file = File::open(path)?;
            header.set_size(metadata.len());
            let content = Exact { file, left: metadata.len() };
            archive.append_data(&mut header, &name, content)
        }
    };
    write().map_err(failed)
}

fn header(metadata: &Metadata) -> Header {
    let executable = metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// A file that must have as many bytes as its entry announces.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..want])?;
        if read == 0 && want > 0 {
            return Err(io::Error::other("it became shorter while it was packed"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        for (name, text) in [("b", "2"), ("a", "1"), ("run.sh", "#!/bin/sh\n")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let run = dir.path().join("run.sh");
        std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o700)).unwrap();
        symlink("run.sh", dir.path().join("link")).unwrap();
        dir
    }

    fn packed(dir: &Path) -> Vec<u8> {
        std::fs::read(pack(dir).unwrap().path()).unwrap()
    }

    #[test]
    fn same_content_gives_the_same_bytes() {
        let (first, second) = (folder(), folder());
        let touched = File::options().write(true).open(first.path().join("a")).unwrap();
        touched.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(packed(first.path()), packed(second.path()));
        std::fs::write(second.path().join("a"), "3").unwrap();
        assert_ne!(packed(first.path()), packed(second.path()));
    }

    #[test]
    fn entries_keep_what_matters() {
        let bytes = packed(folder().path());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let mode = entry.header().mode().unwrap();
                let link = entry.link_name().unwrap().is_some();
                (entry.path().unwrap().display().to_string(), mode, link)
            })
            .collect();
        let expected = [
            ("a", 0o644, false),
            ("b", 0o644, false),
            ("empty", 0o755, false),
            ("link", 0o755, true),
            ("run.sh", 0o755, false),
        ];
        assert_eq!(entries, expected.map(|(path, mode, link)| (path.to_owned(), mode, link)));
    }

    #[test]
    fn links_out_of_the_folder_are_refused() {
        let dir = folder();
        symlink("/etc", dir.path().join("etc")).unwrap();
        let refused = pack(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("the link leads out of the folder"), "{refused}");
    }
}
