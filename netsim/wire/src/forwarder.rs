//! Many links at work, on real frames, in a time that is given. No IO.
//!
//! ```text
//!   near ── [NAT] ── pipe up ── way to the other region ── far
//!   near ── [NAT] ── pipe down ────────────────────────── far
//! ```
//! Near is a machine or a router, far the network that it is plugged into. Pipes are the
//! simulator's; NATs decide when a packet is at them. Ways between regions are shared by all
//! who send from the one to the other. What neighbours say to each other (ARP, neighbour discovery)
//! belongs to no model and passes at once.

mod ways;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use netsim_sim::link::{Passage, Pipe};
use netsim_sim::{LinkProfile, NatProfile};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::frame::{ETHERNET, parse};
use crate::nat::{Translator, Verdict};
use crate::notice;

pub use ways::{Region, Ways};

/// Bytes on their way on all links together; frames beyond are dropped and counted. Chosen: 300
/// Mbit/s on ten links for half a second is 190 MB.
const MAX_BYTES: usize = 256 << 20;

/// A link of a [`Forwarder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub(crate) u32);

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The machine or router that the link belongs to.
    Near,
    /// The network that it is plugged into.
    Far,
}

/// A link to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LineSpec {
    /// What it does to packets.
    pub profile: LinkProfile,
    /// The NAT at its near end. None: the kernel's, or none at all.
    pub nat: Option<LineNat>,
    /// Where its near end is. None: packets meet no way between regions.
    pub region: Option<Region>,
    /// For all that is random about it.
    pub seed: u64,
}

/// The NAT at the near end of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineNat {
    /// How it behaves.
    pub profile: NatProfile,
    /// Its address.
    pub outer: Ipv4Addr,
    /// The hardware address of the router's outer interface.
    pub hardware: [u8; 6],
}

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Delivered, copies included.
    pub delivered: u64,
    /// Lost by the medium.
    pub lost: u64,
    /// Dropped at a full queue.
    pub queue_full: u64,
    /// Larger than the MTU.
    pub too_big: u64,
    /// Dropped since the link was down.
    pub down: u64,
    /// Refused by the NAT.
    pub refused: u64,
    /// Dropped since too much was on its way on all links.
    pub overflow: u64,
}

/// A frame that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// On which link.
    pub line: LineId,
    /// At which end.
    pub side: Side,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Many links at work.
#[derive(Debug, Default)]
pub struct Forwarder {
    lines: BTreeMap<LineId, Line>,
    next_line: u32,
    ways: Ways,
    waiting: BinaryHeap<Reverse<Waiting>>,
    arrived: VecDeque<Arrival>,
    waiting_bytes: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Line {
    pipes: [Pipe; 2],
    nat: Option<Translator>,
    /// How much later than everybody else's the NAT's clock is.
    nat_ahead: Duration,
    region: Option<Region>,
    is_down: bool,
    counters: [Counters; 2],
    rng: ChaCha8Rng,
}

/// Ordered by time, then by the order of coming.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Duration,
    sequence: u64,
    line: LineId,
    next: Next,
    frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// It has left the near end's link.
    Way,
    /// It is at its end.
    End(Side),
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }

    /// The direction that begins here.
    fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far => 1,
        }
    }
}

impl Forwarder {
    /// Adds a link.
    pub fn add(&mut self, spec: LineSpec) -> LineId {
        let id = LineId(self.next_line);
        self.next_line = self.next_line.wrapping_add(1);
        let nat = spec.nat.map(|nat| {
            // Another stream than the link's own.
            Translator::new(nat.profile, nat.outer, nat.hardware, !spec.seed)
        });
        let line = Line {
            pipes: [Pipe::new(spec.profile.up), Pipe::new(spec.profile.down)],
            nat,
            nat_ahead: Duration::ZERO,
            region: spec.region,
            is_down: false,
            counters: [Counters::default(); 2],
            rng: ChaCha8Rng::seed_from_u64(spec.seed),
        };
        self.lines.insert(id, line);
        id
    }

    /// Takes a link away, with what is on it.
    pub fn remove(&mut self, id: LineId) {
        self.lines.remove(&id);
    }

