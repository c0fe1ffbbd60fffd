//! Job and node state machines, the scheduler. No IO.
//!
//! ```text
//! commands ──► Draft ──► changes (rows) ──► the store's transaction ──► the new Cluster
//!                │
//!                └─ plan(Cluster): conservative backfilling, see [`plan`]
//! ```
//!
//! A [`Draft`] works on a copy of the [`Cluster`]: a command is refused with a typed reason and leaves no
//! trace, or it leads to rows that the caller stores in one transaction before anybody sees the result.
//! Time is a value that the caller hands in; [`Cluster::next_deadline`] says when to come back.

#![forbid(unsafe_code)]

mod actor;
mod array;
mod bits;
mod cluster;
mod date;
mod draft;
mod event;
mod expression;
mod gantt;
mod ids;
mod job;
mod judge;
mod node;
mod park;
mod plan;
mod reader;
mod request;
mod resources;
mod script;
mod usage;

pub use actor::Actor;
pub use array::{Array, ArrayRefusal, MAX_ARRAY};
pub use cluster::{Change, Cluster, Counters, Policy};
pub use draft::{
    DeleteRefusal, Draft, HoldRefusal, MAX_FAILED_LAUNCHES, MAX_REQUEUES, MeshBlock, Report,
    ReportRefusal, ResubmitRefusal, ResumeRefusal, SetNodeRefusal, SubmitRefusal,
    judge_late_report,
};
pub use event::{Event, EventKind};
pub use expression::Expression;
pub use ids::{JobId, NodeNumber, ParseNodeNumberError, UnixMillis};
pub use job::{ArrayPlace, Job, Launch, Part, PartState, Verdict};
pub use node::{Leftover, Node, Share};
pub use plan::{
    Depth, Eviction, MAX_PROMISES, ParseQuotaError, Plan, PlannedLaunch, PlannedShare, QUEUES,
    Quota, STARVING, Wait, plan,
};
pub use reader::Unreadable;
pub use request::{JobTypes, Request, RequestRefusal};
pub use resources::{
    Alternative, Count, DEFAULT_WALLTIME_S, Group, Level, MAX_NODES, ResourceRefusal, Resources,
};
pub use script::{DirectiveRefusal, read_directives};
pub use usage::{Usage, UsageKey, Used};
