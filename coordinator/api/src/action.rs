//! The answers to orders about jobs and nodes.

use serde::{Deserialize, Serialize};

use crate::list::Link;

/// An order about a job was taken (202).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The job's number, as text: OAR's habit in answers to actions.
    pub id: String,
    /// `Hold request registered`, and so on.
    pub status: String,
    /// What OAR's command prints.
    pub cmd_output: String,
    /// `self`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// A job was submitted again (201, with a `Location` header).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resubmitted {
    /// The new job's number.
    pub id: u64,
    /// `submitted`.
    pub status: String,
    /// What oarsub prints.
    pub cmd_output: String,
    /// `self`, and `parent`: the job that it repeats.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// A node's state was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StateSet {
    /// The resource's number, as the client wrote it.
    pub id: String,
    /// `Change state request registered`.
    pub status: String,
    /// Where the resource is.
    pub uri: String,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// A node's properties were set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PropertiesSet {
    /// `Properties set`.
    pub status: String,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}
