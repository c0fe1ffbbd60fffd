//! Meeting by chance, where both volunteers allow it: a NAT that gives a random port for each destination, and one
//! that does not.
//!
//! ```text
//!   opener (random ports)                               looker (one port, lets in whom it has sent to)
//!     offer ───────────── over the relay ──────────────▶
//!     ◀───────────────────────────────────────── accept
//!     256 sockets send to the looker's endpoint
//!                                    pings to 1,024 ports of the opener's address
//!     one of them hits one of those ports, and is answered from there: a direct path like any other
//! ```
//!
//! By the birthday paradox that succeeds 98 times in 100 (reference: overlay §2.5). It costs the opener's router 256
//! entries and the looker's 1,024, which has made cheap routers fall over and carriers take a volunteer for an
//! attacker. So: only with the consent of both volunteers, after everything else has failed, while there is data; 100
//! packets a second; no port below 1024; once an hour for each peer; and never at an address that another
//! volunteer is seen at too. What is found is used only once it is proven both ways, as any path.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Sockets that the opener makes.
pub(crate) const SOCKETS: u16 = 256;

/// Ports that the looker tries.
pub(crate) const LOOKS: u16 = 1024;

/// Between packets: 100 a second.
const GAP: Duration = Duration::from_millis(10);

/// How often it is tried with one peer.
const AGAIN: Duration = Duration::from_secs(3600);

/// How often it is offered to a peer that does not want it, or does not hear it.
const OFFER_AGAIN: Duration = Duration::from_secs(300);

/// How long an offer stands.
const OFFER_LIFE: Duration = Duration::from_secs(10);

/// The looker gives the opener's sockets time to be there.
const HEAD_START: Duration = Duration::from_secs(3);

/// How long the opener keeps them: the looker's packets, and its head start. Within it the mappings live without
/// another packet (30 s, the shortest life that is common).
const OPEN_FOR: Duration = Duration::from_secs(20);

/// The lowest port that is tried.
const LOWEST: u16 = 1024;
const PORTS: u32 = 65_536 - LOWEST as u32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Chance {
    role: Role,
    not_before: Option<Instant>,
    /// Towards whom side sockets are open, or one of them is in use.
    open_to: Option<SocketAddr>,
}

#[derive(Debug, Default)]
enum Role {
    #[default]
    None,
    Offered {
        until: Instant,
    },
    Opening {
        to: SocketAddr,
        opened: u16,
        due: Instant,
    },
    Open {
        to: SocketAddr,
        until: Instant,
    },
    Looking {
        at: IpAddr,
        looked: u16,
        due: Instant,
        first: u32,
        step: u32,
        transaction: [u8; 8],
    },
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send from that side socket.
    Open { to: SocketAddr, number: u16 },
    /// Ping that port.
    Look { to: SocketAddr, transaction: [u8; 8] },
    /// It has come to nothing: the side sockets are of no use.
    Close { to: SocketAddr },
}

