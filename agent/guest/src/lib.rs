//! The agent: pulls jobs, runs them shut in, joins their meshes.
//!
//! ```text
//!  poll      lists of the coordinator -> reconcile (pure) -> actions
//!  job       one task per launch: acknowledge, stage in, shim, mesh, wait, stage out, report
//!  shim      one process per launch: namespaces, mesh0, the command in bubblewrap
//! ```
//!
//! Everything that a launch needs to be taken up again stands in its folder on the disk, so that a
//! restarted agent goes on where the last one stopped.

#![forbid(unsafe_code)]

pub mod ask;
pub mod cli;
pub mod confine;
pub mod doctor;
pub mod enrol;
pub mod environment;
pub mod events;
pub mod identity;
pub mod inside;
pub mod job;
pub mod local;
pub mod mesh;
pub mod metrics;
pub mod oar;
pub mod owner;
pub mod poll;
pub mod reconcile;
pub mod retry;
pub mod run;
pub mod shim;
pub mod ssh;
pub mod stage;
pub mod state_dir;
pub mod status;
