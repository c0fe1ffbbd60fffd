//! How much was sent, when, and on which paths.

use serde_json::{Value, json};

use super::{Figure, colour, layout, mark_faults, plain, stacked, time_axis};
use crate::event::{PathKind, Role};
use crate::model::{Run, Series};
use crate::statistics::median;

/// The most points of a curve.
const MOST_BINS: f64 = 600.0;

/// The most lines: the colours that can be told apart.
const MOST_LINES: usize = 8;

/// Bytes over time, in equal bins.
struct Bins {
    width: f64,
    bytes: Vec<f64>,
}

impl Bins {
    fn new(end: f64) -> Self {
        // Half a second is finer than any back end reads.
        let width = (end / MOST_BINS).max(0.5);
        let count = (end / width).ceil().max(1.0) as usize;
        Self { width, bytes: vec![0.0; count.min(4096)] }
    }

    /// Spreads bytes evenly over a time.
    fn add(&mut self, from: f64, to: f64, bytes: f64) {
        let last = self.bytes.len() - 1;
        let bin = |t: f64| ((t / self.width) as usize).min(last);
        let (first, end) = (bin(from), bin(to));
        let length = (to - from).max(1e-9);
        for at in first..=end {
            let begin = (at as f64 * self.width).max(from);
            let stop = if at == end { to } else { ((at + 1) as f64 * self.width).min(to) };
            if let Some(of) = self.bytes.get_mut(at) {
                *of += bytes * ((stop - begin) / length).clamp(0.0, 1.0);
            }
        }
    }

    fn total(&self) -> f64 {
        self.bytes.iter().sum()
    }

    /// Beginning of each bin, and Mbit/s; the end of the last one.
    fn rates(&self) -> Series {
        let rate =
            |(at, bytes): (usize, &f64)| (at as f64 * self.width, bytes * 8.0 / 1e6 / self.width);
        let mut rates: Series = self.bytes.iter().enumerate().map(rate).collect();
        let last = rates.last().map_or(0.0, |(_, rate)| *rate);
        rates.push((self.bytes.len() as f64 * self.width, last));
        rates
    }
}

/// How far apart a run's readings are: equal readings are left out, so growth belongs to the last such
/// time before a reading.
fn interval<'a>(series: impl Iterator<Item = &'a Series>) -> f64 {
    let apart = series.flat_map(|series| series.windows(2).map(|two| two[1].0 - two[0].0));
    median(apart.take(100_000).filter(|apart| *apart > 0.0).collect()).unwrap_or(1.0).max(0.01)
}

/// A counter's growth: from, to, bytes. A counter that falls has begun again.
fn growth(series: &Series, interval: f64) -> impl Iterator<Item = (f64, f64, f64)> {
    let before = std::iter::once((f64::NEG_INFINITY, 0.0)).chain(series.iter().copied());
    before.zip(series).filter_map(move |((before, had), (at, has))| {
        let bytes = if *has >= had { has - had } else { *has };
        // A reading that comes a little late still covers all since the last one.
        let from = if at - before < 2.5 * interval { before } else { at - interval };
        (bytes > 0.0).then_some((from.max(0.0), *at, bytes))
    })
}

