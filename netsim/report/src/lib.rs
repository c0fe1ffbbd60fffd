//! What a run leaves behind: event log, samples, and the page that draws them.
//!
//! [`Recorder`] takes a run's [`Event`]s, of either back end's clock, and writes the run directory that
//! docs/run-directory.md describes.

pub mod agents;
pub mod event;
pub mod figures;
pub mod info;
pub mod job;
pub mod metrics;
pub mod model;
pub mod page;
pub mod reached;
pub mod read;
pub mod record;
pub mod settle;
pub mod statistics;
pub mod sweep;
pub mod tables;

pub use event::{Backend, Event, FORMAT, PathKind, Role, Sample, What, Why};
pub use info::{Machine, RunInfo, RunState};
pub use job::JobKey;
pub use record::{Budget, RecordError, Recorder};

use std::path::Path;

/// Why a report is not made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run cannot be read.
    #[error(transparent)]
    Read(#[from] read::ReadError),
    /// The report cannot be written.
    #[error(transparent)]
    Write(#[from] RecordError),
}

/// Makes (or makes again) a run's CSV tables and its page, from its logs. The run may be incomplete:
/// then the page says so.
///
/// # Errors
/// [`ReportError`].
pub fn report(dir: &Path) -> Result<model::Run, ReportError> {
    let run = model::Run::of(read::read(dir)?);
    tables::write(&run, dir)?;
    put(&dir.join(record::names::REPORT), &page::run::render(&run))?;
    Ok(run)
}

/// Makes one page that shows several runs side by side.
///
/// # Errors
/// [`ReportError`].
pub fn compare(dirs: &[&Path], to: &Path) -> Result<(), ReportError> {
    let mut runs = Vec::new();
    for dir in dirs {
        runs.push((dir.display().to_string(), model::Run::of(read::read(dir)?)));
    }
    Ok(put(to, &page::compare::render(&runs))?)
}

fn put(path: &Path, page: &str) -> Result<(), RecordError> {
    let written = record::replace(path, page.as_bytes());
    written.map_err(|source| RecordError::Write { path: path.to_owned(), source })
}
