//! The history of an ordered pair.

use super::Series;
use crate::event::PathKind;

/// Which pair of which job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairKey {
    /// The job's number.
    pub job: u64,
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
}

/// An ordered pair of a job.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// Its paths one after the other.
    pub history: Vec<Stretch>,
    /// Bytes that the job sent.
    pub sent: Series,
    /// Round trip times, milliseconds.
    pub rtt: Series,
}

/// A time that a pair spent on one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// From, seconds.
    pub from: f64,
    /// To, seconds.
    pub to: f64,
    /// The path.
    pub path: PathKind,
    /// Over which endpoint.
    pub via: Option<String>,
    /// Round trip time when it began, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Why it was relayed.
    pub explain: String,
}

impl Pair {
    pub(super) fn enter(
        &mut self,
        t: f64,
        path: PathKind,
        via: Option<String>,
        rtt_ms: Option<f64>,
        explain: String,
    ) {
        if let Some(rtt) = rtt_ms.filter(|rtt| rtt.is_finite()) {
            self.rtt.push((t, rtt));
        }
        if let Some(last) = self.history.last_mut() {
            if last.path == path && last.via == via {
                last.rtt_ms = rtt_ms.or(last.rtt_ms);
                last.explain = explain;
                return;
            }
            last.to = t;
        }
        self.history.push(Stretch { from: t, to: f64::INFINITY, path, via, rtt_ms, explain });
    }

    pub(super) fn close(&mut self, end: f64) {
        if let Some(last) = self.history.last_mut()
            && last.to.is_infinite()
        {
            last.to = end.max(last.from);
        }
        // Said at a change, and read at every tick: one series.
        self.rtt.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// The first moment with a path, or with one of that kind.
    pub fn first(&self, wanted: Option<PathKind>) -> Option<f64> {
        let fits = |stretch: &&Stretch| match wanted {
            Some(wanted) => stretch.path == wanted,
            None => stretch.path != PathKind::None,
        };
        self.history.iter().find(fits).map(|stretch| stretch.from)
    }

    /// The path that it ended with: what came when its job was taken down does not count.
    pub fn settled(&self) -> PathKind {
        let last = self.history.iter().rev().find(|stretch| stretch.path != PathKind::None);
        last.map_or(PathKind::None, |stretch| stretch.path)
    }

    /// The path at a moment.
    pub fn at(&self, t: f64) -> PathKind {
        let after = self.history.partition_point(|stretch| stretch.from <= t);
        let found = after.checked_sub(1).and_then(|at| self.history.get(at));
        found.filter(|stretch| t < stretch.to).map_or(PathKind::None, |stretch| stretch.path)
    }

    /// How often it went from one working path to another, or lost one.
    pub fn changes(&self) -> usize {
        let begun = self.history.iter().skip_while(|stretch| stretch.path == PathKind::None);
        begun.count().saturating_sub(1)
    }

    /// Seconds on paths of that kind.
    pub fn seconds(&self, path: PathKind) -> f64 {
        let of = self.history.iter().filter(|stretch| stretch.path == path);
        of.map(|stretch| stretch.to - stretch.from).sum()
    }

    /// The median of its round trip times, milliseconds: those of its last working path, where any
    /// were measured on it.
    pub fn median_rtt(&self) -> Option<f64> {
        let last = self.history.iter().rev().find(|stretch| stretch.path != PathKind::None);
        let since = last.map_or(0.0, |stretch| stretch.from);
        let of = |since: f64| {
            let late = self.rtt.iter().filter(|(t, _)| *t >= since).map(|(_, rtt)| *rtt);
            crate::statistics::median(late.collect())
        };
        of(since).or_else(|| of(0.0))
    }

    /// Bytes that the job sent.
    pub fn bytes(&self) -> u64 {
        self.sent.iter().map(|(_, sent)| *sent).fold(0.0, f64::max) as u64
    }

    /// Why it is relayed, in the words of the last that was said about it.
    pub fn explain(&self) -> &str {
        let said = self.history.iter().rev().find(|stretch| !stretch.explain.is_empty());
        said.map_or("", |stretch| &stretch.explain)
    }
}
