//! An in-process network with a virtual clock: links, firewalls and NATs by RFC 4787 axes. No IO.
//!
//! [`Network`] moves packets of any payload between hosts in *realms* (address spaces). The public
//! realm is the root; each NAT opens a private realm behind an address of its parent, so NATs nest:
//!
//! ```text
//!   public realm ── host (coordinator, relay)
//!        ├── NAT (carrier) ── realm ── NAT (home) ── realm ── host
//!        ├── NAT (home) ── realm ── host, host
//!        └── router without NAT ── realm with public addresses ── host
//! ```
//!
//! Everything random comes from one seed; time moves only from event to event. Private realms of the same depth use the same addresses, as
//! homes do, so that a private address of somebody else may well exist next door.
//!
//! The vocabulary is data and shared with the laboratory: [`LinkProfile`], [`NatProfile`],
//! [`Firewall`], [`Topology`], [`Churn`], [`Event`]. [`conformance`] asks a NAT how it behaves.
//!
//! [`Oracle`] says whether two machines can talk directly, and knows nothing of the simulation: it
//! reasons about the profiles alone, and the simulator as well as the laboratory with the kernel's
//! NATs are held to it.

#![forbid(unsafe_code)]

pub mod conformance;
pub mod link;
pub mod nat;

pub mod topology;

mod churn;
mod firewall;
mod guard;
mod network;
mod oracle;
mod units;

pub use churn::{Churn, ChurnError, Drawn, Exponential, Interval, Presence, Times};
pub use firewall::{Firewall, Protocol, Stateful};
pub use guard::{BusyLoop, WakeupGuard};
pub use link::{
    GilbertElliott, Link, LinkError, LinkPreset, LinkProfile, Loss, Mtu, OneWay, Rate, Reorder,
    TooBig,
};
pub use nat::{Filtering, Mapping, NatProfile, PortAllocation, Preset, Refresh, WhenFull};
pub use network::{
    Change, Counters, DEFAULT_SIZE_BYTES, Delivery, HOME_REGION, Happening, HostId, HostState,
    MAX_IN_FLIGHT, NatId, Network, Outgoing, PUBLIC, RealmId, RegionId, RouterProfile,
    TooBigNotice,
};
pub use oracle::{
    Gate, Oracle, Prediction, Reach, Verdict, direct_path_possible, verdict, verdict_of_nats,
};
pub use topology::{Built, Event, Topology, TopologyError};
