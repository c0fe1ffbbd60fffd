//! The questions, each with probes of its own.

use std::net::SocketAddr;
use std::time::Duration;

use super::observed::{Allocation, Conflict, Lifetime, Observed};
use super::{Inner, NatProbe, Outer, Plan};
use crate::nat::{Filtering, Mapping, Refresh};

/// The ports outside, of which the second is asked from only to see whether ports count.
const PORTS: [u16; 2] = [3478, 3479];

const HOME: Outer = Outer { address: 0, port: PORTS[0] };
const OTHER_PORT: Outer = Outer { address: 0, port: PORTS[1] };
const OTHER_ADDRESS: Outer = Outer { address: 1, port: PORTS[0] };

/// Inner ports, far enough apart that no rule but the one asked for explains what is seen, and
/// none follows from the one before by the steps that they have in common.
const MAPPING_PORT: u16 = 20_000;
const FILTERING_PORT: u16 = 20_100;
const CONFLICT_PORT: u16 = 20_300;
const HAIRPIN_PORT: u16 = 20_400;
const ALLOCATION_PORTS: [u16; 6] = [20_507, 20_591, 20_533, 20_611, 20_549, 20_577];
const REFRESH_PORTS: [u16; 2] = [20_700, 20_750];
/// From here on, one for each step.
const FIRST_LIFETIME_PORT: u16 = 30_000;

/// The longest step that counts as sequential. Chosen: NATs that go by 1 or 2 are known (RFC 5389's
/// predecessors kept the parity); more could be luck.
const MOST_STEP: u16 = 4;

pub(super) struct Questions<'a, N> {
    nat: &'a mut N,
    plan: Plan,
}

impl<'a, N: NatProbe> Questions<'a, N> {
    pub(super) fn new(nat: &'a mut N, plan: Plan) -> Self {
        Self { nat, plan }
    }

    pub(super) fn ask_all(mut self) -> Result<Option<Observed>, N::Error> {
        let Some((translates, mapping)) = self.mapping()? else { return Ok(None) };
        let Some(filtering) = self.filtering()? else { return Ok(None) };
        let allocation = self.allocation()?;
        let lifetime = self.lifetime()?;
        Ok(Some(Observed {
            translates,
            mapping,
            filtering,
            allocation,
            conflict: match allocation {
                Allocation::Preserved if translates => Some(self.conflict()?),
                Allocation::Preserved | Allocation::Sequential | Allocation::Irregular => None,
            },
            hairpin: self.hairpin()?,
            lifetime,
            refresh: match lifetime.and_then(|lifetime| Some((lifetime.alive, lifetime.dead?))) {
                Some((alive, dead)) => self.refresh(alive, dead)?,
                None => None,
            },
        }))
    }

    fn mapping(&mut self) -> Result<Option<(bool, Mapping)>, N::Error> {
        let inner = Inner { machine: 0, port: MAPPING_PORT };
        let mut seen = Vec::new();
        for to in [HOME, OTHER_PORT, OTHER_ADDRESS] {
            let Some(source) = self.nat.send_out(inner, to)? else { return Ok(None) };
            seen.push(source);
        }
        let translates = seen.iter().any(|source| *source != self.nat.endpoint(inner));
        let mapping = if seen[0] != seen[1] {
            Mapping::AddressAndPortDependent
        } else if seen[0] != seen[2] {
            Mapping::AddressDependent
        } else {
            Mapping::EndpointIndependent
        };
        Ok(Some((translates, mapping)))
    }

    /// Strangers are asked first: what one of them is let in by does not open the way for another.
    fn filtering(&mut self) -> Result<Option<Filtering>, N::Error> {
        let inner = Inner { machine: 0, port: FILTERING_PORT };
        let Some(outer) = self.nat.send_out(inner, HOME)? else { return Ok(None) };
        let from_stranger = self.nat.send_in(OTHER_ADDRESS, outer)? == Some(inner);
        let from_other_port = self.nat.send_in(OTHER_PORT, outer)? == Some(inner);
        Ok(Some(match (from_stranger, from_other_port) {
            (true, _) => Filtering::EndpointIndependent,
            (false, true) => Filtering::AddressDependent,
            (false, false) => Filtering::AddressAndPortDependent,
        }))
    }

