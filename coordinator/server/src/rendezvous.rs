//! The rendezvous: where the nodes of a job's network learn of each other.
//!
//! Nodes keep one QUIC connection each ([`overlay_core::control`]). The coordinator announces the
//! network of a launch with [`RendezvousHandle::launch`]; once every member has joined, each of them
//! gets relay channels to its peers, their candidates and the netmap; once every pair has a path, the
//! network opens ([`RendezvousEvent::Open`]). All decisions are made in `registry`, a synchronous
//! value; `server` is the shell with the sockets.

mod identity;
mod registry;
mod server;

pub use registry::{LaunchError, LaunchMember, MemberView, MeshView, PairView, RendezvousEvent};
pub use server::{
    AdmitsRelays, Enrolled, Rendezvous, RendezvousConfig, RendezvousHandle, StartError,
};
