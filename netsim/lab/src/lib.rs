//! The laboratory: the whole system in network namespaces on one machine.
//!
//! [`confine`] moves the program into namespaces of its own, [`topology`] builds networks, [`world`]
//! starts the real programs in them, a [`netsim_scenario::Resolved`] says what to do, and [`conduct`] does it
//! and makes the [`report`].

pub mod bench;
pub mod capture;
mod children;
pub mod commands;
pub mod conduct;
pub mod confine;
mod disk;
pub mod doctor;
pub mod drawing;
pub mod expect;
pub mod leftovers;
pub mod mark;
pub mod needs;
pub mod netns;
pub mod nodes;
pub mod probe;
pub mod processes;
pub mod program;
pub mod progress;
pub mod record;
pub mod report;
pub mod running;
pub mod simulate;
pub mod sweep;
pub mod topology;
pub mod visit;
pub mod wait;
pub mod world;
