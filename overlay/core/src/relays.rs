//! The relay channels of one peer: which of them to use.
//!
//! The way to a relay may be narrower than a full frame, and nobody says so: UDP's datagrams are not cut on the
//! way (DF). So long packets travel in two parts until a ping of full size has been answered.
//!
//! All are bound, so that the other side can be heard on each of them; this side sends on one. That
//! is the fastest by a margin, or the first that works. When it falls silent, another one takes over
//! (`path`), which needs no exchange with anybody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use crate::context::Context;
use crate::io::Path;
use crate::relay_client::RelayChannel;
use crate::wire::probe::{MESH_MTU, MIN_PING};
use crate::wire::{ControlFrame, Ticket};

/// The most channels to one peer; a further one takes the place of the oldest. Chosen: each node's
/// home relay, and another one for each.
pub(crate) const MAX_CHANNELS: usize = 4;

/// How much faster another relay must be, besides a fifth: relays are far, so that less is noise.
const FASTER_BY: Duration = Duration::from_millis(10);

/// Between pings that measure a relay that is not in use.
const MEASURE_GAP: Duration = Duration::from_millis(500);

/// Pings until one is answered.
const MEASURE_ATTEMPTS: u32 = 4;

/// Between measurements while the pair is relayed and not idle. Chosen: routes change in hours.
const MEASURE_AGAIN: Duration = Duration::from_secs(60);

/// Pings of full size in a row, until one is answered.
const WIDTH_ATTEMPTS: u32 = 3;

/// Between those, and round trips more.
const WIDTH_GAP: Duration = Duration::from_millis(200);

/// Before a narrow way is tried again, twice as long each time. Chosen: the other end may only be changing its way
/// to the relay, which takes seconds; routes change in hours.
const WIDTH_AGAIN: Duration = Duration::from_secs(2);
const WIDTH_AGAIN_MOST: Duration = Duration::from_secs(600);

/// What is known of the longest frames that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// Pings of full size that are not answered, and when the next one is due; none: with the next need.
    Asked(u32, Option<Instant>),
    /// One was answered.
    Whole,
}

impl Width {
    const UNKNOWN: Self = Self::Asked(0, None);
}

#[derive(Debug)]
struct Way {
    channel: RelayChannel,
    rtt: Option<Duration>,
    /// It was in use and fell silent: any other one is better until it answers again.
    failed: bool,
    /// The coordinator does not know that relay any more.
    is_gone: bool,
    measure_at: Option<Instant>,
    attempts: u32,
    width: Width,
}

impl Way {
    /// When a ping of full size is due.
    fn width_due(&self, now: Instant) -> Option<Instant> {
        // Small ones are answered first.
        self.rtt?;
        match self.width {
            Width::Asked(_, due) => Some(due.unwrap_or(now)),
            Width::Whole => None,
        }
    }

    /// Whether a ping of full size leaves now.
    fn asks_width(&mut self, now: Instant) -> bool {
        let is_due = self.width_due(now).is_some_and(|due| due <= now);
        if let (true, Width::Asked(asked, _)) = (is_due, self.width) {
            let (row, number) = (asked / WIDTH_ATTEMPTS, asked % WIDTH_ATTEMPTS);
            let gap = if number + 1 == WIDTH_ATTEMPTS {
                (WIDTH_AGAIN * (1 << row.min(10))).min(WIDTH_AGAIN_MOST)
            } else {
                WIDTH_GAP + 2 * self.rtt.unwrap_or_default()
            };
            self.width = Width::Asked(asked.saturating_add(1), Some(now + gap));
        }
        is_due
    }

    /// Its other end or the way there is another one. Whether that changes what is known.
    fn forget_width(&mut self) -> bool {
        std::mem::replace(&mut self.width, Width::UNKNOWN) == Width::Whole
    }

