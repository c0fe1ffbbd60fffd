//! Job and node state machines, the scheduler. No IO.
//!
//! ```text
//! commands ──► Draft ──► changes (rows) ──► the store's transaction ──► the new Cluster
//!                │
//!                └─ plan(Cluster): first come, first served, whole nodes
//! ```
//!
//! A [`Draft`] works on a copy of the [`Cluster`]: a command is refused with a typed reason and leaves no
//! trace, or it leads to rows that the caller stores in one transaction before anybody sees the result.
//! Time is a value that the caller hands in; [`Cluster::next_deadline`] says when to come back.

#![forbid(unsafe_code)]

mod array;
mod cluster;
mod draft;
mod event;
mod ids;
mod job;
mod judge;
mod node;
mod plan;
mod request;
mod resources;

pub use array::{Array, ArrayRefusal, MAX_ARRAY};
pub use cluster::{Change, Cluster, Counters, Policy};
pub use draft::{
    DeleteRefusal, Deletion, Draft, MAX_FAILED_LAUNCHES, MAX_REQUEUES, MeshBlock, Report,
    ReportRefusal, SubmitRefusal, judge_late_report,
};
pub use event::{Event, EventKind};
pub use ids::{JobId, NodeNumber, ParseNodeNumberError, UnixMillis};
pub use job::{ArrayPlace, Job, Launch, Part, PartState, Verdict};
pub use node::{Leftover, Node, Share};
pub use plan::{Plan, PlannedLaunch, PlannedShare, plan};
pub use request::{JobTypes, Request, RequestRefusal};
pub use resources::{DEFAULT_WALLTIME_S, ResourceRefusal, Resources};
