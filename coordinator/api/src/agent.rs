//! What an agent asks and says about the jobs that are assigned to its node.

use serde::{Deserialize, Serialize};

use crate::list::Link;
use crate::number;

/// Header of answers of `/jobs/ID/output`: where the next piece begins, bytes.
pub const OUTPUT_OFFSET: &str = "x-output-offset";

/// Header of answers of `GET /jobs/ID/output?offset=N`: the launch that wrote it; another one begins at 0.
pub const OUTPUT_LAUNCH: &str = "x-output-launch";

/// The same: `yes` when nothing more will come.
pub const OUTPUT_COMPLETE: &str = "x-output-complete";

/// The longest piece that an agent sends of what a job writes, bytes.
pub const MAX_OUTPUT_PIECE: usize = 256 << 10;

/// An item of `GET /resources/nodes/NODE/jobs?state=toLaunch` and `toKill`.
///
/// A plain OAR server sends no `generation`: it counts as 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeJobItem {
    /// The job's number.
    pub id: u64,
    /// The launch that is meant.
    #[serde(default)]
    pub generation: u32,
    /// `self`, `resources`, `nodes`.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    #[serde(default)]
    pub api_timestamp: u64,
}

/// What an agent must know to run its part of a job: `assignment` in `GET /jobs/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Assignment {
    /// The launch. Every report names it; a report of an older launch is refused.
    pub generation: u32,
    /// This node's index among the job's nodes, from 0.
    pub rank: u16,
    /// The job's nodes, one host name per node, in the order of their ranks.
    pub nodes: Vec<AssignedNode>,
    /// The nodes share a network: the agent joins the mesh of (job, generation).
    pub mesh: bool,
    /// The command runs on every node; otherwise on rank 0 only.
    pub spmd: bool,
    /// There is a stage-in archive at `GET /jobs/ID/stagein.tgz`.
    pub stagein: bool,
    /// SHA-256 of the stage-in archive, hexadecimal.
    pub stagein_sha256: Option<String>,
    /// Seconds that the job may run from its start.
    pub walltime: u64,
}

/// One node of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignedNode {
    /// The OAR host name.
    pub name: String,
    /// How many of its cores belong to the job.
    pub cores: u16,
}

/// `POST /jobs/ID/state`.
///
/// `running` is the acknowledgement that takes the job off the node's `toLaunch` list; it comes before
/// stage-in. `terminated` and `error` are final for this node and are sent after the stage-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetState {
    /// What the node says.
    pub state: ReportedState,
    /// The launch that is meant; 0 or absent towards a plain OAR server.
    #[serde(default, deserialize_with = "number::number_or_0")]
    #[cfg_attr(feature = "openapi", schema(schema_with = number::unsigned))]
    pub generation: u32,
    /// The raw wait status of the command, where it ran and ended.
    #[serde(default, deserialize_with = "number::number", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(schema_with = number::signed))]
    pub exit_code: Option<i32>,
    /// With `error`: whose fault it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// With `error`: what happened, for the scientist; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The states that a node can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReportedState {
    /// The node has taken the job.
    Running,
    /// The node's part has ended: the command ended by itself, or the node had none to run.
    Terminated,
    /// The node's part was killed or could not be run.
    Error,
}

/// Whose fault an `error` is: it decides whether the job is launched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The job itself, as in an unusable stage-in archive: launching it again would not help.
    Job,
    /// This node, as in a full disk: another node may do it.
    Node,
    /// Nobody: the server asked for the kill, or the walltime passed.
    Killed,
}
