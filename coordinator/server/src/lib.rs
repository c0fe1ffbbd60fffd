//! The coordinator: OAR API, scheduler, store, rendezvous, relay.
//!
//! The binary's logic lives here so that tests can run it in their own process.

#![forbid(unsafe_code)]

pub mod app;
pub mod args;
mod causes;
pub mod clock;
pub mod commands;
pub mod files;
mod housekeeping;
pub mod http;
pub mod ledger;
pub mod limits;
mod metrics;
mod networks;
pub mod password;
pub mod pki;
mod places;
pub mod relay;
mod relay_desk;
pub mod rendezvous;
mod revocations;
pub mod role;
pub mod roster;
pub mod secret;
pub mod serve;
pub mod stage;
pub mod store;
mod ticker;
mod wakes;
