//! The coordinator: OAR API, scheduler, store, rendezvous, relay.
//!
//! The binary's logic lives here so that tests can run it in their own process.

#![forbid(unsafe_code)]

pub mod pki;
pub mod rendezvous;
