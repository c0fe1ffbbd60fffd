//! Scenarios of the job's life, and a model test over random ones.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod arrays;
mod endings;
mod failures;
mod life;
mod model;
mod restart;
mod schedule;
mod world;
