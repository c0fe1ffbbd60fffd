//! What is done to a run directory's logs when nobody writes to them any more.
//!
//! Several threads write, and agents are heard when all is over: the lines are brought into the order of
//! time. An interrupted run could not end its directory itself: lines that were cut off are taken away, the
//! last event says what happened, and `run.json` counts what is there.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;

use crate::agents::Agents;
use crate::event::{Event, What};
use crate::info::{RunInfo, RunState, unix_ms};
use crate::read::{self, ReadError};
use crate::record::{RecordError, json, line, names, replace, rows};

/// Why an interrupted run's directory is not completed.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// It is no run's, or cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] RecordError),
}

/// Completes the directory of a run that was ended from outside, for the reason `why`; whether that was
/// to be done: one that has come to its own end is left as it is. Nobody may be writing to it any more.
///
/// # Errors
/// [`SettleError`]; then `run.json` says `running` still.
pub fn interrupted(dir: &Path, why: &str) -> Result<bool, SettleError> {
    let mut info: RunInfo = read::info(dir)?;
    if info.state != RunState::Running {
        return Ok(false);
    }
    let failed = |name: &str| {
        let path = dir.join(name);
        move |source| RecordError::Write { path, source }
    };
    let _ = fs::remove_file(dir.join(names::RESERVE));
    let (events, samples) = (dir.join(names::EVENTS), dir.join(names::SAMPLES));
    whole_lines(&samples).map_err(failed(names::SAMPLES))?;
    whole_lines(&events).map_err(failed(names::EVENTS))?;
    let ended = unix_ms();
    // Whatever the clocks say, the end is the end.
    let mut t = ended.saturating_sub(info.started_ms) as f64 / 1e3;
    let recorded = fs::read(&events).map_err(failed(names::EVENTS))?;
    let recorded = recorded.split(|byte| *byte == b'\n').filter_map(time_of_event);
    t = recorded.fold(t, f64::max);
    let (mut lines, mut readings) = (Vec::new(), Vec::new());
    for event in agents(dir, &info) {
        t = t.max(event.t);
        // One that cannot be written down is none.
        if let What::Sample(sample) = &event.what {
            readings.extend(rows(event.t, sample).unwrap_or_default());
        } else {
            lines.extend(line(&event).unwrap_or_default());
        }
    }
    let end = Event { t, what: What::RunEnd { passed: false, error: Some(why.to_owned()) } };
    lines.extend(line(&end).unwrap_or_default());
    let append =
        |path: &Path, bytes: &[u8]| File::options().append(true).open(path)?.write_all(bytes);
    append(&samples, &readings).map_err(failed(names::SAMPLES))?;
    append(&events, &lines).map_err(failed(names::EVENTS))?;
    in_order(dir)?;
    info.written.events = whole_lines(&events).map_err(failed(names::EVENTS))?;
    // Without the header.
    let rows = whole_lines(&samples).map_err(failed(names::SAMPLES))?;
    info.written.samples = rows.saturating_sub(1);
    info.state = RunState::Interrupted;
    info.ended_ms = Some(ended);
    let written = json(&info).and_then(|bytes| replace(&dir.join(names::RUN), &bytes));
    written.map_err(failed(names::RUN))?;
    Ok(true)
}

/// What the agents of a run have written into its directory, as events.
pub(crate) fn agents(dir: &Path, info: &RunInfo) -> Vec<Event> {
    let Some(start) = info.started_mono_us else { return Vec::new() };
    let logs = dir.join(names::LOGS);
    Agents::read(&logs, &info.clusters).map(|agents| agents.events(start)).unwrap_or_default()
}

/// Brings the lines of the event log and the rows of the readings into the order of their times. What
/// happened at the same time keeps its order.
///
/// # Errors
/// [`RecordError`]: then they are as they were.
pub fn in_order(dir: &Path) -> Result<(), RecordError> {
    let of_row = |row: &[u8]| {
        let first = row.split(|byte| *byte == b',').next()?;
        std::str::from_utf8(first).ok()?.parse().ok()
    };
    sort(&dir.join(names::EVENTS), 0, &time_of_event)?;
    sort(&dir.join(names::SAMPLES), 1, &of_row)
}

fn time_of_event(line: &[u8]) -> Option<f64> {
    #[derive(serde::Deserialize)]
    struct At {
        t: f64,
    }
    serde_json::from_slice(line).ok().map(|At { t }| t)
}

/// Sorts the lines after the first `header` ones by their times; what has none stays behind what is
/// before it.
fn sort(
    path: &Path,
    header: usize,
    time: &dyn Fn(&[u8]) -> Option<f64>,
) -> Result<(), RecordError> {
    let failed = |source| RecordError::Write { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(failed)?;
    let mut lines: Vec<(f64, &[u8])> = Vec::new();
    let (mut last, mut is_sorted) = (0.0, true);
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let t = if number < header { f64::NEG_INFINITY } else { time(line).unwrap_or(last) };
        is_sorted &= t >= last || number < header;
        last = t.max(0.0);
        lines.push((t, line));
    }
    if is_sorted {
        return Ok(());
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    let sorted: Vec<&[u8]> = lines.into_iter().map(|(_, line)| line).collect();
    replace(path, &sorted.concat()).map_err(failed)
}

/// Ends a file after its last whole line; how many there are.
fn whole_lines(path: &Path) -> io::Result<u64> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut lines, mut whole, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        lines += 1;
        whole += length as u64;
    }
    file.set_len(whole)?;
    Ok(lines)
}
