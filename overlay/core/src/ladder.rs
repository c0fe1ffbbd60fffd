//! Which transport carries the way to a relay: a race at the start, measurements afterwards.
//!
//! ```text
//!   0 ms     UDP to the relay     ─┐
//!   250 ms   QUIC datagrams, 443  ─┤  the first that answers carries at once;
//!   500 ms   TLS, 443             ─┤  a better one that answers later takes over;
//!   750 ms   the same by CONNECT  ─┘  the rest is closed when the race is over
//! ```
//!
//! The earlier rung is the better one, as it costs less and holds nothing up. It is left for a later one
//! only when that carries far more, as measured ([`train`]): some networks throttle UDP rather than block it.
//! While a later rung is in use the better ones are tried again, ever more rarely, and at once when the
//! network changes. When what is in use falls silent it has to prove itself against the others, in a new
//! race. The driver does what [`Effect`] says and reports with [`Report`].

pub mod train;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Between the starts of two rungs. Chosen: UDP's answer is there before, nearly everywhere.
const STAGGER: Duration = Duration::from_millis(250);

/// How long a race lasts: what has not answered by then is given up.
const RACE: Duration = Duration::from_secs(5);

/// Before better rungs are tried again for the first time.
pub const RETRY: Duration = Duration::from_secs(30);

/// The gaps after that, as multiples, then [`RETRY_REST`]: half an hour by [`RETRY`].
const RETRIES: [u32; 3] = [1, 4, 20];
const RETRY_REST: u32 = 60;

/// Before the next race while nothing carries packets, then [`NOTHING_REST`]: a coordinator that starts
/// again is found at once, one that is away for hours is asked twice a minute.
const NOTHING: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
const NOTHING_REST: Duration = Duration::from_secs(25);

/// Before a rung that was refused is tried again in a race that nobody has won.
const REFUSED: Duration = Duration::from_secs(1);

/// A later rung must carry so many percent of what an earlier one does to replace it.
const WORTH_PERCENT: u64 = 150;

/// Loss above which the other rungs are measured, too. Per mille. Chosen: TCP inside still gets along.
const BAD_LOSS: u16 = 50;

/// Between two such looks at the others.
const COMPARE_GAP: Duration = Duration::from_secs(60);

/// A transport, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Relay frames in UDP datagrams.
    Udp,
    /// QUIC datagrams on UDP port 443.
    Quic,
    /// TLS on TCP port 443.
    Tls,
    /// The same through an HTTP CONNECT proxy.
    Connect,
}

impl Rung {
    /// Packets go through a stream: what the other end sees of this node is the stream's other end.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tls | Self::Connect)
    }
}

/// As people say it.
impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Quic => "QUIC datagrams",
            Self::Tls => "TLS",
            Self::Connect => "TLS through the proxy",
        })
    }
}

/// What happened to a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It carries packets.
    Connected(Rung),
    /// It cannot be made, or has broken.
    Failed(Rung),
    /// What it carried over a while of use: to be given for those in use and those that are compared.
    Measured {
        /// Which.
        rung: Rung,
        /// Bytes per second that arrived while there was more to send.
        goodput: u64,
        /// Lost packets, per mille.
        loss: u16,
    },
    /// The machine's own addresses have changed, or it has slept.
    NetworkChanged,
    /// Packets that go the way in use are not answered.
    Silent,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Try to make it, or prove that it still carries; report either way.
    Open(Rung),
    /// It is not needed any more.
    Close(Rung),
    /// Packets go this way from now on.
    Use(Rung),
    /// Nothing carries packets.
    Nothing,
    /// Send some of the traffic that way too, and measure it.
    Compare(Rung),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Opening,
    Open,
}

/// See the module.
#[derive(Debug)]
pub struct Ladder {
    rungs: BTreeMap<Rung, State>,
    starts: Vec<(Instant, Rung)>,
    race_ends: Option<Instant>,
    in_use: Option<Rung>,
    /// What is in use has to prove itself again: whoever answers first takes over.
    doubted: bool,
    goodput: BTreeMap<Rung, u64>,
    /// Left for what carries far more: used again only when they carry as much.
    beaten: BTreeSet<Rung>,
    retry: Duration,
    /// Measurements of others are out: nothing is closed before the race is over.
    comparing: bool,
    retries: usize,
    retry_at: Option<Instant>,
    compared_at: Option<Instant>,
}