impl Chance {
    /// Whether it may be tried now.
    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        matches!(self.role, Role::None) && self.not_before.is_none_or(|at| now >= at)
    }

    /// The peer is asked whether it would look.
    pub(crate) fn offer(&mut self, now: Instant) {
        self.not_before = Some(now + OFFER_AGAIN);
        self.role = Role::Offered { until: now + OFFER_LIFE };
    }

    /// The peer looks from now on. Whether that was asked for.
    pub(crate) fn open(&mut self, now: Instant, to: SocketAddr) -> bool {
        let is_offered = matches!(self.role, Role::Offered { until } if now < until);
        if is_offered {
            self.role = Role::Opening { to, opened: 0, due: now };
            self.open_to = Some(to);
            self.not_before = Some(now + AGAIN);
        }
        is_offered
    }

    /// The peer opens sockets: look for them at that address.
    pub(crate) fn look(&mut self, now: Instant, at: IpAddr, rng: &mut ChaCha8Rng) {
        self.not_before = Some(now + AGAIN);
        self.role = Role::Looking {
            at,
            looked: 0,
            due: now + HEAD_START,
            first: rng.random_range(0..PORTS),
            // 64,512 is 2^10 · 3^2 · 7: each port is tried once at most if the step has none of these factors.
            step: rng.random_range(0..PORTS / 42) * 42 + 1,
            transaction: rng.random(),
        };
    }

    /// A direct path has been found. Towards whom the side sockets are of no use any more, but for one.
    pub(crate) fn found(&mut self) -> Option<SocketAddr> {
        match std::mem::take(&mut self.role) {
            Role::Opening { to, .. } | Role::Open { to, .. } => Some(to),
            Role::None | Role::Offered { .. } | Role::Looking { .. } => None,
        }
    }

    /// There is no peer any more, or it is tried anew. Towards whom all side sockets can be closed.
    pub(crate) fn end(&mut self) -> Option<SocketAddr> {
        self.role = Role::None;
        self.open_to.take()
    }

    /// Whether that answers one of the looker's pings.
    pub(crate) fn has_found(&self, from: SocketAddr, answered: [u8; 8]) -> bool {
        matches!(self.role, Role::Looking { at, transaction, .. }
            if at == from.ip() && transaction == answered)
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        match self.role {
            Role::None => None,
            Role::Offered { until } | Role::Open { until, .. } => Some(until),
            Role::Opening { due, .. } | Role::Looking { due, .. } => Some(due),
        }
    }

    /// What is due: one packet at most.
    pub(crate) fn fire(&mut self, now: Instant) -> Option<Due> {
        if self.next_timer().is_none_or(|due| now < due) {
            return None;
        }
        match &mut self.role {
            Role::None => None,
            Role::Offered { .. } => {
                self.role = Role::None;
                None
            }
            Role::Open { to, .. } => {
                let to = *to;
                self.role = Role::None;
                self.open_to = None;
                Some(Due::Close { to })
            }
            Role::Opening { to, opened, due } => {
                let (to, number) = (*to, *opened);
                *opened += 1;
                *due = now + GAP;
                if *opened >= SOCKETS {
                    self.role = Role::Open { to, until: now + OPEN_FOR };
                }
                Some(Due::Open { to, number })
            }
            Role::Looking { at, looked, due, first, step, transaction } => {
                if *looked >= LOOKS {
                    self.role = Role::None;
                    return None;
                }
                let place = (*first + *step * u32::from(*looked)) % PORTS;
                let port = LOWEST + u16::try_from(place).unwrap_or(0);
                *looked += 1;
                *due = now + if *looked >= LOOKS { HEAD_START } else { GAP };
                Some(Due::Look { to: SocketAddr::new(*at, port), transaction: *transaction })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn looker_tries_each_port_once_and_none_below_1024_at_a_hundred_a_second() {
        for seed in 0..20 {
            let (start, mut rng) = (Instant::now(), ChaCha8Rng::seed_from_u64(seed));
            let mut chance = Chance::default();
            chance.look(start, IpAddr::from([203, 0, 113, 1]), &mut rng);
            let mut ports = BTreeSet::new();
            let mut now = start;
            while let Some(due) = chance.next_timer() {
                assert!(due >= now);
                now = due;
                if let Some(Due::Look { to, .. }) = chance.fire(now) {
                    assert!(to.port() >= 1024 && ports.insert(to.port()), "{to}");
                }
            }
            assert_eq!(ports.len(), usize::from(LOOKS));
            assert!(now - start >= GAP * u32::from(LOOKS));
            assert!(!chance.may_begin(now) && chance.may_begin(start + AGAIN));
        }
    }

    #[test]
    fn opener_opens_only_what_was_offered_and_closes_what_came_to_nothing() {
        let start = Instant::now();
        let to: SocketAddr = "203.0.113.1:4000".parse().unwrap();
        let mut chance = Chance::default();
        assert!(!chance.open(start, to), "nobody has offered anything");
        chance.offer(start);
        assert!(!chance.open(start + OFFER_LIFE, to), "too late");
        assert!(chance.open(start, to));
        let mut numbers = 0;
        loop {
            let now = chance.next_timer().unwrap();
            match chance.fire(now) {
                Some(Due::Open { number, .. }) => {
                    assert_eq!(number, numbers);
                    numbers += 1;
                }
                Some(Due::Close { to: closed }) => {
                    assert_eq!((closed, numbers), (to, SOCKETS));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((chance.next_timer(), chance.end()), (None, None));
    }
}
