//! The node: takes inputs, drains its children, gives outputs.

use std::time::Instant;

use crate::io::{Input, Output};
use crate::{MeshId, NodeId, SessionKey};
use crate::{NodeCandidates, PairState};

/// What a [`Node`] is made from.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub id: NodeId,
    /// Seeds its random numbers: same seed and inputs, same outputs. Must be unpredictable in use.
    pub seed: u64,
}

/// One node of the overlay.
#[derive(Debug)]
pub struct Node {
    outputs: Vec<Output>,
    stats: Stats,
}

/// The side effects of one input, in the order in which they must happen.
#[must_use = "the outputs must be carried out"]
#[derive(Debug)]
pub struct Outputs<'a>(std::vec::Drain<'a, Output>);

impl Iterator for Outputs<'_> {
    type Item = Output;

    fn next(&mut self) -> Option<Output> {
        self.0.next()
    }
}

/// Counters since the node was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Control frames that could not be read, or that nobody had asked for.
    pub control_refused: u64,
}

/// What a node knows, for status output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// The node's own candidates as last announced.
    pub candidates: Option<NodeCandidates>,
    /// The meshes that it has joined, with the epoch of the netmap (0: none yet).
    pub meshes: Vec<(MeshId, u64)>,
    /// Every pair.
    pub pairs: Vec<(SessionKey, PairState)>,
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(_config: NodeConfig, _now: Instant) -> Self {
        Self { outputs: Vec::new(), stats: Stats::default() }
    }

    /// Advances the node to `now` and applies `input`.
    pub fn handle_input(&mut self, _now: Instant, _input: Input<'_>) -> Outputs<'_> {
        Outputs(self.outputs.drain(..))
    }

    /// When the node wants an [`Input::Wakeup`] at the latest.
    pub fn next_wakeup(&self) -> Option<Instant> {
        None
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What the node knows, for status output.
    pub fn snapshot(&self) -> NodeView {
        NodeView::default()
    }
}
