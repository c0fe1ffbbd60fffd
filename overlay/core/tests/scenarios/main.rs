//! Whole nodes on a simulated network, with a small coordinator, a relay and a stand-in for WireGuard.

mod any_order;
mod bootstrap;
mod hostile;
mod liveness;
mod matrix;
mod promotion;
mod relay;
mod wireguard;
mod world;
