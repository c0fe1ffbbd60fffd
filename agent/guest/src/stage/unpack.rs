//! Unpacks a stage-in archive (tar, gzip) that nobody has to trust.
//!
//! Two passes over the same file. The first reads headers alone and holds the archive to
//! [`UnpackLimits`]; nothing is written, and the extension headers that the second pass keeps in memory
//! are known to be small. The second writes, entry by entry, and never through a symbolic link.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::unpack_entry::{EntryError, Target, unpack_entry};

/// Bounds of an archive. All of them are chosen: far above what a job's input needs, far below what
/// hurts a volunteer's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// The most entries.
    pub entries: u64,
    /// The most bytes after decompression, headers included.
    pub total_bytes: u64,
    /// The most bytes after decompression for each byte before it, past [`Self::ratio_free_bytes`].
    /// Deflate reaches 1,032; text reaches 20.
    pub ratio: u64,
    /// Bytes after decompression that the ratio does not count for: small archives of zeros are fine.
    pub ratio_free_bytes: u64,
    /// The longest extension header (long names, pax records), bytes.
    pub extension_bytes: u64,
    /// The most bytes of all extension headers: the paths are kept in memory.
    pub all_extension_bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            entries: 200_000,
            total_bytes: 16 << 30,
            ratio: 200,
            ratio_free_bytes: 64 << 20,
            extension_bytes: 64 << 10,
            all_extension_bytes: 64 << 20,
        }
    }
}

/// Why an archive was refused. Nothing outside the target was touched; what was written inside it so
/// far stays and is to be removed with the job's directory.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not a tar archive compressed with gzip, or cut short, or the disk failed.
    #[error("the archive cannot be read or unpacked: {0}")]
    Io(#[from] io::Error),
    /// The archive is larger than a limit.
    #[error("the archive has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// One entry is not acceptable.
    #[error("the archive's entry {name:?} is refused: {source}")]
    Entry {
        /// The name in the archive.
        name: String,
        /// What is wrong with it.
        source: EntryError,
    },
}

impl UnpackError {
    /// The archive is at fault (and not this machine's disk): another node would refuse it as well.
    pub fn is_archives_fault(&self) -> bool {
        match self {
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::Other
            ),
            Self::TooLarge { .. } => true,
            Self::Entry { source, .. } => source.is_archives_fault(),
        }
    }
}

/// Unpacks `archive` into the existing, empty directory `target`.
///
/// # Errors
/// [`UnpackError`], which names the entry.
pub fn unpack(archive: &Path, target: &Path, limits: &UnpackLimits) -> Result<(), UnpackError> {
    check_budget(archive, limits)?;

    let mut target = Target::new(target.to_owned());
    let mut reader = Archive::new(bounded(archive, limits)?);
    for entry in reader.entries()? {
        let mut entry = entry.map_err(|error| bomb_or_io(error, limits))?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        unpack_entry(&mut entry, &mut target)
            .map_err(|source| UnpackError::Entry { name, source })?;
    }
    Ok(())
}

/// First pass: counts, and refuses what the second pass would have to keep in memory.
fn check_budget(archive: &Path, limits: &UnpackLimits) -> Result<(), UnpackError> {
    let mut reader = Archive::new(bounded(archive, limits)?);
    let mut entries = 0u64;
    let mut extensions = 0u64;
    for entry in reader.entries()?.raw(true) {
        let mut entry = entry.map_err(|error| bomb_or_io(error, limits))?;
        entries += 1;
        if entries > limits.entries {
            return Err(UnpackError::TooLarge { what: "entries", limit: limits.entries });
        }
        let kind = entry.header().entry_type();
        let extension = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        let size = entry.header().entry_size()?;
        if extension && size > limits.extension_bytes {
            let what = "bytes of names in one header";
            return Err(UnpackError::TooLarge { what, limit: limits.extension_bytes });
        }
        extensions += if extension { size } else { 0 };
        if extensions > limits.all_extension_bytes {
            let what = "bytes of names";
            return Err(UnpackError::TooLarge { what, limit: limits.all_extension_bytes });
        }
        if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
            // A size here would make the two passes see two archives. Only files of more than
            // 8 GiB need it.
            let mut records = Vec::new();
            entry.read_to_end(&mut records).map_err(|error| bomb_or_io(error, limits))?;
            if tar::PaxExtensions::new(&records)
                .any(|record| record.is_ok_and(|record| record.key_bytes() == b"size"))
            {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                return Err(UnpackError::Entry { name, source: EntryError::SizeOverride });
            }
        } else if size > limits.total_bytes {
            return Err(too_many_bytes(limits));
        }
    }
    Ok(())
}

fn too_many_bytes(limits: &UnpackLimits) -> UnpackError {
    UnpackError::TooLarge { what: "bytes unpacked", limit: limits.total_bytes }
}

/// The marker that [`Bounded`] puts into its errors.
#[derive(Debug, thiserror::Error)]
enum Bomb {
    #[error("too many bytes")]
    Total,
    #[error("too many bytes out of too few")]
    Ratio,
}

fn bomb_or_io(error: io::Error, limits: &UnpackLimits) -> UnpackError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Bomb>()) {
        Some(Bomb::Total) => too_many_bytes(limits),
        Some(Bomb::Ratio) => UnpackError::TooLarge {
            what: "bytes unpacked for each byte of the archive",
            limit: limits.ratio,
        },
        None => UnpackError::Io(error),
    }
}

/// A decompressor that stops at the limits.
struct Bounded {
    inner: MultiGzDecoder<BufReader<File>>,
    produced: u64,
    limits: UnpackLimits,
    archive_bytes: u64,
}

fn bounded(archive: &Path, limits: &UnpackLimits) -> io::Result<Bounded> {
    let file = File::open(archive)?;
    let archive_bytes = file.metadata()?.len();
    let inner = MultiGzDecoder::new(BufReader::with_capacity(64 << 10, file));
    Ok(Bounded { inner, produced: 0, limits: *limits, archive_bytes })
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.produced += count as u64;
        if self.produced > self.limits.total_bytes {
            return Err(io::Error::other(Bomb::Total));
        }
        let allowed = self.archive_bytes.saturating_mul(self.limits.ratio);
        if self.produced > self.limits.ratio_free_bytes && self.produced > allowed {
            return Err(io::Error::other(Bomb::Ratio));
        }
        Ok(count)
    }
}

/// Paths inside the target that are symbolic links, and paths that exist.
pub(super) type Seen = BTreeSet<PathBuf>;
