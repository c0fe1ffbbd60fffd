//! `GET /jobs/ID/mesh`: how a job's network was, pair by pair.

use serde::{Deserialize, Serialize};

/// The network of a job's last launch. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobMesh {
    /// The job's number.
    pub job: u64,
    /// The launch.
    pub generation: u32,
    /// When the scheduler assigned the nodes.
    pub assigned_ms: u64,
    /// When every pair that is waited for had a path and the job could start.
    pub open_ms: Option<u64>,
    /// Which pairs are waited for: `all`, `ring`, `star`, `tree` or `grid`; the others are connected with their
    /// first packet.
    #[serde(default = "all_pairs")]
    pub pattern: String,
    /// The members in the order of their ranks.
    pub members: Vec<MeshMember>,
    /// One entry for each ordered pair that has reported.
    pub pairs: Vec<MeshPair>,
}

fn all_pairs() -> String {
    "all".to_owned()
}

/// A member of a job's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MeshMember {
    /// Its rank.
    pub rank: u16,
    /// Its OAR host name.
    pub name: String,
    /// Its IPv4 address in the mesh.
    pub ipv4: String,
}

/// A pair, as seen by `from`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MeshPair {
    /// Rank of the node that reports.
    pub from: u16,
    /// Rank of the other.
    pub to: u16,
    /// `none`, `direct` or `relayed`.
    pub path: String,
    /// The peer's or the relay's endpoint.
    pub via: Option<String>,
    /// Round trip time, microseconds.
    pub rtt_us: Option<u64>,
    /// Time from joining to the pair's first authenticated packet, milliseconds.
    pub established_after_ms: Option<u64>,
    /// Bytes of the job's IP packets from `from` to `to`, counted at `from`'s mesh0.
    pub sent_bytes: u64,
    /// Bytes of the job's IP packets from `to` to `from`, counted at `from`'s mesh0.
    pub received_bytes: u64,
    /// Why the pair is relayed; empty when it is direct.
    pub explain: String,
}