impl Ladder {
    /// A ladder of those rungs; the race begins at once. `retry`: see [`RETRY`].
    pub fn new(now: Instant, rungs: &[Rung], retry: Duration) -> Self {
        let mut ladder = Self {
            rungs: rungs.iter().map(|rung| (*rung, State::Closed)).collect(),
            starts: Vec::new(),
            race_ends: None,
            in_use: None,
            doubted: false,
            goodput: BTreeMap::new(),
            beaten: BTreeSet::new(),
            retry,
            comparing: false,
            retries: 0,
            retry_at: None,
            compared_at: None,
        };
        ladder.race(now);
        ladder
    }

    /// What carries packets now.
    pub fn in_use(&self) -> Option<Rung> {
        self.in_use
    }

    /// When [`Ladder::handle_wakeup`] has something to do.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let start = self.starts.iter().map(|(at, _)| *at).min();
        [start, self.race_ends, self.retry_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_wakeup(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.retries += 1;
            self.race(now);
        }
        let due: Vec<Rung> =
            self.starts.iter().filter(|(at, _)| *at <= now).map(|(_, rung)| *rung).collect();
        self.starts.retain(|(at, _)| *at > now);
        for rung in due {
            // Somebody better may carry by now.
            if self.is_wanted(rung) && self.state(rung) == State::Closed {
                self.set(rung, State::Opening);
                effects.push(Effect::Open(rung));
            }
        }
        if self.race_ends.is_some_and(|at| at <= now || self.is_decided()) {
            self.race_ends = None;
            self.end_race(now, &mut effects);
        }
        effects
    }

    /// Takes a report of the driver. One about a rung that was not asked for changes nothing.
    pub fn handle_report(&mut self, now: Instant, report: Report) -> Vec<Effect> {
        let mut effects = Vec::new();
        match report {
            Report::Connected(rung) => self.on_connected(rung, &mut effects),
            Report::Failed(rung) => self.on_failed(now, rung, &mut effects),
            Report::Measured { rung, goodput, loss } => {
                self.on_measured(now, rung, goodput, loss, &mut effects);
            }
            Report::NetworkChanged => {
                self.goodput.clear();
                self.beaten.clear();
                self.retries = 0;
                self.doubt(now, &mut effects);
            }
            Report::Silent => self.doubt(now, &mut effects),
        }
        effects.extend(self.handle_wakeup(now));
        effects
    }

    /// What is in use proves itself again, with the head start that it has by being there.
    fn doubt(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.doubted {
            return;
        }
        if let Some(used) = self.in_use {
            self.doubted = true;
            self.set(used, State::Opening);
            effects.push(Effect::Open(used));
        }
        self.race(now);
    }

    /// A rung would be used if it answered now.
    fn is_wanted(&self, rung: Rung) -> bool {
        self.doubted || self.in_use.is_none_or(|used| rung < used)
    }

    /// Everybody that was to be heard in this race has answered or given up.
    fn is_decided(&self) -> bool {
        let is_running = |(rung, state): (&Rung, &State)| {
            *state == State::Opening && (self.is_wanted(*rung) || self.in_use == Some(*rung))
        };
        self.starts.is_empty() && !self.comparing && !self.rungs.iter().any(is_running)
    }

    fn race(&mut self, now: Instant) {
        let wanted: Vec<Rung> = self
            .rungs
            .keys()
            .filter(|rung| self.is_wanted(**rung) && self.in_use != Some(**rung))
            .copied()
            .collect();
        let first = u32::from(self.doubted);
        let delays = (first..).map(|place| STAGGER * place);
        self.starts = delays.zip(&wanted).map(|(delay, rung)| (now + delay, *rung)).collect();
        self.race_ends = (self.doubted || !wanted.is_empty()).then_some(now + RACE);
        self.retry_at = None;
    }

    fn on_connected(&mut self, rung: Rung, effects: &mut Vec<Effect>) {
        if self.state(rung) != State::Opening {
            return;
        }
        self.set(rung, State::Open);
        if self.in_use == Some(rung) {
            // It has proved itself: those that were to replace it are not needed.
            self.doubted = false;
            self.starts.retain(|(_, start)| *start < rung);
            return;
        }
        if !self.is_wanted(rung) {
            return;
        }
        if self.beaten.contains(&rung) && !self.doubted && self.in_use.is_some() {
            self.comparing = true;
            effects.push(Effect::Compare(rung));
            return;
        }
        self.take(rung, effects);
        self.retries = 0;
    }

