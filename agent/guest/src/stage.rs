//! What goes into a job's directory before it runs, and what comes out after.

pub mod baseline;
pub(crate) mod open;
pub mod pack;
pub mod remove;
pub mod unpack;
mod unpack_entry;
