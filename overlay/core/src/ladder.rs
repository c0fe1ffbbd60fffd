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
//! only when that carries far more: some networks throttle UDP rather than block it. What flows by the way in use is
//! counted ([`flow`]); when it loses much, or there is more to send than it takes, trains of questions tell of the
//! others what they would carry ([`train`]). The one that promises far more is tried with the job's own packets while the one
//! that it replaces stays open, and is left again if less flows by it.
//! While a later rung is in use the better ones are tried again, ever more rarely, and at once when the
//! network changes. When what is in use falls silent it has to prove itself against the others, in a new
//! race. The driver does what [`Effect`] says and reports with [`Report`].

pub mod flow;
pub mod train;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use flow::Flowed;

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

/// How long a rung that was chosen for what it promised may have nothing to show. Chosen: a job that was
/// busy is so again, or it does not matter.
const TRIAL: Duration = Duration::from_secs(60);

/// Looks at what flows by it that decide.
const TRIAL_LOOKS: u32 = 3;

/// Before a rung by which less flowed than it promised is tried again.
const REFUTED: Duration = Duration::from_secs(600);

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
    /// What a train of questions promises: to be given for those in use and those that are compared.
    Measured {
        /// Which.
        rung: Rung,
        /// Bytes per second that it would carry.
        goodput: u64,
        /// Lost packets, per mille.
        loss: u16,
    },
    /// What the job's packets made of the way in use.
    Flowed(Rung, Flowed),
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
    /// Send a train that way, and measure it.
    Compare(Rung),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Opening,
    Open,
}

/// What is in use has to show that more flows by it than by the one that it replaced.
#[derive(Clone, Copy, Debug)]
struct Trial {
    replaced: Rung,
    before: Flowed,
    looks: u32,
    ends: Instant,
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
    /// By which less flowed than it promised, and until when it is left alone.
    refuted: BTreeMap<Rung, Instant>,
    /// What flowed by the one in use, when that was looked at last.
    flowed: Option<Flowed>,
    trial: Option<Trial>,
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
            refuted: BTreeMap::new(),
            flowed: None,
            trial: None,
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
        let trial = self.trial.map(|trial| trial.ends);
        [start, self.race_ends, self.retry_at, trial].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_wakeup(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.trial.is_some_and(|trial| trial.ends <= now) {
            self.end_trial(&mut effects);
        }
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
            Report::Connected(rung) => self.on_connected(now, rung, &mut effects),
            Report::Failed(rung) => self.on_failed(now, rung, &mut effects),
            Report::Measured { rung, goodput, loss } => {
                self.on_measured(now, rung, goodput, loss, &mut effects);
            }
            Report::Flowed(rung, flowed) => self.on_flowed(now, rung, flowed, &mut effects),
            Report::NetworkChanged => {
                self.goodput.clear();
                self.beaten.clear();
                self.refuted.clear();
                self.end_trial(&mut effects);
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

    fn on_connected(&mut self, now: Instant, rung: Rung, effects: &mut Vec<Effect>) {
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
        let is_known_to_be_worse = self.beaten.contains(&rung) || self.is_refuted(now, rung);
        if is_known_to_be_worse && !self.doubted && self.in_use.is_some() {
            self.comparing = true;
            effects.push(Effect::Compare(rung));
            effects.extend(self.in_use.map(Effect::Compare));
            return;
        }
        self.take(rung, effects);
        self.retries = 0;
    }

    fn take(&mut self, rung: Rung, effects: &mut Vec<Effect>) {
        self.in_use = Some(rung);
        self.flowed = None;
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
        self.flowed = None;
        self.trial = None;
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
        if rung == used && loss >= BAD_LOSS {
            self.compare(now, used, effects);
        }
        if let Some(better) = self.better_than(now, used) {
            if used < better {
                self.beaten.insert(used);
            }
            let trial = |before| Trial { replaced: used, before, looks: 0, ends: now + TRIAL };
            let trial = self.flowed.map(trial);
            self.end_trial(effects);
            self.take(better, effects);
            self.trial = trial;
        }
    }

    /// Has the others measured, too.
    fn compare(&mut self, now: Instant, used: Rung, effects: &mut Vec<Effect>) {
        if self.trial.is_some() || self.compared_at.is_some_and(|at| now < at + COMPARE_GAP) {
            return;
        }
        self.compared_at = Some(now);
        self.comparing = true;
        let others: Vec<Rung> = self.rungs.keys().copied().filter(|r| *r != used).collect();
        for other in others {
            if self.is_refuted(now, other) {
                continue;
            }
            if self.state(other) == State::Closed {
                self.set(other, State::Opening);
                effects.push(Effect::Open(other));
            }
            effects.push(Effect::Compare(other));
        }
        // The one in use is measured beside them.
        effects.push(Effect::Compare(used));
        self.race_ends = Some(now + RACE);
    }

    /// What flows has the last word: a way that promised more and carries less is left again.
    fn on_flowed(&mut self, now: Instant, rung: Rung, flowed: Flowed, effects: &mut Vec<Effect>) {
        if self.in_use != Some(rung) || self.doubted {
            return;
        }
        self.flowed = Some(flowed);
        if let Some(mut trial) = self.trial {
            let is_open = self.state(trial.replaced) == State::Open;
            if is_open && is_worse(&flowed, &trial.before) {
                self.trial = None;
                self.refuted.insert(rung, now + REFUTED);
                self.goodput.remove(&rung);
                self.take(trial.replaced, effects);
                if rung < trial.replaced {
                    // Next time it is measured before it is used.
                    self.beaten.insert(rung);
                }
                self.flowed = Some(trial.before);
                self.set(rung, State::Closed);
                effects.push(Effect::Close(rung));
                return;
            }
            trial.looks += 1;
            self.trial = Some(trial);
            if trial.looks >= TRIAL_LOOKS {
                self.end_trial(effects);
            }
        }
        if flowed.is_full || flowed.loss >= BAD_LOSS {
            self.compare(now, rung, effects);
        }
    }

    /// What was replaced is not needed any more.
    fn end_trial(&mut self, effects: &mut Vec<Effect>) {
        let Some(Trial { replaced, .. }) = self.trial.take() else { return };
        if self.in_use != Some(replaced)
            && self.race_ends.is_none()
            && self.state(replaced) != State::Closed
        {
            self.set(replaced, State::Closed);
            effects.push(Effect::Close(replaced));
        }
    }

    fn is_refuted(&self, now: Instant, rung: Rung) -> bool {
        self.refuted.get(&rung).is_some_and(|until| now < *until)
    }

    /// A rung that carries far more than the one in use; an earlier one needs no more than as much.
    fn better_than(&self, now: Instant, used: Rung) -> Option<Rung> {
        let current = *self.goodput.get(&used)?;
        let others = self.open().filter(|rung| *rung != used && !self.is_refuted(now, *rung));
        others.into_iter().find(|rung| {
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
        let tried = self.trial.map(|trial| trial.replaced);
        let is_idle = |rung: &Rung| self.in_use != Some(*rung) && tried != Some(*rung);
        let idle: Vec<Rung> = self.rungs.keys().copied().filter(is_idle).collect();
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

/// Whether what flows now is worse than what flowed before: less, although there is more, or with more loss. A job
/// that has less to say is no reason.
fn is_worse(now: &Flowed, before: &Flowed) -> bool {
    let is_strained = now.is_full || now.loss >= BAD_LOSS;
    (is_strained && now.goodput < before.goodput) || now.loss > before.loss + BAD_LOSS
}

#[cfg(test)]
mod tests;
