//! How many requests a user, or an address without a login, may make.
//!
//! Agents are not counted: they ask at the pace that they are told, and are turned out one by one.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// So many seconds' worth of requests may come at once. Chosen: a script that asks for a page of jobs each.
const BURST_S: u32 = 10;

/// After so many questions, those are forgotten who have not asked for a while.
const FORGET_AFTER: u32 = 4_096;

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A user by name.
    User(String),
    /// An address, or of IPv6 the /64 that it is in.
    Address(IpAddr),
}

impl Asker {
    /// Of a client's address.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Counts requests.
#[derive(Debug)]
pub struct Limits {
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    limiter: DefaultKeyedRateLimiter<Asker>,
    clock: DefaultClock,
    asked: AtomicU32,
}

impl Limits {
    /// So many requests a second of each, and ten times that at once; 0: as many as they like.
    pub fn new(per_second: u32) -> Self {
        let counted = NonZeroU32::new(per_second).map(|rate| {
            let burst = rate.saturating_mul(NonZeroU32::new(BURST_S).unwrap_or(rate));
            Counted {
                limiter: RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst)),
                clock: DefaultClock::default(),
                asked: AtomicU32::new(0),
            }
        });
        Self { counted }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// It is one too many: the time until the next may come.
    pub fn count(&self, asker: &Asker) -> Result<(), Duration> {
        let Some(counted) = &self.counted else { return Ok(()) };
        if counted.asked.fetch_add(1, Ordering::Relaxed) % FORGET_AFTER == FORGET_AFTER - 1 {
            counted.limiter.retain_recent();
        }
        let now = counted.clock.now();
        counted.limiter.check_key(asker).map_err(|until| until.wait_time_from(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_burst_of_their_own_and_is_told_when_to_go_on() {
        let limits = Limits::new(1);
        let (alice, bob) = (Asker::User("alice".into()), Asker::User("bob".into()));
        let taken = (0..1_000).take_while(|_| limits.count(&alice).is_ok()).count();
        assert!((10..1_000).contains(&taken), "{taken}");
        assert!(limits.count(&alice).is_err_and(|wait| wait <= Duration::from_secs(1)));
        assert_eq!(limits.count(&bob), Ok(()));
        let free = Limits::new(0);
        assert!((0..100_000).all(|_| free.count(&alice).is_ok()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_asker_and_those_who_went_are_forgotten() {
        let at = |text: &str| Asker::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        // A thousand a second: each is whole again after a millisecond.
        let limits = Limits::new(1_000);
        for number in 0..100_000 {
            limits.count(&Asker::User(number.to_string())).unwrap();
        }
        let kept = limits.counted.unwrap().limiter.len();
        assert!(kept < 50_000, "{kept}");
    }
}
