//! One launch of one job on this node, from its acknowledgement to its accepted report.
//!
//! ```text
//!  acknowledge -> stage in -> shim (and mesh) -> command -> stage out -> report -> folder removed
//!       |            |              |               |
//!       `--- kill ---+--------------+-- kill -------+----> stage out what is there -> report
//! ```
//!
//! A command that has ended leaves its network standing until the job has ended on all nodes, see
//! `remains`. Each arrow is on the disk before it is taken, see [`directory`].

pub mod directory;
mod ending;
mod life;
mod news;
mod output;
mod prepare;
mod remains;
mod supervise;

pub use ending::{FinalReport, Outcome};
pub use life::{Context, Order, live};
pub(crate) use news::replace;
