//! The overlay's shell: UDP socket, TUN, WireGuard sessions, QUIC control channel.
//!
//! ```text
//!   job ─ mesh0 ─ TUN ┐                              ┌ peers, relays, reflector
//!                     ├─ worker (one thread) ─ UDP ──┤
//!   core ─ Node ──────┘        │ queue               └ coordinator (QUIC)
//!                           quinn ─ control task ─ board ◀─ worker
//! ```
//!
//! The [worker](Overlay) owns the socket's receiving side, the devices, the WireGuard sessions and the
//! core's node; tokio does the control session only. What the core decides is in `overlay-core`.

mod control;
mod heap;
mod interfaces;
mod kernel;
mod limit;
pub mod netcheck;
mod observe;
mod offload;
mod outbox;
mod overlay;
mod port_mapping;
mod quic;
mod secret;
mod socket;
mod stats;
pub mod tun;
mod tunnel;
mod view;
mod worker;

pub use control::ControlConfig;
pub use heap::keep_heap_small;
pub use limit::{RateLimit, Volume};
pub use observe::{Observed, Observer};
pub use overlay::{
    JoinError, Mesh, MeshEvent, Overlay, OverlayConfig, StartError, default_workers,
};
pub use port_mapping::Leases;
pub use secret::{MeshKeys, WireGuardSecret};
pub use stats::Stats;
pub use tunnel::{Step, TunnelConfig, Way};
pub use view::{Answered, Flow, MeshView, PingError, Reflector, Seen, Via, View};
#[doc(hidden)]
pub use worker::bench;
