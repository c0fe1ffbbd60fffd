//! When machines come and go, in the simulator's vocabulary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netsim_sim::{Churn, Drawn, Exponential, Interval, Times};

use crate::fault::{Fault, at};
use crate::file::{self, ChurnModel};
use crate::folder::Folder;

/// The largest trace that is read. Chosen: a million lines.
const LARGEST_TRACE: u64 = 64 << 20;

/// The churn of a group.
pub(super) enum Comings {
    /// All machines draw from the same.
    Drawn(Churn),
    /// Each has its own times.
    Traced { file: PathBuf, machines: BTreeMap<usize, Vec<Interval>> },
}

impl Comings {
    pub(super) fn new(written: &file::Churn, folder: &Folder) -> Result<Self, Fault> {
        match &written.trace {
            None => drawn(written).map(Self::Drawn),
            Some(trace) => {
                let is_drawn = written.model.is_some()
                    || written.on.is_some()
                    || written.off.is_some()
                    || written.shape.is_some();
                if is_drawn {
                    let message = "a trace has its own times: leave model, on, off and shape out";
                    return Err(Fault::new(at!["trace"], message));
                }
                let machines = read(trace, folder, written.speed.unwrap_or(1.0))
                    .map_err(|message| Fault::new(at!["trace"], message))?;
                Ok(Self::Traced { file: trace.clone(), machines })
            }
        }
    }

    /// The churn of the group's machine, from 0.
    pub(super) fn of_machine(&self, index: usize) -> Result<Churn, Fault> {
        match self {
            Self::Drawn(churn) => Ok(churn.clone()),
            Self::Traced { file, machines } => match machines.get(&(index + 1)) {
                Some(intervals) => Ok(Churn::Intervals(intervals.clone())),
                None => {
                    let message = format!("{} has no machine {}", file.display(), index + 1);
                    Err(Fault::new(at!["trace"], message))
                }
            },
        }
    }
}

fn drawn(written: &file::Churn) -> Result<Churn, Fault> {
    let (Some(on), Some(off)) = (written.on, written.off) else {
        let message = "give the mean times `on` and `off`, or a `trace`";
        return Err(Fault::new([], message));
    };
    if written.speed.is_some() {
        return Err(Fault::new(at!["speed"], "`speed` is for a `trace`"));
    }
    let (on, off, shape) = (on.0, off.0, written.shape);
    let churn = match written.model.unwrap_or_default() {
        ChurnModel::Exponential if shape.is_some() => {
            let message = "an exponential distribution has no shape: choose a `model`";
            return Err(Fault::new(at!["shape"], message));
        }
        ChurnModel::Exponential => Churn::Exponential(Exponential { mean_on: on, mean_off: off }),
        ChurnModel::Weibull => {
            let of = |mean| Times::Weibull { mean, shape: shape.unwrap_or(0.5) };
            Churn::Drawn(Drawn { on: of(on), off: of(off) })
        }
        ChurnModel::Lognormal => {
            let of = |mean| Times::Lognormal { mean, sigma: shape.unwrap_or(1.5) };
            Churn::Drawn(Drawn { on: of(on), off: of(off) })
        }
    };
    churn.check().map_err(|error| Fault::new([], error.to_string()))?;
    Ok(churn)
}

/// A file of lines `MACHINE,FROM,TO`.
fn read(
    path: &Path,
    folder: &Folder,
    speed: f64,
) -> Result<BTreeMap<usize, Vec<Interval>>, String> {
    if !(1e-6..=1e9).contains(&speed) {
        return Err(format!("`speed` is {speed}: how many times faster than the trace was?"));
    }
    let cannot = |error| format!("cannot read {}: {error}", path.display());
    let bytes = folder.read(path, LARGEST_TRACE).map_err(cannot)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut machines: BTreeMap<usize, Vec<Interval>> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let parsed = parse_line(line, speed).ok_or_else(|| {
            let place = format!("{}:{}", path.display(), index + 1);
            format!("{place}: `{line}` is not MACHINE,FROM,TO in seconds")
        })?;
        machines.entry(parsed.0).or_default().push(parsed.1);
    }
    for (machine, intervals) in &machines {
        let churn = Churn::Intervals(intervals.clone());
        churn
            .check()
            .map_err(|error| format!("machine {machine} of {}: {error}", path.display()))?;
    }
    Ok(machines)
}

fn parse_line(line: &str, speed: f64) -> Option<(usize, Interval)> {
    let mut fields = line.split(',').map(str::trim);
    let machine = fields.next()?.parse().ok().filter(|machine| *machine > 0)?;
    let mut time = || {
        let seconds: f64 = fields.next()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds / speed).ok()
    };
    let interval = Interval { from: time()?, to: time()? };
    fields.next().is_none().then_some((machine, interval))
}
