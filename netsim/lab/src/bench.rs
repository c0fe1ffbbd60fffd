//! Benchmarks: each prints a table of figures with their targets, and writes them as data.
//!
//! Figures are ratios within one run wherever they can be: machines differ, and this one is noisy.

pub mod api;
pub mod chart;
pub mod command;
pub mod figures;
pub mod net;
pub mod outages;
pub mod reach;