    /// Changes what a link does to packets; those on their way are not touched.
    pub fn set_profile(&mut self, id: LineId, profile: LinkProfile) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.pipes[0].set_profile(profile.up);
            line.pipes[1].set_profile(profile.down);
        }
    }

    /// Takes a link down, or up again.
    pub fn set_down(&mut self, id: LineId, is_down: bool) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.is_down = is_down;
        }
    }

    /// A link's NAT starts again.
    pub fn reboot_nat(&mut self, id: LineId) {
        if let Some(nat) = self.lines.get_mut(&id).and_then(|line| line.nat.as_mut()) {
            nat.reboot();
        }
    }

    /// Lets a link's NAT age at once, as if nothing had happened for that long.
    pub fn age_nat(&mut self, id: LineId, by: Duration) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.nat_ahead += by;
        }
    }

    /// The ways between regions.
    pub fn ways(&mut self) -> &mut Ways {
        &mut self.ways
    }

    /// What became of a link's packets, those from its near end first.
    pub fn counters(&self, id: LineId) -> Option<[Counters; 2]> {
        self.lines.get(&id).map(|line| line.counters)
    }

    /// A frame comes in at an end.
    pub fn receive(&mut self, now: Duration, id: LineId, from: Side, frame: Vec<u8>) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        if line.is_down {
            line.counters[from.index()].down += 1;
            return;
        }
        let Some(frame) = self.before_pipe(now, id, from, frame) else { return };
        let parsed = parse(&frame);
        if !parsed.is_modelled() {
            self.finish(now, id, from.other(), frame);
            return;
        }
        let Some(line) = self.lines.get_mut(&id) else { return };
        let passage = line.pipes[from.index()].pass(now, ip_bytes(&frame), &mut line.rng);
        let next = if from == Side::Near { Next::Way } else { Next::End(Side::Near) };
        self.go_on(now, id, from, passage, next, frame);
    }

    /// When something is to happen next.
    pub fn next_due(&self) -> Option<Duration> {
        if !self.arrived.is_empty() {
            return Some(Duration::ZERO);
        }
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    /// The next frame that has arrived by now.
    pub fn pop(&mut self, now: Duration) -> Option<Arrival> {
        loop {
            if let Some(arrival) = self.arrived.pop_front() {
                return Some(arrival);
            }
            if self.waiting.peek().is_none_or(|Reverse(waiting)| waiting.at > now) {
                return None;
            }
            let Reverse(Waiting { at, line, next, frame, .. }) = self.waiting.pop()?;
            self.waiting_bytes -= frame.len();
            match next {
                // In the time of the model, not of its keeper, who may be late.
                Next::Way => self.enter_way(at, line, frame),
                Next::End(side) => self.finish(at, line, side, frame),
            }
        }
    }

    /// The NAT stands before the link on the way out.
    fn before_pipe(
        &mut self,
        now: Duration,
        id: LineId,
        from: Side,
        frame: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let line = self.lines.get_mut(&id)?;
        let (Side::Near, Some(nat)) = (from, line.nat.as_mut()) else { return Some(frame) };
        match nat.outbound(now + line.nat_ahead, frame) {
            Verdict::Pass(frame) => Some(frame),
            Verdict::Back(frame) => {
                self.arrive(id, Side::Near, frame);
                None
            }
            Verdict::Drop => {
                line.counters[from.index()].refused += 1;
                None
            }
        }
    }

    fn enter_way(&mut self, at: Duration, id: LineId, frame: Vec<u8>) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let addresses = parse(&frame).addresses();
        let way =
            line.region.zip(addresses).and_then(|(from, (_, to))| self.ways.between(from, to));
        let Some(way) = way else {
            self.finish(at, id, Side::Far, frame);
            return;
        };
        let passage = way.pass(at, ip_bytes(&frame), &mut line.rng);
        self.go_on(at, id, Side::Near, passage, Next::End(Side::Far), frame);
    }

    /// What a pipe said is done.
    fn go_on(
        &mut self,
        now: Duration,
        id: LineId,
        from: Side,
        passage: Passage,
        next: Next,
        frame: Vec<u8>,
    ) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let counters = &mut line.counters[from.index()];
        match passage {
            Passage::Arrives { at, again } => {
                if let Some(again) = again {
                    self.wait(again, id, from, next, frame.clone());
                }
                self.wait(at, id, from, next, frame);
            }
            Passage::Lost => counters.lost += 1,
            Passage::QueueFull => counters.queue_full += 1,
            Passage::Down => counters.down += 1,
            Passage::TooBig { mtu_bytes, notice } => {
                counters.too_big += 1;
                let notice = if notice { notice::too_big(&frame, mtu_bytes) } else { None };
                if let Some(notice) = notice {
                    // It comes from the link, as if from the other end.
                    self.finish(now, id, from, notice);
                }
            }
        }
    }

    fn wait(&mut self, at: Duration, line: LineId, from: Side, next: Next, frame: Vec<u8>) {
        if self.waiting_bytes + frame.len() > MAX_BYTES {
            if let Some(line) = self.lines.get_mut(&line) {
                line.counters[from.index()].overflow += 1;
            }
            return;
        }
        self.waiting_bytes += frame.len();
        self.sequence += 1;
        self.waiting.push(Reverse(Waiting { at, sequence: self.sequence, line, next, frame }));
    }

    /// A frame is at an end. The NAT stands behind the link on the way in.
    fn finish(&mut self, now: Duration, id: LineId, side: Side, frame: Vec<u8>) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let counters = &mut line.counters[side.other().index()];
        let (Side::Near, Some(nat)) = (side, line.nat.as_mut()) else {
            counters.delivered += 1;
            self.arrive(id, side, frame);
            return;
        };
        match nat.inbound(now + line.nat_ahead, frame) {
            Verdict::Pass(frame) => {
                counters.delivered += 1;
                self.arrive(id, side, frame);
            }
            Verdict::Back(frame) => self.arrive(id, side.other(), frame),
            Verdict::Drop => counters.refused += 1,
        }
    }

    fn arrive(&mut self, line: LineId, side: Side, frame: Vec<u8>) {
        self.arrived.push_back(Arrival { line, side, frame });
    }
}

/// Bytes of the whole IP packet in a frame: what rates and MTUs count. Padding counts as well.
fn ip_bytes(frame: &[u8]) -> u32 {
    u32::try_from(frame.len().saturating_sub(ETHERNET)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
