//! Whole nodes on a simulated network, with a small coordinator, a relay and a stand-in for WireGuard.

use std::time::Instant;

use netsim_sim::{Link, NatProfile};
use netsim_virtual::World;
use overlay_core::MeshId;

mod activity;
mod any_order;
mod away;
mod bad_networks;
mod bootstrap;
mod chance;
mod homes;
mod hostile;
mod idle;
mod liveness;
mod matrix;
mod promotion;
mod reach;
mod relays;
mod resume;

/// A world without nodes.
fn world(seed: u64) -> World {
    World::new(seed, Instant::now())
}

/// Nodes behind those chains of NATs, welcomed and in one mesh.
fn with_mesh(seed: u64, chains: &[&[NatProfile]], link: Link) -> (World, MeshId) {
    World::with_mesh(seed, Instant::now(), chains, link)
}
