//! Asks one direction of a link how it behaves, by trains of packets alone.
//!
//! The suite knows nothing of what is behind [`LinkProbe`]: the simulator, a wire in user space or the
//! kernel's netem. Each [`Aspect`] has a profile of its own and a train that shows it; numbers that are
//! drawn are held to bounds which a right link leaves once in a million runs (five standard
//! deviations).

mod questions;
mod simulated;

use std::fmt;
use std::time::Duration;

use crate::link::OneWay;

pub use simulated::SimulatedLink;

/// A packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// When, from the start of the train; not before the one before it.
    pub at: Duration,
    /// Bytes of the whole IP packet, 28 at least.
    pub bytes: u32,
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which: its index in the train.
    pub shot: usize,
    /// How long it took.
    pub took: Duration,
    /// When it came, from the start of the train.
    pub at: Duration,
}

/// What became of a train.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// In the order of arrival.
    pub heard: Vec<Heard>,
    /// The MTU that the sender was told of, if it was.
    pub told_mtu: Option<u32>,
}

/// What the suite needs: to send trains over a link with a profile.
pub trait LinkProbe {
    /// Why a train could not be sent. That packets did not arrive is no error.
    type Error;

    /// How much later than they should half of all packets may come: what the clocks and the machine
    /// add. Nothing may come earlier.
    fn lateness(&self) -> Duration;

    /// What the link has no means for, and is not asked about.
    fn cannot(&self, way: &OneWay) -> bool;

    /// Sends a train over a link that was idle before, and waits for the last packet.
    fn send(&mut self, way: &OneWay, train: &[Shot]) -> Result<Passed, Self::Error>;
}

/// What a link may do to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// Every packet takes that long.
    Delay,
    /// Packets take up to so much longer, and may overtake each other.
    Jitter,
    /// The same, and none overtakes.
    OrderedJitter,
    /// A share is lost, each by itself.
    Loss,
    /// A share is lost, in bursts.
    Bursts,
    /// Packets leave at a rate.
    Rate,
    /// So many may wait, and those that come then are dropped.
    Queue,
    /// Larger packets are dropped and their sender is told.
    Mtu,
    /// Larger packets are dropped and nobody is told.
    BlackHole,
    /// A share is held back.
    Reorder,
    /// A share arrives twice.
    Duplicate,
}

/// Where a link is not what its profile says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDifference {
    /// On which aspect.
    pub aspect: Aspect,
    /// What was seen, and what it should be.
    pub what: String,
}

impl fmt::Display for LinkDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.aspect, self.what)
    }
}

/// What the suite found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// What was asked about.
    pub asked: Vec<Aspect>,
    /// What the link has no means for.
    pub skipped: Vec<Aspect>,
    /// Where it is not what its profile says.
    pub differences: Vec<LinkDifference>,
}

impl Aspect {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Delay,
        Self::Jitter,
        Self::OrderedJitter,
        Self::Loss,
        Self::Bursts,
        Self::Rate,
        Self::Queue,
        Self::Mtu,
        Self::BlackHole,
        Self::Reorder,
        Self::Duplicate,
    ];

    /// The profile that shows it.
    pub fn way(self) -> OneWay {
        questions::way(self)
    }
}

/// Asks about all aspects.
pub fn examine_link<L: LinkProbe>(link: &mut L) -> Result<LinkReport, L::Error> {
    let mut report = LinkReport::default();
    for aspect in Aspect::ALL {
        let way = aspect.way();
        if link.cannot(&way) {
            report.skipped.push(aspect);
            continue;
        }
        report.asked.push(aspect);
        let train = questions::train(aspect);
        let passed = link.send(&way, &train)?;
        let found = questions::judge(aspect, &train, &passed, link.lateness());
        report.differences.extend(found.into_iter().map(|what| LinkDifference { aspect, what }));
    }
    Ok(report)
}
