//! Writing a run directory while the run goes on.
//!
//! Whatever happens, what is written can be told from what is whole: `run.json` says `running` until
//! the end, its counts say how much the logs must hold, a line is written in one piece or taken
//! back, and whole files replace others by renaming. A full disk (or budget) ends the logging with one
//! message and does not end the run; room for the last words is held free from the start.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::event::{Event, Sample, What};
use crate::info::{RunInfo, RunState, unix_ms};
use crate::job::JobKey;

/// The names of the files in a run directory.
pub mod names {
    /// Which run it is.
    pub const RUN: &str = "run.json";
    /// The resolved scenario.
    pub const RESOLVED: &str = "resolved.json";
    /// The scenario as it was written.
    pub const SCENARIO: &str = "scenario.toml";
    /// The event log.
    pub const EVENTS: &str = "events.jsonl";
    /// The readings.
    pub const SAMPLES: &str = "samples.csv";
    /// The folder of the processes' logs, one folder for each machine.
    pub const LOGS: &str = "logs";
    /// The folder of packet captures.
    pub const CAPTURES: &str = "captures";
    /// The page.
    pub const REPORT: &str = "report.html";
    /// What is removed when the disk is full.
    pub(crate) const RESERVE: &str = ".reserve";
}

/// What `run.json` and the last events need at most.
const RESERVE: usize = 256 * 1024;

/// samples.csv's columns.
pub(crate) const SAMPLE_COLUMNS: [&str; 7] =
    ["t_s", "metric", "job", "from", "to", "value", "coordinator"];

/// How much a run may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of events.jsonl and samples.csv together.
    pub bytes: u64,
}

impl Default for Budget {
    /// 1 GiB: more than an hour of 100 volunteers that all talk with each other all the time.
    fn default() -> Self {
        Self { bytes: 1 << 30 }
    }
}

/// Why a run directory cannot be made or completed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is something in it.
    #[error("{} is not empty: choose a new directory, or remove it", .0.display())]
    NotEmpty(PathBuf),
    /// A file of it cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Takes what happens in a run. Cheap to clone; the clones write to the same directory.
#[derive(Clone, Debug)]
pub struct Recorder {
    start: Instant,
    start_unix_ms: u64,
    /// None: nobody wants to know.
    writer: Option<Arc<Mutex<Writer>>>,
}

#[derive(Debug)]
struct Writer {
    dir: PathBuf,
    info: RunInfo,
    events: Log,
    samples: Log,
    budget: u64,
    is_full: bool,
    /// The latest moment of an event, seconds.
    last: f64,
}

/// A file of lines.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    /// Bytes that are whole lines.
    whole: u64,
}

impl Recorder {
    /// Records nothing.
    pub fn nowhere() -> Self {
        Self { start: Instant::now(), start_unix_ms: unix_ms(), writer: None }
    }

