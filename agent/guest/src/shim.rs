//! The small process that holds one job: its namespaces, its network device, its key, its command.
//!
//! ```text
//!  agent ---- JOBDIR/shim.sock ---- shim (own user and network namespace: lo, mesh0)
//!                                     `-- bwrap (no --unshare-net) -- sh -c COMMAND
//! ```
//!
//! It is a process of its own so that the agent can be restarted or upgraded under a running job: the
//! next agent takes the descriptor and the key back from here. When the shim dies, everything of the job
//! dies with it (`--die-with-parent` and the process namespace below it).

pub mod client;
mod descriptor;
mod drain;
mod namespace;
pub mod pause;
pub mod process;
pub mod protocol;
pub mod sandbox;
pub mod server;

pub use namespace::{IsolateError, isolate};
