//! Times and places of worlds.

use std::path::PathBuf;
use std::time::Duration;

/// How long a job may take to start or to end where nothing is in its way.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// A new directory in this program's run directory.
pub(crate) fn fresh_dir() -> PathBuf {
    let dir = tempfile::Builder::new().prefix("world-").tempdir().unwrap();
    dir.keep()
}
