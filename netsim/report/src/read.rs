//! Reading a run directory, be it whole or not.
//!
//! What a run directory holds may have been written by another version, cut off by a killed run or
//! made by somebody who means harm. Sizes are bounded, lines that cannot be read are counted, and what
//! is missing is said; only a directory that is no run directory at all is an error.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::event::{Event, FORMAT, Sample, What};
use crate::info::{RunInfo, RunState};
use crate::job::JobKey;
use crate::record::{self, SAMPLE_COLUMNS, names};
use crate::settle;

/// The longest line of the event log that is looked at. The longest that is written names a job's
/// thousand members.
const MAX_LINE: u64 = 1 << 20;

/// The most events and rows that are read. Chosen: 1 GiB of the shortest.
const MAX_ROWS: usize = 20_000_000;

/// The largest of the small files (run.json, scenario.toml, resolved.json) that is read.
const MAX_FILE: u64 = 32 << 20;

/// Why a directory is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It has no `run.json`.
    #[error("{} is no run directory: it has no {}; `netsim run SCENARIO --out DIR` makes one", .0.display(), names::RUN)]
    NotARun(PathBuf),
    /// A file of it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `run.json` is damaged.
    #[error("{} is damaged: restore it from a copy", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        #[source]
        source: serde_json::Error,
    },
    /// It was written by a later version.
    #[error("{} has format {format}, and this netsim reads up to {FORMAT}: use a newer one", path.display())]
    Later {
        /// Which.
        path: PathBuf,
        /// The writer's.
        format: u32,
    },
}

/// What a run directory holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The directory.
    pub dir: PathBuf,
    /// `run.json`.
    pub info: RunInfo,
    /// The scenario's text; empty when it is not there.
    pub scenario: String,
    /// In the order of the file.
    pub events: Vec<Event>,
    /// In the order of the file.
    pub samples: Vec<Row>,
    /// What is not there or cannot be understood, for people. Empty: the run is whole.
    pub missing: Vec<String>,
}

/// A row of samples.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Seconds since the start of the run.
    pub t: f64,
    /// What was read, as `pair-bytes`.
    pub metric: String,
    /// The job that it belongs to, if any.
    pub job: Option<JobKey>,
    /// The node, or the sender.
    pub from: String,
    /// The receiver, if any.
    pub to: String,
    /// The reading.
    pub value: f64,
}

/// Reads a run directory.
///
/// # Errors
/// [`ReadError`].
pub fn read(dir: &Path) -> Result<Contents, ReadError> {
    let info = info(dir)?;
    let mut missing = Vec::new();
    let small = |name: &str, missing: &mut Vec<String>| {
        small_file(&dir.join(name)).unwrap_or_else(|error| {
            missing.push(format!("{name}: {error}"));
            String::new()
        })
    };
    let scenario = small(names::SCENARIO, &mut missing);
    small(names::RESOLVED, &mut missing);
    let mut events = read_events(&dir.join(names::EVENTS), &mut missing)?;
    let mut samples = read_samples(&dir.join(names::SAMPLES), &mut missing)?;
    match info.state {
        RunState::Running => {
            // Nobody has brought them together yet.
            for event in settle::agents(dir, &info) {
                if let What::Sample(sample) = &event.what {
                    samples.extend(rows_of(event.t, sample));
                } else {
                    events.push(event);
                }
            }
            missing.push(
                "the end of the run: it was killed, or is still at work; what follows is what was \
             recorded until then"
                    .to_owned(),
            );
        }
        RunState::Failed => missing.push("the run could not go on to its end".to_owned()),
        RunState::Interrupted => missing.push(
            "the end of the run: it was interrupted; what follows is what was recorded until then"
                .to_owned(),
        ),
        RunState::Finished => {}
    }
    let written = info.written;
    let short = |found: usize, expected: u64| (found as u64) < expected;
    if short(events.len(), written.events) {
        missing.push(format!(
            "{} of {} events",
            written.events - events.len() as u64,
            written.events
        ));
    }
    if short(samples.len(), written.samples) {
        let lost = written.samples - samples.len() as u64;
        missing.push(format!("{lost} of {} readings", written.samples));
    }
    if written.lost > 0 {
        missing.push(format!(
            "{} events and readings, for which there was no room on the disk or in the budget",
            written.lost
        ));
    }
    Ok(Contents { dir: dir.to_owned(), info, scenario, events, samples, missing })
}

