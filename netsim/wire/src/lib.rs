//! Links and NATs in user space, for kernels without netem and NATs that nftables cannot be.
//!
//! [`forwarder`] decides in a time that it is given: pipes and NAT tables are the simulator's, applied
//! to real frames ([`frame`], [`nat`]). [`engine`] is the shell around it: a thread that carries frames
//! between the TAP devices that [`splice`] puts in the place of cables. It holds the devices, so that
//! they vanish with the process, however it ends.

pub mod asking;
pub mod checksum;
pub mod engine;
pub mod forwarder;
pub mod frame;
pub mod nat;
pub mod netem;
pub mod netlink;
pub mod notice;
pub mod splice;
pub mod tap;

mod rewrite;
mod within;

pub use engine::Wires;
pub use forwarder::{Counters, LineId, LineNat, LineSpec, Region};
pub use splice::Cable;
