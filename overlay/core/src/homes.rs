//! How far the relays are, and which of them is this node's home relay.
//!
//! ```text
//!   offers, another network, 5 minutes ──▶ round: 3 requests to each relay's reflector, 1 s in all
//!                                            └──all answered, or over──▶ order ──if new──▶ coordinator
//! ```
//!
//! The shortest of three round trips counts. The home relay stays it until another one is much nearer, or
//! it does not answer: each change makes channels for all pairs. The coordinator gives each pair channels at
//! the home relays of both.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::NodeId;
use crate::context::jittered;
use crate::netmap::{MAX_RELAYS, MeasuredRelay, RelayOffer};
use crate::wire::{ControlFrame, parse_reflector_token};

/// Requests to each relay in a round. Chosen: one is lost, one waits behind other packets.
const SHOTS: u32 = 3;

/// Between those.
const SHOT_GAP: Duration = Duration::from_millis(150);

/// The longest round: relays that are further than this are of no use.
const ROUND: Duration = Duration::from_secs(1);

/// Between rounds. Chosen: routes change in hours, and a relay that ended is noticed where it is used.
const AGAIN: Duration = Duration::from_secs(300);

/// How much nearer another relay must be, besides a fifth: as for the relay of one pair (`relays`).
const NEARER_BY: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Site {
    relay: NodeId,
    at: SocketAddr,
    token: [u8; 16],
    /// The requests of this round that are not answered.
    asked: Vec<([u8; 8], Instant)>,
    answers: u32,
    /// The shortest round trip of this round.
    shortest: Option<Duration>,
    /// Of the last round.
    rtt: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    shots: u32,
    next_shot: Instant,
    ends: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Homes {
    rng: ChaCha8Rng,
    sites: Vec<Site>,
    round: Option<Round>,
    again: Option<Instant>,
    home: Option<NodeId>,
    told: Vec<NodeId>,
}

impl Homes {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Beside the stream of the keepers: peers' streams hardly reach either.
        rng.set_stream(u64::MAX - 1);
        Self { rng, sites: Vec::new(), round: None, again: None, home: None, told: Vec::new() }
    }

    /// The relays that run now. Whether one could not be understood, or was one too many.
    pub(crate) fn on_offers(&mut self, now: Instant, offers: &[RelayOffer]) -> bool {
        let mut sites: Vec<Site> = Vec::new();
        let mut all_good = offers.len() <= MAX_RELAYS;
        for offer in offers.iter().take(MAX_RELAYS) {
            let Ok(token) = parse_reflector_token(&offer.token) else {
                all_good = false;
                continue;
            };
            let known =
                self.sites.iter().find(|s| s.relay == offer.relay && s.at == offer.endpoint);
            sites.push(Site {
                relay: offer.relay,
                at: offer.endpoint,
                token,
                asked: Vec::new(),
                answers: 0,
                shortest: None,
                rtt: known.and_then(|site| site.rtt),
            });
        }
        self.sites = sites;
        self.check_now(now);
        all_good
    }

    /// Whether that relay is among those that run; where nobody has said which do, every one is.
    pub(crate) fn may_run(&self, relay: SocketAddr) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|site| site.at == relay)
    }

    /// The network may have changed.
    pub(crate) fn check_now(&mut self, now: Instant) {
        for site in &mut self.sites {
            site.asked.clear();
            site.answers = 0;
            site.shortest = None;
        }
        let round = Round { shots: 0, next_shot: now, ends: now + ROUND };
        self.round = (!self.sites.is_empty()).then_some(round);
        self.again = None;
    }

    /// Whether that is an answer to a request of this round.
    pub(crate) fn on_response(&mut self, now: Instant, from: SocketAddr, nonce: [u8; 8]) -> bool {
        let Some(site) = self.sites.iter_mut().find(|site| site.at == from) else { return false };
        let Some(place) = site.asked.iter().position(|(asked, _)| *asked == nonce) else {
            return false;
        };
        let (_, sent_at) = site.asked.swap_remove(place);
        let took = now.saturating_duration_since(sent_at);
        site.answers += 1;
        site.shortest = Some(site.shortest.map_or(took, |shortest| shortest.min(took)));
        true
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        match self.round {
            Some(_) if self.is_complete() => {
                self.round.map(|round| round.next_shot.min(round.ends))
            }
            Some(round) if round.shots < SHOTS => Some(round.next_shot.min(round.ends)),
            Some(round) => Some(round.ends),
            None => self.again,
        }
    }

    /// The requests that are due, and the new order where there is one.
    pub(crate) fn fire_due_timers(
        &mut self,
        now: Instant,
    ) -> (Vec<(SocketAddr, ControlFrame)>, Option<Vec<MeasuredRelay>>) {
        if self.again.is_some_and(|at| at <= now) {
            self.check_now(now);
        }
        let mut requests = Vec::new();
        let Some(mut round) = self.round else { return (requests, None) };
        if round.shots < SHOTS && round.next_shot <= now {
            round.shots += 1;
            round.next_shot = now + SHOT_GAP;
            self.round = Some(round);
            for site in &mut self.sites {
                let nonce = self.rng.random();
                site.asked.push((nonce, now));
                let token = site.token;
                requests.push((site.at, ControlFrame::ReflectRequest { token, nonce }));
            }
        }
        if round.ends > now && !self.is_complete() {
            return (requests, None);
        }
        self.round = None;
        self.again = Some(now + jittered(&mut self.rng, AGAIN));
        for site in &mut self.sites {
            site.rtt = site.shortest;
            site.asked.clear();
        }
        let measured = self.order();
        let order: Vec<NodeId> = measured.iter().map(|measured| measured.relay).collect();
        let is_new = order != self.told;
        self.told = order;
        (requests, is_new.then_some(measured))
    }

    /// Where the home relay is that the coordinator was told.
    pub(crate) fn home(&self) -> Option<SocketAddr> {
        let home = self.told.first()?;
        self.sites.iter().find(|site| site.relay == *home).map(|site| site.at)
    }

    /// The relays that answered in the last round with their shortest round trips, in the order of that: the first is home.
    pub(crate) fn measured(&self) -> Vec<(SocketAddr, Duration)> {
        let site = |id: &NodeId| self.sites.iter().find(|site| site.relay == *id);
        self.told.iter().filter_map(site).filter_map(|site| Some((site.at, site.rtt?))).collect()
    }

    /// Every relay has answered every request.
    fn is_complete(&self) -> bool {
        self.sites.iter().all(|site| site.answers >= SHOTS)
    }

    fn order(&mut self) -> Vec<MeasuredRelay> {
        let mut near: Vec<(Duration, NodeId)> =
            self.sites.iter().filter_map(|site| Some((site.rtt?, site.relay))).collect();
        near.sort_unstable();
        let home = near.iter().position(|(_, relay)| Some(*relay) == self.home);
        if let (Some(place), Some((nearest, _))) = (home, near.first().copied()) {
            let (rtt, relay) = near[place];
            if nearest + NEARER_BY.max(rtt / 5) >= rtt {
                near.remove(place);
                near.insert(0, (rtt, relay));
            }
        }
        self.home = near.first().map(|(_, relay)| *relay);
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        near.into_iter().map(|(rtt, relay)| MeasuredRelay { relay, rtt_us: micros(rtt) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        homes: Homes,
        now: Instant,
        /// Round trip of each relay; none: it does not answer.
        rtts: Vec<Option<Duration>>,
        answers: Vec<(Instant, SocketAddr, [u8; 8])>,
        requests: usize,
    }

    fn at(number: usize) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, number as u8], 6444))
    }

    fn ms(rtts: &[u64]) -> Vec<Option<Duration>> {
        let rtt = |rtt: &u64| (*rtt > 0).then(|| Duration::from_millis(*rtt));
        rtts.iter().map(rtt).collect()
    }

    impl Bench {
        fn new(rtts: &[u64]) -> Self {
            let now = Instant::now();
            let homes = Homes::new(1);
            let mut bench = Self { homes, now, rtts: ms(rtts), answers: Vec::new(), requests: 0 };
            bench.offer();
            bench
        }

        fn offer(&mut self) {
            let offer = |number| RelayOffer {
                relay: NodeId([number as u8; 32]),
                endpoint: at(number),
                token: "00".repeat(16),
                tunnel: None,
            };
            let offers: Vec<_> = (0..self.rtts.len()).map(offer).collect();
            assert!(self.homes.on_offers(self.now, &offers));
        }

        /// Lets that much time pass; the orders that were told.
        fn run(&mut self, duration: Duration) -> Vec<Vec<u8>> {
            let end = self.now + duration;
            let mut told = Vec::new();
            loop {
                let answer = self.answers.iter().map(|(at, ..)| *at).min();
                let next = [self.homes.next_timer(), answer].into_iter().flatten().min();
                let Some(at_time) = next.filter(|at| *at <= end) else { break };
                self.now = self.now.max(at_time);
                let now = self.now;
                let due: Vec<_> = self.answers.extract_if(.., |(at, ..)| *at <= now).collect();
                for (_, from, nonce) in due {
                    assert!(self.homes.on_response(now, from, nonce));
                    assert!(!self.homes.on_response(now, from, nonce), "each counts once");
                }
                let (requests, order) = self.homes.fire_due_timers(now);
                self.requests += requests.len();
                for (to, frame) in requests {
                    let ControlFrame::ReflectRequest { nonce, .. } = frame else { panic!() };
                    let number = (0..self.rtts.len()).find(|n| at(*n) == to).unwrap();
                    if let Some(rtt) = self.rtts[number] {
                        self.answers.push((now + rtt, to, nonce));
                    }
                }
                told.extend(order.map(|o| o.iter().map(|m| m.relay.0[0]).collect()));
            }
            self.now = end;
            told
        }
    }

    #[test]
    fn nearest_relay_is_home_and_silent_ones_are_left_out() {
        let mut bench = Bench::new(&[40, 20, 0, 80]);
        assert_eq!(bench.run(Duration::from_secs(2)), [[1, 0, 3]]);
        assert_eq!(bench.requests, 12);
        let ms = Duration::from_millis;
        assert_eq!(bench.homes.measured(), [(at(1), ms(20)), (at(0), ms(40)), (at(3), ms(80))]);
        let mut all = Bench::new(&[40, 20]);
        assert_eq!(all.run(Duration::from_millis(350)), [[1, 0]], "nobody is waited for");
    }

    #[test]
    fn home_stays_until_another_relay_is_much_nearer_or_it_is_silent() {
        let mut bench = Bench::new(&[20, 24]);
        assert_eq!(bench.run(Duration::from_secs(2)), [[0, 1]]);
        bench.rtts = ms(&[30, 24]);
        assert_eq!(bench.run(AGAIN * 2), [[0u8; 0]; 0], "6 ms are not worth it");
        bench.rtts = ms(&[60, 24]);
        assert_eq!(bench.run(AGAIN * 2), [[1, 0]]);
        bench.rtts = ms(&[60, 0]);
        assert_eq!(bench.run(AGAIN * 2), [[0]]);
        bench.rtts = ms(&[0, 0]);
        assert_eq!(bench.run(AGAIN * 2), [[0u8; 0]]);
    }

    #[test]
    fn relays_that_come_and_go_are_measured_at_once() {
        let mut bench = Bench::new(&[40]);
        assert_eq!(bench.run(Duration::from_secs(2)), [[0]]);
        bench.rtts = ms(&[40, 10]);
        bench.offer();
        assert_eq!(bench.run(Duration::from_secs(2)), [[1, 0]]);
        bench.rtts = ms(&[40]);
        bench.offer();
        assert_eq!(bench.run(Duration::from_secs(2)), [[0]]);
        assert!(bench.homes.may_run(at(0)) && !bench.homes.may_run(at(1)));
    }

    #[test]
    fn too_many_offers_and_damaged_tokens_are_left_out() {
        let offer = |number: u8, token: &str| RelayOffer {
            relay: NodeId([number; 32]),
            endpoint: at(number.into()),
            token: token.to_owned(),
            tunnel: None,
        };
        let mut homes = Homes::new(1);
        let now = Instant::now();
        assert!(!homes.on_offers(now, &[offer(1, "zz"), offer(2, &"00".repeat(16))]));
        assert_eq!(homes.sites.len(), 1);
        let many: Vec<_> = (0..40).map(|number| offer(number, &"00".repeat(16))).collect();
        assert!(!homes.on_offers(now, &many));
        assert_eq!(homes.sites.len(), MAX_RELAYS);
    }
}
