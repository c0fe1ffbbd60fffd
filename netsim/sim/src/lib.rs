//! An in-process network with a virtual clock: links and NATs by RFC 4787 axes. No IO.
//!
//! [`Network`] moves packets of any payload between hosts in *realms* (address spaces). The public
//! realm is the root; each NAT opens a private realm behind an address of its parent, so NATs nest:
//!
//! ```text
//!   public realm ── host (coordinator, relay)
//!        ├── NAT (carrier) ── realm ── NAT (home) ── realm ── host
//!        └── NAT (home) ── realm ── host, host
//! ```
//!
//! Everything random comes from one seed; time moves only from event to event. Private realms of
//! the same depth use the same addresses, as homes do, so that a private address of somebody else
//! may well exist next door.
//!
//! [`direct_path_possible`] is an oracle that knows nothing of the simulation: it reasons about the
//! profiles alone, and the simulator as well as the laboratory with the kernel's NATs are held to it.

#![forbid(unsafe_code)]

pub mod nat;

mod guard;
mod link;
mod network;
mod oracle;

pub use guard::{BusyLoop, WakeupGuard};
pub use link::Link;
pub use nat::{Filtering, Mapping, NatProfile, PortAllocation, Preset};
pub use network::{Counters, Delivery, HostId, NatId, Network, PUBLIC, RealmId};
pub use oracle::direct_path_possible;
