//! What goes into a job's directory before it runs, and what comes out after.

pub mod baseline;
pub mod pack;
pub mod unpack;
mod unpack_entry;
