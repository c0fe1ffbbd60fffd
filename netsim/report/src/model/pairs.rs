//! The history of an ordered pair.

use super::Series;
use crate::event::PathKind;
use crate::job::JobKey;

/// Which pair of which job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairKey {
    /// The job.
    pub job: JobKey,
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
    /// When the first of its two ranks had ended: what comes later happens to nobody.
    pub(super) over: Option<f64>,
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
                if self.over.is_none() {
                    last.explain = explain;
                }
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
        let last = self.of_use().rev().find(|stretch| stretch.path != PathKind::None);
        last.map_or(PathKind::None, |stretch| stretch.path)
    }

    /// Its paths until one of its ranks had ended.
    fn of_use(&self) -> impl DoubleEndedIterator<Item = &Stretch> {
        let over = self.over.unwrap_or(f64::INFINITY);
        self.history.iter().filter(move |stretch| stretch.from <= over)
    }

    /// The path at a moment.
    pub fn at(&self, t: f64) -> PathKind {
        let after = self.history.partition_point(|stretch| stretch.from <= t);
        let found = after.checked_sub(1).and_then(|at| self.history.get(at));
        found.filter(|stretch| t < stretch.to).map_or(PathKind::None, |stretch| stretch.path)
    }

    /// The path that carried what was sent in a time: one that the pair had then, if it had any; otherwise
    /// the one that it ended with. What was sent went somewhere.
    pub fn carried_by(&self, from: f64, to: f64) -> PathKind {
        let moments = [(from + to) / 2.0, to, from];
        let mut had =
            moments.into_iter().map(|t| self.at(t)).filter(|path| *path != PathKind::None);
        had.next().unwrap_or_else(|| self.settled())
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
        let last = self.of_use().rev().find(|stretch| stretch.path != PathKind::None);
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

    /// Why the path that it ended with is not direct, in the words of the last that was said about it.
    pub fn explain(&self) -> &str {
        let settled = self.settled();
        if settled == PathKind::Direct {
            return "";
        }
        let on_it = self.of_use().rev().filter(|stretch| stretch.path == settled);
        let mut said =
            on_it.map(|stretch| stretch.explain.as_str()).filter(|said| !said.is_empty());
        said.next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_went_over_a_path_that_the_pair_had() {
        let mut pair = Pair::default();
        pair.enter(2.0, PathKind::Direct, None, None, String::new());
        pair.close(5.0);
        // Counted since before the path was there, and after the job's end.
        for (from, to) in [(0.0, 2.5), (3.0, 4.0), (4.5, 6.0), (6.0, 7.0)] {
            assert_eq!(pair.carried_by(from, to), PathKind::Direct, "{from} to {to}");
        }
    }

    #[test]
    fn only_what_is_not_direct_in_the_end_needs_a_reason() {
        let mut pair = Pair::default();
        let mut enter = |t, path, why: &str| pair.enter(t, path, None, None, why.to_owned());
        enter(0.0, PathKind::None, "the relay has not answered yet");
        enter(1.0, PathKind::Relayed, "the search goes on");
        enter(2.0, PathKind::Relayed, "both routers map by destination");
        let mut other = pair.clone();
        assert_eq!(pair.explain(), "both routers map by destination");

        other.enter(3.0, PathKind::Direct, None, None, String::new());

        assert_eq!(other.explain(), "");
        // What comes when the job is taken down does not count, nor what comes when a rank has ended.
        pair.over = Some(2.5);
        pair.enter(3.0, PathKind::Relayed, None, None, "the peer's part has ended".to_owned());
        assert_eq!(pair.explain(), "both routers map by destination");
        pair.enter(4.0, PathKind::Direct, None, None, String::new());
        assert_eq!(pair.settled(), PathKind::Relayed);
        other.enter(4.0, PathKind::None, None, None, "gone".to_owned());
        assert_eq!(other.explain(), "");
    }
}
