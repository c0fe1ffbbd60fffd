//! Resources: one per core; a node is the set of them with one `network_address`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::list::Link;

/// OAR's resource states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "the names are OAR's own")]
pub enum ResourceState {
    Alive,
    Absent,
    Suspected,
    Dead,
}

/// An item of `GET /resources`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResourceItem {
    /// The resource's number.
    pub id: u64,
    /// Its state.
    pub state: ResourceState,
    /// Seconds since the Unix epoch until which a machine in standby can be woken.
    pub available_upto: u64,
    /// The node that it is a core of.
    pub network_address: String,
    /// `node`, `self`, `jobs`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    #[serde(default)]
    pub api_timestamp: u64,
}

/// `GET /resources/ID`: OAR's columns, those that its administrators usually add, and the properties that were
/// set for the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResourceRow {
    /// The resource's number.
    pub id: u64,
    /// `default`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The node that it is a core of.
    pub network_address: String,
    /// Its state.
    pub state: ResourceState,
    /// The state as OAR counts them: 1 for Alive, 2 Absent, 3 Suspected, 4 Dead.
    pub state_num: u8,
    /// `UnChanged`.
    pub next_state: String,
    /// `NO`.
    pub finaud_decision: String,
    /// `NO`.
    pub next_finaud_decision: String,
    /// `NO`.
    pub suspended_jobs: String,
    /// 0.
    pub scheduler_priority: u64,
    /// The core's index on its node, from 0.
    pub cpuset: u64,
    /// `YES`: best-effort jobs go there, too.
    pub besteffort: String,
    /// `NO`.
    pub deploy: String,
    /// 0: a machine does not expire while it polls.
    pub expiry_date: u64,
    /// `YES`: it is a volunteer's.
    pub desktop_computing: String,
    /// When a job last ended there, seconds since the Unix epoch.
    pub last_job_date: u64,
    /// Seconds since the Unix epoch until which a machine in standby can be woken.
    pub available_upto: u64,
    /// 0.
    pub last_available_upto: u64,
    /// `YES`: no new job goes there.
    pub drain: String,
    /// The node's name again.
    pub host: String,
    /// The resource's number again.
    pub core: u64,
    /// The node's number.
    pub cpu: u64,
    /// Memory of the node, MiB.
    pub mem: u64,
    /// `node`, `self`, `jobs`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
    /// Properties that operators have set.
    #[serde(flatten)]
    pub properties: BTreeMap<String, String>,
}

/// An item of `GET /resources/ID/jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResourceJob {
    /// The job's number.
    pub id: u64,
    /// `self`, `resources`, `nodes`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// What to make of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewState {
    /// `Alive`, `Absent` or `Dead`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^(Alive|Absent|Dead)$"))]
    pub state: Option<String>,
}