    fn allocation(&mut self) -> Result<Allocation, N::Error> {
        let mut outer = Vec::new();
        for port in ALLOCATION_PORTS {
            let seen = self.nat.send_out(Inner { machine: 0, port }, HOME)?;
            outer.extend(seen.map(|seen| seen.port()));
        }
        if outer == ALLOCATION_PORTS {
            return Ok(Allocation::Preserved);
        }
        let steps: Vec<u16> = outer.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
        let is_regular = steps.windows(2).all(|two| two[0] == two[1]);
        let is_small = steps.first().is_some_and(|step| (1..=MOST_STEP).contains(step));
        Ok(if is_regular && is_small { Allocation::Sequential } else { Allocation::Irregular })
    }

    fn conflict(&mut self) -> Result<Conflict, N::Error> {
        let both = [0, 1].map(|machine| Inner { machine, port: CONFLICT_PORT });
        let first = self.nat.send_out(both[0], HOME)?.map(|seen| seen.port());
        let second = self.nat.send_out(both[1], HOME)?.map(|seen| seen.port());
        Ok(match (first, second) {
            (_, None) => Conflict::Refused,
            (Some(first), Some(second)) if first == second => Conflict::Overloaded,
            (Some(first), Some(second)) if first.checked_add(1) == Some(second) => Conflict::Next,
            (_, Some(_)) => Conflict::Other,
        })
    }

    /// Both machines send to each other's outer endpoint, so that a filter has no reason to stop
    /// them; a NAT whose mapping depends on the destination may still do so, and then has no
    /// hairpin that anybody could use.
    fn hairpin(&mut self) -> Result<bool, N::Error> {
        let both = [0, 1].map(|machine| Inner { machine, port: HAIRPIN_PORT });
        let mut outer: Vec<SocketAddr> = Vec::new();
        for inner in both {
            outer.extend(self.nat.send_out(inner, HOME)?);
        }
        let [first, second] = outer[..] else { return Ok(false) };
        for _ in 0..2 {
            for (from, to, target) in [(both[0], second, both[1]), (both[1], first, both[0])] {
                if self.nat.send_round(from, to)?.is_some_and(|(at, _)| at == target) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// One mapping for each step, all opened now, each asked once: an answer keeps none alive that
    /// is asked later.
    fn lifetime(&mut self) -> Result<Option<Lifetime>, N::Error> {
        let steps = u16::try_from(self.plan.steps()).unwrap_or(u16::MAX);
        let mut opened = Vec::new();
        for step in 0..steps {
            let inner = Inner { machine: 1, port: FIRST_LIFETIME_PORT + step };
            let Some(outer) = self.nat.send_out(inner, HOME)? else { break };
            opened.push((inner, outer));
        }
        let mut alive = Duration::ZERO;
        for (inner, outer) in opened {
            self.nat.wait(self.plan.resolution)?;
            let age = alive + self.plan.resolution;
            if self.nat.send_in(HOME, outer)? != Some(inner) {
                return Ok(Some(Lifetime { alive, dead: Some(age) }));
            }
            alive = age;
        }
        let was_measured = !alive.is_zero();
        Ok(was_measured.then_some(Lifetime { alive, dead: None }))
    }

    /// A packet in either direction at three quarters of the life, and a look at it after more than
    /// a whole one. None when neither keeps it alive.
    fn refresh(&mut self, alive: Duration, dead: Duration) -> Result<Option<Refresh>, N::Error> {
        let inners = REFRESH_PORTS.map(|port| Inner { machine: 0, port });
        let mut outer: Vec<SocketAddr> = Vec::new();
        for inner in inners {
            outer.extend(self.nat.send_out(inner, HOME)?);
        }
        let [by_out, by_in] = outer[..] else { return Ok(None) };
        let first = alive.mul_f64(0.75);
        self.nat.wait(first)?;
        self.nat.send_out(inners[0], HOME)?;
        self.nat.send_in(HOME, by_in)?;
        self.nat.wait(dead.saturating_sub(first))?;
        let kept_by_out = self.nat.send_in(HOME, by_out)? == Some(inners[0]);
        let kept_by_in = self.nat.send_in(HOME, by_in)? == Some(inners[1]);
        Ok(match (kept_by_out, kept_by_in) {
            (true, true) => Some(Refresh::Both),
            (true, false) => Some(Refresh::Outbound),
            (false, true) => Some(Refresh::Inbound),
            (false, false) => None,
        })
    }
}