    /// Lower is better.
    fn rank(&self) -> (bool, bool, Option<Duration>) {
        (self.failed, self.rtt.is_none(), self.rtt)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Relays(Vec<Way>);

impl Relays {
    /// A ticket for a channel that is new, and to be bound at `start`, or a newer one.
    pub(crate) fn on_ticket(
        &mut self,
        (now, start): (Instant, Instant),
        relay: SocketAddr,
        ticket: Ticket,
        rng: &mut ChaCha8Rng,
    ) {
        let renewed = self
            .0
            .iter_mut()
            .find_map(|way| way.channel.renew(now, relay, ticket, rng).then_some(&mut way.is_gone));
        if let Some(is_gone) = renewed {
            *is_gone = false;
            return;
        }
        // One channel at each relay.
        self.0.retain(|way| way.channel.relay() != relay);
        if self.0.len() >= MAX_CHANNELS {
            let gone = self.0.iter().position(|way| way.is_gone).unwrap_or(0);
            self.0.remove(gone);
        }
        let channel = RelayChannel::new(start, relay, ticket);
        let (rtt, measure_at) = (None, None);
        self.0.push(Way {
            channel,
            rtt,
            failed: false,
            is_gone: false,
            measure_at,
            attempts: 0,
            width: Width::UNKNOWN,
        });
    }

    /// Data waits, or is expected.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|way| way.channel.hurry(now));
    }

    /// Which relays run, as the coordinator knows. It may be the coordinator that lost touch: a channel
    /// that works stays.
    pub(crate) fn on_running(&mut self, runs: impl Fn(SocketAddr) -> bool) {
        for way in &mut self.0 {
            way.is_gone = !runs(way.channel.relay());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The channels that the relays hold, the best first.
    pub(crate) fn bound(&self) -> Vec<Path> {
        let mut bound: Vec<_> = self.ways().collect();
        bound.sort_by_key(|way| way.rank());
        bound.into_iter().map(|way| way.channel.path()).collect()
    }

    fn ways(&self) -> impl Iterator<Item = &Way> {
        self.0.iter().filter(|way| way.channel.is_bound())
    }

    /// The best channel that is bound.
    pub(crate) fn best(&self) -> Option<Path> {
        self.ways().min_by_key(|way| way.rank()).map(|way| way.channel.path())
    }

    /// The best one besides that path.
    pub(crate) fn besides(&self, path: Path) -> Option<Path> {
        let others = self.ways().filter(|way| way.channel.path() != path);
        others.min_by_key(|way| way.rank()).map(|way| way.channel.path())
    }

    /// The relay's binding of that channel stands.
    pub(crate) fn is_bound(&self, path: Path) -> bool {
        self.0.iter().any(|way| way.channel.path() == path && way.channel.is_bound())
    }

    /// How many channels that relay holds.
    pub(crate) fn bound_at(&self, relay: SocketAddr) -> usize {
        self.0.iter().filter(|w| w.channel.relay() == relay && w.channel.is_bound()).count()
    }

    /// A much faster relay than the one in use.
    pub(crate) fn faster_than(&self, path: Path) -> Option<Path> {
        let current = self.rtt(path)?;
        let best = self.besides(path).filter(|best| !self.way(*best).is_some_and(|w| w.failed))?;
        let rtt = self.rtt(best)?;
        (rtt + FASTER_BY.max(current / 5) < current).then_some(best)
    }

    /// Smoothed round trip time to the peer and back through that relay.
    pub(crate) fn rtt(&self, path: Path) -> Option<Duration> {
        self.way(path)?.rtt
    }

    /// A ping of full size came back from there. Whether that is news.
    pub(crate) fn on_full_pong(&mut self, path: Path) -> bool {
        let way = self.0.iter_mut().find(|way| way.channel.path() == path);
        way.is_some_and(|way| std::mem::replace(&mut way.width, Width::Whole) != Width::Whole)
    }

    /// A ping through that relay was answered.
    pub(crate) fn on_pong(&mut self, now: Instant, path: Path, took: Duration) {
        if let Some(way) = self.0.iter_mut().find(|way| way.channel.path() == path) {
            way.rtt = Some(way.rtt.map_or(took, |rtt| (rtt * 7 + took) / 8));
            way.failed = false;
            way.attempts = 0;
            way.measure_at = way.measure_at.map(|_| now + MEASURE_AGAIN);
        }
    }

    /// It was in use and fell silent.
    pub(crate) fn on_silent(&mut self, path: Path) {
        if let Some(way) = self.0.iter_mut().find(|way| way.channel.path() == path) {
            way.failed = true;
            way.rtt = None;
        }
    }

    /// A frame of a relay: whether it was for a channel of this peer, and a path that is new.
    pub(crate) fn on_frame(
        &mut self,
        from: SocketAddr,
        frame: &ControlFrame,
        rng: &mut ChaCha8Rng,
        ctx: &mut Context<'_>,
    ) -> (bool, Option<Path>) {
        for way in &mut self.0 {
            let was_bound = way.channel.is_bound();
            if way.channel.on_frame(from, frame, rng, ctx) {
                let is_new = !was_bound && way.channel.is_bound();
                if is_new {
                    way.measure_at = Some(ctx.now);
                    way.attempts = 0;
                }
                return (true, is_new.then(|| way.channel.path()));
            }
        }
        (false, None)
    }

    /// One keepalive holds every channel at that relay, or does no more.
    pub(crate) fn set_kept(&mut self, now: Instant, relay: SocketAddr, kept: bool) {
        for way in self.0.iter_mut().filter(|way| way.channel.relay() == relay) {
            way.channel.set_kept(now, kept);
        }
    }

    /// The binding of that path may be gone.
    pub(crate) fn refresh(&mut self, now: Instant, path: Path) {
        for way in self.0.iter_mut().filter(|way| way.channel.path() == path) {
            way.channel.refresh_now(now);
        }
    }

    /// The network has changed, or the way to one relay: every binding is of the past. The paths whose width
    /// was known.
    pub(crate) fn restart(&mut self, now: Instant, at: Option<SocketAddr>) -> Vec<Path> {
        let mut forgotten = Vec::new();
        for way in self.0.iter_mut().filter(|w| at.is_none_or(|at| w.channel.relay() == at)) {
            way.channel.restart(now);
            if way.forget_width() {
                forgotten.push(way.channel.path());
            }
        }
        forgotten
    }

    /// Lets the channels lapse at all relays but that one. How far the peer is through each says nothing any more:
    /// it does the same.
    pub(crate) fn sleep_besides(&mut self, home: SocketAddr) {
        for way in &mut self.0 {
            way.rtt = None;
            if way.channel.relay() != home {
                way.channel.sleep();
            }
        }
    }

    /// Whether there are channels that are held at other relays than that one, which holds one, too.
    pub(crate) fn is_held_besides(&self, home: SocketAddr) -> bool {
        let elsewhere = |way: &Way| way.channel.relay() != home && !way.channel.is_asleep();
        self.bound_at(home) > 0 && self.0.iter().any(elsewhere)
    }

    /// Whether any channel sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.0.iter().any(|way| way.channel.is_asleep())
    }

    /// Whether any channel slept. All are bound again.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        self.0.iter_mut().fold(false, |any, way| way.channel.wake(now) | any)
    }

    /// The relays that are to be measured now, apart from the path in use, and with full size that one.
    /// `is_wanted`: the pair is relayed and not idle.
    pub(crate) fn fire_due_timers(
        &mut self,
        is_wanted: bool,
        in_use: Option<Path>,
        rng: &mut ChaCha8Rng,
        ctx: &mut Context<'_>,
    ) -> Vec<(Path, usize)> {
        let alone = self.0.len() < 2;
        let mut measured = Vec::new();
        self.0.iter_mut().for_each(|way| way.channel.fire_due_timers(rng, ctx));
        self.0.retain(|way| !way.is_gone || way.channel.is_bound());
        for way in &mut self.0 {
            let path = way.channel.path();
            if is_wanted && in_use == Some(path) && way.asks_width(ctx.now) {
                measured.push((path, MESH_MTU));
            }
            if !is_wanted || alone || !way.channel.is_bound() || in_use == Some(path) {
                continue;
            }
            if way.measure_at.is_some_and(|at| at <= ctx.now) {
                way.attempts += 1;
                let gap = if way.attempts >= MEASURE_ATTEMPTS {
                    way.attempts = 0;
                    MEASURE_AGAIN
                } else {
                    MEASURE_GAP
                };
                way.measure_at = Some(ctx.now + gap);
                measured.push((path, MIN_PING));
            }
        }
        measured
    }

    pub(crate) fn next_timer(
        &self,
        now: Instant,
        is_wanted: bool,
        in_use: Option<Path>,
    ) -> Option<Instant> {
        let used = in_use.filter(|_| is_wanted).and_then(|path| self.way(path));
        let width = used.and_then(|way| way.width_due(now));
        let channels = self.0.iter().filter_map(|way| way.channel.next_timer());
        let is_measured = |way: &&Way| {
            is_wanted
                && self.0.len() > 1
                && way.channel.is_bound()
                && in_use != Some(way.channel.path())
        };
        let measured = self.0.iter().filter(is_measured).filter_map(|way| way.measure_at);
        channels.chain(measured).chain(width).min()
    }

    fn way(&self, path: Path) -> Option<&Way> {
        self.0.iter().find(|way| way.channel.path() == path)
    }
}
