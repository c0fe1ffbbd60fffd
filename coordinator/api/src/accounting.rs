//! What users asked for and used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An item of `GET /accounting`: a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectUse {
    /// The project's name.
    pub project: String,
    /// What its users took of the cluster.
    pub consumptions: Consumptions,
}

/// Resource-seconds by user, as texts: OAR's habit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Consumptions {
    /// Resources times walltime.
    #[serde(rename = "ASKED", default)]
    pub asked: BTreeMap<String, String>,
    /// Resources times running time.
    #[serde(rename = "USED", default)]
    pub used: BTreeMap<String, String>,
}