/// What the jobs sent, by the kind of path.
pub(super) fn by_path(run: &Run) -> Option<Figure> {
    let every = interval(run.pairs.values().map(|pair| &pair.sent));
    let (mut direct, mut relayed) = (Bins::new(run.end), Bins::new(run.end));
    for pair in run.pairs.values() {
        for (from, to, bytes) in growth(&pair.sent, every) {
            match pair.carried_by(from, to) {
                PathKind::Relayed => relayed.add(from, to, bytes),
                PathKind::Direct | PathKind::None => direct.add(from, to, bytes),
            }
        }
    }
    let mut wire = Bins::new(run.end);
    let machines: Vec<&Series> =
        run.nodes.iter().filter(|node| node.role != Role::Router).map(|node| &node.sent).collect();
    let every = interval(machines.iter().copied());
    for series in &machines {
        // What was there before the first reading was not sent now.
        growth(series, every).skip(1).for_each(|(from, to, bytes)| wire.add(from, to, bytes));
    }
    if direct.total() + relayed.total() + wire.total() <= 0.0 {
        return None;
    }
    let mut data: Vec<Value> = Vec::new();
    for (name, colour, bins) in
        [("jobs, direct", colour::BLUE, &direct), ("jobs, relayed", colour::ORANGE, &relayed)]
    {
        if bins.total() > 0.0 {
            data.push(stacked(name, colour, &bins.rates()));
        }
    }
    if wire.total() > 0.0 {
        let (x, y): (Vec<f64>, Vec<f64>) = wire.rates().into_iter().unzip();
        data.push(json!({
            "type": "scatter", "mode": "lines", "name": "all machines' interfaces", "x": x, "y": y,
            "line": {"color": colour::BLACK, "width": 1.2, "shape": "hv"},
        }));
    }
    let mut layout = layout(
        340,
        time_axis(run),
        json!({"title": {"text": "sent (Mbit/s)"}, "rangemode": "tozero"}),
    );
    mark_faults(run, &mut layout);
    Some(Figure {
        id: "throughput",
        title: "Throughput of all pairs and machines".to_owned(),
        caption:
            "Areas: the IP packets that jobs sent into their networks, by the path that the pair \
                  had. Line: all that the machines sent at their network interfaces, with staging, \
                  control, encryption and relaying. Both are counted several times a second: at the \
                  edges of a burst one may run ahead of the other by that."
                .to_owned(),
        data,
        layout,
    })
}

/// The pairs that sent most.
pub(super) fn by_pair(run: &Run) -> Option<Figure> {
    let every = interval(run.pairs.values().map(|pair| &pair.sent));
    let mut pairs: Vec<_> = run.pairs.iter().filter(|(_, pair)| pair.bytes() > 0).collect();
    let all = pairs.len();
    pairs.sort_by_key(|(key, pair)| (std::cmp::Reverse(pair.bytes()), *key));
    pairs.truncate(MOST_LINES);
    if pairs.is_empty() {
        return None;
    }
    let several = run.jobs.len() > 1;
    let data = pairs.iter().zip(colour::LINES).map(|((key, pair), colour)| {
        let mut bins = Bins::new(run.end);
        growth(&pair.sent, every).for_each(|(from, to, bytes)| bins.add(from, to, bytes));
        let (x, y): (Vec<f64>, Vec<f64>) = bins.rates().into_iter().unzip();
        let names = format!("{} → {}", plain(&key.from), plain(&key.to));
        let name = if several { format!("job {}: {names}", key.job) } else { names };
        json!({"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y,
               "line": {"color": colour, "width": 1.5, "shape": "hv"}})
    });
    let data = data.collect();
    let mut layout = layout(
        360,
        time_axis(run),
        json!({"title": {"text": "sent (Mbit/s)"}, "rangemode": "tozero"}),
    );
    mark_faults(run, &mut layout);
    let shown = pairs.len();
    Some(Figure {
        id: "pair-throughput",
        title: "Throughput of the busiest pairs".to_owned(),
        caption: format!("The {shown} of {all} ordered pairs that sent most; samples.csv has all."),
        data,
        layout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_lost_or_moved() {
        let mut bins = Bins::new(10.0);
        bins.add(0.2, 3.7, 1000.0);
        bins.add(9.9, 10.0, 50.0);
        bins.add(4.0, 4.0, 7.0);
        assert!((bins.total() - 1050.0).abs() < 1.0, "{}", bins.total());
        let rates = bins.rates();
        assert_eq!(rates.len(), 21);
        assert!(rates.iter().all(|(t, rate)| *t < 3.8 || *t >= 9.5 || *rate == 0.0));
    }

    #[test]
    fn growth_after_a_pause_belongs_to_the_end_of_the_pause() {
        let series = vec![(1.0, 10.0), (2.0, 20.0), (60.0, 50.0), (61.0, 5.0)];
        let grown: Vec<_> = growth(&series, 1.0).collect();
        assert_eq!(
            grown,
            [(0.0, 1.0, 10.0), (1.0, 2.0, 10.0), (59.0, 60.0, 30.0), (60.0, 61.0, 5.0)]
        );
    }
}
