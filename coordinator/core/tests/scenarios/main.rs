//! Scenarios of the job's life, and a model test over random ones.

#![allow(missing_docs, reason = "tests")]

mod endings;
mod failures;
mod life;
mod model;
mod restart;
mod world;
