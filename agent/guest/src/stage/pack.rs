//! Packs what a job made into its stage-out archive.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::baseline::{Baseline, MAX_PATHS, walk};
use super::open::open_inside;
use super::unpack_entry::check_link;

/// The most bytes of files in a stage-out, before compression. Chosen: as the coordinator's bound on
/// stage-in.
pub const MAX_STAGEOUT_BYTES: u64 = 4 << 30;

/// A packed result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of the archive, hexadecimal.
    pub sha256: String,
    /// Size of the archive, bytes.
    pub bytes: u64,
    /// Files, folders and links in it.
    pub entries: u64,
    /// What was left out, each with the reason.
    pub left_out: Vec<String>,
}

/// The most lines of [`Packed::left_out`].
const MAX_LEFT_OUT: usize = 1_000;

/// Packs what differs from `baseline` under `work` into `archive`. `first` (the captured outputs) goes in
/// before everything else, so that a size limit never costs them.
///
/// Links are packed as links, and only when they stay inside; devices, fifos and sockets are left out.
/// No process of the job may be alive. What is left out is listed in the file `note` of the archive.
///
/// # Errors
/// When the archive cannot be written or the tree cannot be read.
pub fn pack(
    work: &Path,
    baseline: &Baseline,
    first: &[PathBuf],
    note: &Path,
    archive: &Path,
    max_bytes: u64,
) -> io::Result<Packed> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(archive)?;
    let digest = Hashing { inner: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    let mut packer = Packer {
        tar: tar::Builder::new(GzEncoder::new(digest, Compression::fast())),
        work,
        folder: File::open(work)?,
        room: max_bytes,
        entries: 0,
        left_out: Vec::new(),
    };

    for path in first {
        if work.join(path).symlink_metadata().is_ok() {
            packer.add(path)?;
        }
    }
    let mut changed = Vec::new();
    let walked = walk(work, |relative, metadata| {
        if baseline.differs(relative, metadata) && !first.iter().any(|path| path == relative) {
            changed.push(relative.to_owned());
        }
    })?;
    for path in &changed {
        packer.add(path)?;
    }
    for path in &walked.unreadable {
        packer.leave_out(path, "it cannot be read");
    }
    if !walked.complete {
        packer.leave_out(Path::new("."), format_args!("what comes after {MAX_PATHS} files"));
    }
    packer.finish(note)
}

struct Packer<'a> {
    tar: tar::Builder<GzEncoder<Hashing>>,
    work: &'a Path,
    folder: File,
    room: u64,
    entries: u64,
    left_out: Vec<String>,
}

impl Packer<'_> {
    fn leave_out(&mut self, path: &Path, why: impl std::fmt::Display) {
        if self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push(format!("{}: {why}", path.display()));
        }
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let full = self.work.join(path);
        let metadata = match full.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                self.leave_out(path, error);
                return Ok(());
            }
        };
        let mut header = tar::Header::new_gnu();
        header.set_mode(metadata.mode() & 0o777);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);

        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            self.tar.append_data(&mut header, path, io::empty())?;
        } else if metadata.is_symlink() {
            let points_to = match std::fs::read_link(&full) {
                Ok(points_to) => points_to,
                Err(error) => {
                    self.leave_out(path, error);
                    return Ok(());
                }
            };
            if let Err(error) = check_link(path, &points_to) {
                self.leave_out(path, format_args!("the link is not followed: {error}"));
                return Ok(());
            }
            header.set_entry_type(tar::EntryType::Symlink);
            self.tar.append_link(&mut header, path, &points_to)?;
        } else if metadata.is_file() {
            if metadata.len() > self.room {
                self.leave_out(path, "the result is larger than the limit");
                return Ok(());
            }
            let opened = open_inside(&self.folder, path).and_then(|file| {
                let metadata = file.metadata()?;
                Ok((file, metadata))
            });
            let (file, size) = match opened {
                Ok((file, metadata)) if metadata.is_file() && metadata.len() <= self.room => {
                    (file, metadata.len())
                }
                Ok(_) => {
                    self.leave_out(path, "it has changed while it was packed");
                    return Ok(());
                }
                Err(error) => {
                    self.leave_out(path, error);
                    return Ok(());
                }
            };
            self.room = self.room.saturating_sub(size);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(size);
            // Exactly as many bytes as the header says, whatever happens to the file.
            self.tar.append_data(&mut header, path, file.chain(io::repeat(0)).take(size))?;
        } else {
            self.leave_out(path, "it is not a file, a folder or a link");
            return Ok(());
        }
        self.entries += 1;
        Ok(())
    }

    fn finish(mut self, note: &Path) -> io::Result<Packed> {
        if !self.left_out.is_empty() {
            let text = self.left_out.join("\n") + "\n";
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            self.tar.append_data(&mut header, note, text.as_bytes())?;
            self.entries += 1;
        }
        let mut output = self.tar.into_inner()?.finish()?;
        output.flush()?;
        output.inner.get_ref().sync_all()?;
        Ok(Packed {
            sha256: data_encoding::HEXLOWER.encode(&output.hash.finalize()),
            bytes: output.bytes,
            entries: self.entries,
            left_out: self.left_out,
        })
    }
}

/// Writes on, and hashes what it writes.
struct Hashing {
    inner: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
