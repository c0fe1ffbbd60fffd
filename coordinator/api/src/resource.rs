//! Resources: one per core; a node is the set of them with one `network_address`.

use serde::{Deserialize, Serialize};

use crate::list::Link;

/// OAR's resource states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are OAR's own")]
pub enum ResourceState {
    Alive,
    Absent,
    Suspected,
    Dead,
}

/// An item of `GET /resources`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
