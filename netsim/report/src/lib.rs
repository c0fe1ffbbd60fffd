//! What a run leaves behind: event log, samples, and the page that draws them.
//!
//! [`Recorder`] takes a run's [`Event`]s, of either back end's clock, and writes the run directory that
//! docs/run-directory.md describes.

pub mod event;
pub mod info;
pub mod record;

pub use event::{Backend, Event, FORMAT, PathKind, Role, Sample, What, Why};
pub use info::{Machine, RunInfo, RunState};
pub use record::{Budget, RecordError, Recorder};
