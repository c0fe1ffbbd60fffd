//! The laboratory: the whole system in network namespaces on one machine.
//!
//! [`confine`] moves the program into namespaces of its own, [`topology`] builds networks with
//! [`preset`] routers, [`world`] starts the real programs in them, [`scenario`] says what to do, and
//! [`run`] does it and reports.

pub mod confine;
pub mod netns;
pub mod preset;
pub mod program;
pub mod queens;
pub mod scenario;
pub mod topology;
pub mod wait;
