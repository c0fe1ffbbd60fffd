//! The coordinator from outside: real TLS on loopback, agents played by the tests.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod arrays;
mod bad_input;
mod crash;
mod deadlines;
mod enrolment;
mod files;
mod formats;
mod full_disk;
mod identity;
mod limits;
mod lives;
mod openapi;
mod operators;
mod refusals;
mod restart;
mod revocation;
mod shapes;
mod site;
mod waiting;
