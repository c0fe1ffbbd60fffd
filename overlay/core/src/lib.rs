//! The overlay's decisions: candidates, paths, probes, relays, netmaps. No IO.
//!
//! A [`Node`] is a synchronous value. It is given time, bytes and a seed, and answers with the
//! effects that its driver must carry out:
//!
//! ```text
//!   control channel ──Netmap, Candidates, Ticket──▶ ┌──────┐ ──Transmit──▶ UDP socket
//!   UDP socket ───────Control frames──────────────▶ │ Node │ ──Initiate, Probe──▶ WireGuard, then UDP
//!   WireGuard ────────Authenticated, Probe────────▶ │      │ ──UsePath──▶ data plane's table
//!   clock ────────────Wakeup──────────────────────▶ └──────┘ ──Announce, PairChanged──▶ control channel
//! ```
//!
//! WireGuard's cryptography stays in the driver: to this crate its packets are opaque. Paths and
//! NAT state belong to a pair of *nodes*; WireGuard sessions belong to a pair *in a mesh*, so that
//! two meshes on the same pair share what was learned about the paths.

#![forbid(unsafe_code)]

pub mod control;
pub mod ids;
pub mod io;
pub mod ladder;
pub mod netmap;
pub mod pattern;
pub mod rtt;
pub mod wire;

mod budget;
mod candidates;
mod chance;
mod context;
mod explain;
mod homes;
mod keeper;
mod ledger;
mod mesh;
mod nat;
mod node;
mod path;
mod peer;
mod relay_client;
mod relays;
mod search;
mod session;
mod tier;
mod trial;

pub use ids::{HostKey, MemberKeys, MeshId, NodeId, SessionKey, WireGuardKey};
pub use io::{Input, Output, PairState, Path};
pub use netmap::{
    Activity, Candidate, CandidateKind, MeasuredRelay, Member, Netmap, NodeCandidates, RelayOffer,
    RelayTicket,
};
pub use node::{MAX_PEERS, Node, NodeConfig, NodeView, Outputs, Stats};
pub use pattern::Pattern;
pub use rtt::RttTable;
