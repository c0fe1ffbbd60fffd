//! Asks a NAT how it behaves, by probes alone; [`link`] asks links.
//!
//! The suite knows nothing of what is behind [`NatProbe`]: the simulator, or a laboratory with the
//! kernel's NATs. It wants two machines inside and two addresses outside:
//!
//! ```text
//!   inside 0 ─┐                 ┌─ outside 0
//!             ├── NAT ── ... ───┤
//!   inside 1 ─┘                 └─ outside 1
//! ```
//!
//! Every probe uses inner ports that no other one uses, so that mappings do not disturb each other,
//! and none depends on what a filter lets in unless it is the filter that is asked about.

pub mod link;

mod observed;
mod questions;
mod simulated;

use std::net::SocketAddr;
use std::time::Duration;

pub use observed::{Allocation, Conflict, Difference, Lifetime, Observed};
pub use simulated::SimulatedNat;

/// A port of one of the two machines inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inner {
    /// 0 or 1.
    pub machine: u8,
    /// Its UDP port.
    pub port: u16,
}

/// A port of one of the two addresses outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outer {
    /// 0 or 1.
    pub address: u8,
    /// Its UDP port.
    pub port: u16,
}

/// What the suite needs: single UDP packets, and to know whether they arrived.
pub trait NatProbe {
    /// Why a packet could not be sent or waited for. That it did not arrive is no error.
    type Error;

    /// The endpoint that a port inside has on its own machine.
    fn endpoint(&self, inner: Inner) -> SocketAddr;

    /// Sends from inside to an address outside. The source that was seen there; none if nothing
    /// arrived.
    fn send_out(&mut self, from: Inner, to: Outer) -> Result<Option<SocketAddr>, Self::Error>;

    /// Sends from outside to an endpoint. Who inside received it; none if nobody did.
    fn send_in(&mut self, from: Outer, to: SocketAddr) -> Result<Option<Inner>, Self::Error>;

    /// Sends from inside to an endpoint that belongs to the NAT. Who inside received it, and the
    /// source that was seen there; none if nobody did.
    fn send_round(
        &mut self,
        from: Inner,
        to: SocketAddr,
    ) -> Result<Option<(Inner, SocketAddr)>, Self::Error>;

    /// Lets time pass. Mappings age by this long (the time that probes take is counted by nobody:
    /// it has to be small against [`Plan::resolution`]).
    fn wait(&mut self, time: Duration) -> Result<(), Self::Error>;
}

/// How long the suite looks at lifetimes, and how closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Lifetimes up to this are measured, longer ones are told as longer.
    pub longest: Duration,
    /// The step of the measurement, more than zero. `longest / resolution` mappings are open at
    /// once, at most 1,000, and fewer than the NAT's table holds.
    pub resolution: Duration,
}

/// The most mappings opened for one lifetime: the ports set aside for it.
const MOST_STEPS: u32 = 1_000;

impl Plan {
    fn steps(&self) -> u32 {
        let steps = self.longest.as_nanos() / self.resolution.as_nanos().max(1);
        u32::try_from(steps).unwrap_or(MOST_STEPS).min(MOST_STEPS)
    }
}

/// Asks all questions. None where nothing gets out at all. Takes twice to three times
/// [`Plan::longest`] of the probe's time.
pub fn observe<N: NatProbe>(nat: &mut N, plan: Plan) -> Result<Option<Observed>, N::Error> {
    questions::Questions::new(nat, plan).ask_all()
}
