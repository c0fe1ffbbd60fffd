//! Temporary files without a name: nothing is left of them, however the program ends.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A temporary file that can be opened by a path while this lives.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _file: File,
}

impl Scratch {
    /// An empty one in the system's temporary directory.
    pub(crate) fn new() -> Result<Self, Failure> {
        let file = tempfile::tempfile().map_err(Failure::file(&std::env::temp_dir()))?;
        // Opening this opens the file itself, whether it has a name or not: proc(5), `/proc/pid/fd`.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { path, _file: file })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
