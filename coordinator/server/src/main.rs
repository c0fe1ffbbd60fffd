//! The coordinator: OAR API, scheduler, store, rendezvous, relay.

fn main() {}