    /// Makes the run directory with `run.json`, `resolved.json` and the scenario's text, and writes
    /// the first event. The run's clock starts here.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing is left, not even an empty directory.
    pub fn create(
        dir: &Path,
        info: RunInfo,
        resolved: &impl Serialize,
        scenario: &str,
        budget: Budget,
    ) -> Result<Self, RecordError> {
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(RecordError::NotEmpty(dir.to_owned()));
        }
        // All that is in it then is what was begun here.
        Self::begin(dir, info, resolved, scenario, budget).inspect_err(|_| {
            let _ = fs::remove_dir_all(dir);
        })
    }

    fn begin(
        dir: &Path,
        mut info: RunInfo,
        resolved: &impl Serialize,
        scenario: &str,
        budget: Budget,
    ) -> Result<Self, RecordError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RecordError::Write { path, source }
        };
        for folder in [dir, &dir.join(names::LOGS), &dir.join(names::CAPTURES)] {
            fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        let put = |name: &str, bytes: &[u8]| {
            replace(&dir.join(name), bytes).map_err(failed(&dir.join(name)))
        };
        // One moment for both clocks.
        let (start, start_unix_ms) = (Instant::now(), unix_ms());
        info.started_ms = start_unix_ms;
        put(names::RESERVE, &vec![b'.'; RESERVE])?;
        put(names::SCENARIO, scenario.as_bytes())?;
        put(names::RESOLVED, &json(resolved).map_err(failed(&dir.join(names::RESOLVED)))?)?;
        put(names::RUN, &json(&info).map_err(failed(&dir.join(names::RUN)))?)?;
        let log = |name| Log::create(dir.join(name)).map_err(failed(&dir.join(name)));
        let (events, mut samples) = (log(names::EVENTS)?, log(names::SAMPLES)?);
        let header = samples.append(format!("{}\n", SAMPLE_COLUMNS.join(",")).as_bytes());
        header.map_err(failed(&dir.join(names::SAMPLES)))?;
        let first = What::RunStart {
            format: info.format,
            title: info.title.clone(),
            scenario: info.scenario.clone(),
            seed: info.seed,
            backend: info.backend,
        };
        let dir = dir.to_owned();
        let budget = budget.bytes;
        let writer = Writer { dir, info, events, samples, budget, is_full: false, last: 0.0 };
        let writer = Some(Arc::new(Mutex::new(writer)));
        let recorder = Self { start, start_unix_ms, writer };
        recorder.record_at(0.0, first);
        Ok(recorder)
    }

    /// The run directory, if there is one.
    pub fn dir(&self) -> Option<PathBuf> {
        Some(self.writer()?.dir.clone())
    }

    /// Seconds since the start of the run, by this machine's clock.
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// A moment of this machine's calendar clock, milliseconds since the Unix epoch, on the run's clock.
    pub fn at_unix_ms(&self, ms: u64) -> f64 {
        ms.saturating_sub(self.start_unix_ms) as f64 / 1e3
    }

    /// Something has happened now.
    pub fn record(&self, what: What) {
        self.record_at(self.now(), what);
    }

    /// Something has happened at that time: seconds since the start of the run.
    pub fn record_at(&self, t: f64, what: What) {
        if let Some(mut writer) = self.writer() {
            // Microseconds: what is beyond them is noise, and costs bytes.
            writer.record(Event { t: (t * 1e6).round() / 1e6, what });
        }
    }

    /// Adds to `run.json`, as the programs' versions.
    pub fn amend(&self, change: impl FnOnce(&mut RunInfo)) {
        if let Some(mut writer) = self.writer() {
            change(&mut writer.info);
            writer.save();
        }
    }

    /// Brings everything that was recorded to the disk's file, for somebody who reads along.
    pub fn flush(&self) {
        if let Some(mut writer) = self.writer() {
            writer.flush();
        }
    }

    /// The run has ended: writes the last event and completes `run.json`.
    ///
    /// # Errors
    /// [`RecordError`]: then the directory says that the run was killed.
    pub fn finish(&self, t: f64, passed: bool, error: Option<String>) -> Result<(), RecordError> {
        let Some(mut writer) = self.writer() else { return Ok(()) };
        let state = if error.is_some() { RunState::Failed } else { RunState::Finished };
        writer.end(t, state, Some(passed), error)
    }

    /// The run is ended from outside, for the reason `why`. What comes later is not recorded.
    ///
    /// # Errors
    /// [`RecordError`]: then the directory says that the run was killed.
    pub fn interrupt(&self, why: &str) -> Result<(), RecordError> {
        let Some(mut writer) = self.writer() else { return Ok(()) };
        let t = writer.last;
        writer.end(t, RunState::Interrupted, None, Some(why.to_owned()))?;
        writer.is_full = true;
        Ok(())
    }

    fn writer(&self) -> Option<MutexGuard<'_, Writer>> {
        let writer = self.writer.as_ref()?;
        Some(writer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Writer {
    fn record(&mut self, event: Event) {
        self.last = self.last.max(event.t);
        if self.is_full {
            self.info.written.lost += 1;
            return;
        }
        let is_sample = matches!(event.what, What::Sample(_));
        let bytes = if let What::Sample(sample) = &event.what {
            rows(event.t, sample)
        } else {
            line(&event)
        };
        let left = self.budget.saturating_sub(self.events.whole + self.samples.whole);
        let log = if is_sample { &mut self.samples } else { &mut self.events };
        let written = bytes.and_then(|bytes| {
            if bytes.len() as u64 > left {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the budget is used up"));
            }
            log.append(&bytes)?;
            // An event shall survive the program; readings come in crowds.
            if is_sample { Ok(()) } else { log.file.flush() }?;
            Ok(bytes.iter().filter(|byte| **byte == b'\n').count() as u64)
        });
        match written {
            Ok(lines) if is_sample => self.info.written.samples += lines,
            Ok(lines) => self.info.written.events += lines,
            Err(error) => self.give_up(&error),
        }
    }

    fn end(
        &mut self,
        t: f64,
        state: RunState,
        passed: Option<bool>,
        error: Option<String>,
    ) -> Result<(), RecordError> {
        self.make_room();
        self.is_full = false;
        self.budget = u64::MAX;
        let t = (t * 1e6).round() / 1e6;
        self.record(Event { t, what: What::RunEnd { passed: passed == Some(true), error } });
        self.flush();
        self.info.state = state;
        self.info.passed = passed;
        self.info.ended_ms = Some(unix_ms());
        let path = self.dir.join(names::RUN);
        let written = json(&self.info).and_then(|bytes| replace(&path, &bytes));
        written.map_err(|source| RecordError::Write { path, source })
    }

    /// The disk is full, or as good as: says so once.
    fn give_up(&mut self, error: &io::Error) {
        self.is_full = true;
        self.info.written.lost += 1;
        self.make_room();
        let dir = self.dir.display();
        tracing::error!(%error, "{dir}: no more is recorded of this run: make room on the disk");
        let text = format!("nothing is recorded from here on: {error}");
        let t = self.info.started_ms;
        let t = unix_ms().saturating_sub(t) as f64 / 1e3;
        let note = Event { t, what: What::Failure { text } };
        let told = line(&note).and_then(|line| self.events.append(&line));
        if told.and_then(|()| self.events.file.flush()).is_ok() {
            self.info.written.events += 1;
        }
        self.save();
    }

    /// Gives back the room that was held free, and takes back lines that did not fit as a whole.
    fn make_room(&mut self) {
        let _ = fs::remove_file(self.dir.join(names::RESERVE));
        for log in [&mut self.events, &mut self.samples] {
            if log.file.flush().is_err() {
                log.mend();
            }
        }
    }

    fn flush(&mut self) {
        for log in [&mut self.events, &mut self.samples] {
            if log.file.flush().is_err() {
                log.mend();
            }
        }
        self.save();
    }

    fn save(&mut self) {
        let path = self.dir.join(names::RUN);
        if let Err(error) = json(&self.info).and_then(|bytes| replace(&path, &bytes)) {
            tracing::error!(%error, "cannot write {}", path.display());
        }
    }
}

impl Log {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = BufWriter::with_capacity(32 * 1024, File::create(&path)?);
        Ok(Self { path, file, whole: 0 })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.whole += lines.len() as u64;
        Ok(())
    }

    /// Ends the file after the last whole line that the disk has taken.
    fn mend(&mut self) {
        let Ok(bytes) = fs::read(&self.path) else { return };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let reopened = File::options().append(true).open(&self.path);
        if let Ok(file) = reopened.and_then(|file| file.set_len(whole as u64).map(|()| file)) {
            // What the old buffer holds did not fit; dropping it must not write it once more.
            let old = std::mem::replace(&mut self.file, BufWriter::new(file));
            drop(old.into_parts());
            self.whole = whole as u64;
        }
    }
}

/// An event as a line of events.jsonl.
pub(crate) fn line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

/// A reading as rows of samples.csv.
pub(crate) fn rows(t: f64, sample: &Sample) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let t = t.to_string();
    let mut row = |metric: &str, job: Option<&JobKey>, from: &str, to: &str, value: String| {
        let number = job.map(|job| job.number.to_string()).unwrap_or_default();
        let coordinator = job.map(JobKey::named_coordinator).unwrap_or_default();
        csv.write_record([&t, metric, &number, from, to, &value, coordinator])
    };
    match sample {
        Sample::PairBytes { job, from, to, sent } => {
            row("pair-bytes", Some(job), from, to, sent.to_string())?;
        }
        Sample::Rtt { job, from, to, rtt_ms } => {
            row("rtt-ms", Some(job), from, to, rtt_ms.to_string())?;
        }
        Sample::NodeBytes { node, sent, received } => {
            row("node-sent-bytes", None, node, "", sent.to_string())?;
            row("node-received-bytes", None, node, "", received.to_string())?;
        }
        Sample::Gauge { name, node, value } => row(name, None, node, "", value.to_string())?,
    }
    csv.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

pub(crate) fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes a file as a whole: readers see the old one or all of the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}
