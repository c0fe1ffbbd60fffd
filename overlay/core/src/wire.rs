//! The formats of the UDP socket: one socket carries everything, told apart by the first bytes.
//!
//! ```text
//!   01..04 00 00 00   WireGuard                  opaque here
//!   0b 43 48 01       control frame              [`control`]: reflector and relay binding
//!   05 52 4c 59       relay data frame           [`relay`]: channel, then a WireGuard packet
//!   05 52 4c 5a       relay data frame           [`relay`]: channel, then half a WireGuard packet
//!   40..ff            QUIC                       the control channel to the coordinator
//! ```
//!
//! [`tunnel`] carries them where UDP does not get through. [`probe`] is no datagram: it is the inner packet of a WireGuard transport message. All integers
//! are big-endian. Everything here is total: any bytes give a value or an error, never a panic.

pub mod control;
pub mod demux;
pub mod probe;
pub mod relay;
pub mod tunnel;

mod address;
mod hex;

pub use control::{ControlFrame, Ticket};
pub use demux::{Class, Demux};
pub use hex::{ParseHexError, format_hex, parse_key, parse_reflector_token};
pub use probe::Probe;
