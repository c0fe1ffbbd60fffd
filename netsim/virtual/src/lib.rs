//! A scenario in virtual time: the overlay's core on the simulated network. No IO.
//!
//! [`World`] is what a scenario happens in: [`overlay_core::Node`]s with what their drivers would do,
//! a small coordinator, a [`Relay`], and a stand-in for WireGuard ([`wireguard`]), on a
//! [`netsim_sim::Network`]. Time moves from event to event; the same seed gives the same run.
//!
//! [`run()`] takes a whole scenario: the same file as the laboratory, with the same events.
//!
//! ```text
//!   coordinator ──orders──▶ Node ──outputs──▶ World ──packets──▶ Network ──deliveries──▶ World ──▶ Node
//! ```

#![forbid(unsafe_code)]

pub mod drills;
pub mod queue;
pub mod wireguard;

mod node;
mod relay;
mod run;
mod session;
mod timers;
mod world;

pub use node::VirtualNode;
pub use relay::{LoneRelay, REFLECTOR_TOKEN, Relay, Spite};
pub use run::{Outcome, RunError, predicted, run};
pub use world::{LINK, Note, PORT, Packet, Server, World};
