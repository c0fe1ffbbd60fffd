//! How long the pairs of a run took: from the netmap that names both to the first byte, and to a direct
//! path.

use crate::event::PathKind;
use crate::model::{Pair, PairKey, Prediction, Run};

/// An ordered pair of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// What the sender is behind.
    pub from: String,
    /// What the receiver is behind.
    pub to: String,
    /// Seconds until the first authentic packet: from then on the pair has a path. None: never.
    pub first_byte_s: Option<f64>,
    /// Seconds until what is sent went directly. None: never.
    pub direct_s: Option<f64>,
    /// The path that it ended with.
    pub path: PathKind,
    /// What the oracle says, where it was asked.
    pub predicted: Option<Prediction>,
}

/// The pairs of a run. Their time begins when the later of the two nodes has the netmap: that is when
/// each of them first speaks of the pair.
pub fn of(run: &Run) -> Vec<Reached> {
    let behind = |name: &str| {
        let node = run.nodes.iter().find(|node| node.name == name);
        node.map(|node| node.behind.clone()).unwrap_or_default()
    };
    let pairs = run.pairs.iter().filter_map(|(key, pair)| {
        let back = PairKey { job: key.job.clone(), from: key.to.clone(), to: key.from.clone() };
        let begun = netmap_at(pair)?.max(netmap_at(run.pairs.get(&back)?)?);
        let since = |at: f64| (at - begun).max(0.0);
        Some(Reached {
            from: behind(&key.from),
            to: behind(&key.to),
            first_byte_s: pair.first(None).map(since),
            direct_s: pair.first(Some(PathKind::Direct)).map(since),
            path: pair.settled(),
            predicted: run.predicted(key),
        })
    });
    pairs.collect()
}

/// When its sender first spoke of a pair, which has no path then.
fn netmap_at(pair: &Pair) -> Option<f64> {
    let first = pair.history.first().filter(|stretch| stretch.path == PathKind::None);
    first.map(|stretch| stretch.from)
}