    fn take(&mut self, rung: Rung, effects: &mut Vec<Effect>) {
        self.in_use = Some(rung);
        self.doubted = false;
        self.beaten.remove(&rung);
        self.starts.retain(|(_, start)| *start < rung);
        effects.push(Effect::Use(rung));
    }

    fn on_failed(&mut self, now: Instant, rung: Rung, effects: &mut Vec<Effect>) {
        if self.state(rung) == State::Closed {
            return;
        }
        self.set(rung, State::Closed);
        self.goodput.remove(&rung);
        if self.in_use != Some(rung) {
            if self.in_use.is_none() && self.race_ends.is_some_and(|at| at > now + REFUSED) {
                self.starts.push((now + REFUSED, rung));
            }
            return;
        }
        self.doubted = false;
        self.retries = 0;
        let next = self.open().next();
        self.in_use = next;
        effects.push(self.in_use.map_or(Effect::Nothing, Effect::Use));
        if self.race_ends.is_none() || self.in_use.is_some() {
            self.race(now);
        }
    }

    fn on_measured(
        &mut self,
        now: Instant,
        rung: Rung,
        goodput: u64,
        loss: u16,
        effects: &mut Vec<Effect>,
    ) {
        if self.state(rung) != State::Open {
            return;
        }
        self.goodput.insert(rung, goodput);
        let Some(used) = self.in_use else { return };
        if rung == used && loss >= 1000 {
            self.doubt(now, effects);
            return;
        }
        let may_compare = self.compared_at.is_none_or(|at| now >= at + COMPARE_GAP);
        if rung == used && loss >= BAD_LOSS && may_compare {
            self.compared_at = Some(now);
            self.comparing = true;
            let others: Vec<Rung> = self.rungs.keys().copied().filter(|r| *r != used).collect();
            for other in others {
                if self.state(other) == State::Closed {
                    self.set(other, State::Opening);
                    effects.push(Effect::Open(other));
                }
                effects.push(Effect::Compare(other));
            }
            self.race_ends = Some(now + RACE);
        }
        if let Some(better) = self.better_than(used) {
            if used < better {
                self.beaten.insert(used);
            }
            self.take(better, effects);
        }
    }

    /// A rung that carries far more than the one in use; an earlier one needs no more than as much.
    fn better_than(&self, used: Rung) -> Option<Rung> {
        let current = *self.goodput.get(&used)?;
        self.open().filter(|rung| *rung != used).find(|rung| {
            let Some(goodput) = self.goodput.get(rung).copied() else { return false };
            if *rung < used {
                goodput.saturating_mul(WORTH_PERCENT) > current.saturating_mul(100)
                    && goodput >= current
            } else {
                goodput.saturating_mul(100) >= current.saturating_mul(WORTH_PERCENT) && goodput > 0
            }
        })
    }

    /// Closes what is not in use, and plans the next attempt at what would be better.
    fn end_race(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.comparing = false;
        if std::mem::take(&mut self.doubted) {
            // Nobody has answered, not even what was in use.
            self.in_use = None;
            effects.push(Effect::Nothing);
        }
        let idle: Vec<Rung> =
            self.rungs.keys().copied().filter(|r| self.in_use != Some(*r)).collect();
        for rung in idle {
            if self.state(rung) != State::Closed {
                self.set(rung, State::Closed);
                effects.push(Effect::Close(rung));
            }
        }
        let could_be_better = self.in_use.is_none_or(|used| self.rungs.keys().any(|r| *r < used));
        if could_be_better {
            let gap = match self.in_use {
                Some(_) => self.retry * RETRIES.get(self.retries).copied().unwrap_or(RETRY_REST),
                None => NOTHING.get(self.retries).copied().unwrap_or(NOTHING_REST),
            };
            self.retry_at = Some(now + gap);
        }
    }

    fn open(&self) -> impl Iterator<Item = Rung> + '_ {
        self.rungs.iter().filter(|(_, state)| **state == State::Open).map(|(rung, _)| *rung)
    }

    fn state(&self, rung: Rung) -> State {
        self.rungs.get(&rung).copied().unwrap_or_default()
    }

    fn set(&mut self, rung: Rung, state: State) {
        if let Some(known) = self.rungs.get_mut(&rung) {
            *known = state;
        }
    }
}

#[cfg(test)]
mod tests;