/// `run.json` alone.
///
/// # Errors
/// [`ReadError`].
pub fn info(dir: &Path) -> Result<RunInfo, ReadError> {
    let path = dir.join(names::RUN);
    let text = match small_file(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReadError::NotARun(dir.to_owned()));
        }
        Err(source) => return Err(ReadError::Read { path, source }),
    };
    // The format first: the rest of a later one may look different.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |source| ReadError::Damaged { path: path.clone(), source };
    let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(ReadError::Later { path, format });
    }
    serde_json::from_str(&text).map_err(damaged)
}

fn small_file(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Nothing when the file is not there.
fn open(path: &Path, missing: &mut Vec<String>) -> Result<Option<File>, ReadError> {
    let is_file = fs::metadata(path).map(|metadata| metadata.is_file());
    match is_file
        .and_then(|is| if is { File::open(path) } else { Err(io::Error::other("not a file")) })
    {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            missing.push(format!("{name}: there is no such file"));
            Ok(None)
        }
        Err(source) => Err(ReadError::Read { path: path.to_owned(), source }),
    }
}

fn read_events(path: &Path, missing: &mut Vec<String>) -> Result<Vec<Event>, ReadError> {
    let Some(file) = open(path, missing)? else { return Ok(Vec::new()) };
    let failed = |source| ReadError::Read { path: path.to_owned(), source };
    let mut lines = BufReader::new(file);
    let (mut events, mut damaged) = (Vec::new(), 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if length == 0 || events.len() >= MAX_ROWS {
            break;
        }
        match serde_json::from_slice::<Event>(&line) {
            Ok(event) if event.t.is_finite() && event.t >= 0.0 => {
                if !matches!(event.what, What::Sample(_)) {
                    events.push(event);
                }
            }
            Ok(_) | Err(_) => damaged += 1,
        }
    }
    if damaged > 0 {
        missing.push(format!("{damaged} lines of {} that cannot be read", names::EVENTS));
    }
    Ok(events)
}

fn read_samples(path: &Path, missing: &mut Vec<String>) -> Result<Vec<Row>, ReadError> {
    let Some(file) = open(path, missing)? else { return Ok(Vec::new()) };
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(BufReader::new(file));
    let (mut rows, mut damaged) = (Vec::new(), 0_u64);
    let mut record = csv::StringRecord::new();
    while rows.len() < MAX_ROWS {
        match csv.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => match row(&record) {
                Some(row) => rows.push(row),
                None => damaged += 1,
            },
            Err(error) => {
                damaged += 1;
                if let csv::ErrorKind::Io(_) = error.kind() {
                    break;
                }
            }
        }
    }
    if damaged > 0 {
        missing.push(format!("{damaged} rows of {} that cannot be read", names::SAMPLES));
    }
    Ok(rows)
}

/// A reading as rows.
fn rows_of(t: f64, sample: &Sample) -> Vec<Row> {
    let bytes = record::rows(t, sample).unwrap_or_default();
    let mut csv = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
    csv.records().filter_map(|record| row(&record.ok()?)).collect()
}

fn row(record: &csv::StringRecord) -> Option<Row> {
    // Older ones have no column for the coordinator.
    if record.len() < SAMPLE_COLUMNS.len() - 1 {
        return None;
    }
    let number = |text: &str| text.parse().ok().filter(|n: &f64| n.is_finite());
    let job = match record.get(2)? {
        "" => None,
        number => Some(JobKey::read(record.get(6).unwrap_or_default(), number.parse().ok()?)),
    };
    let (t, value) = (number(record.get(0)?)?, number(record.get(5)?)?);
    let text = |at: usize| record.get(at).unwrap_or_default().to_owned();
    (t >= 0.0).then(|| Row { t, metric: text(1), job, from: text(3), to: text(4), value })
}
