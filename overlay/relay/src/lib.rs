//! The relay and reflector: forwards sealed packets between two agents of a pair.
//!
//! [`RelayState`] decides what becomes of a datagram and knows neither sockets nor clocks;
//! [`Relay`] is the thin shell with the sockets and a thread for each. The relay sees who talks to
//! whom and how much; what they say is sealed by WireGuard end to end.

#![forbid(unsafe_code)]

mod batch_socket;
mod exposition;
pub mod gateway;
mod holders;
mod keys;
mod limits;
mod moment;
mod shell;
mod sockets;
mod state;
mod stats;

pub use exposition::{CONTENT_TYPE, exposition};
pub use keys::{
    RelayKeys, TicketError, issue_ticket, reflector_token, verify_reflector_token, verify_ticket,
};
pub use limits::{ByteRate, RelayLimits};
pub use moment::Moment;
pub use shell::{Relay, RelayHandle, RelayMeter, SpawnError};
pub use sockets::{bind, suitable_workers};
pub use state::{Action, RelayState, Route, canonical};
pub use stats::{DropReason, Dropped, IoStats, RelayStats};
