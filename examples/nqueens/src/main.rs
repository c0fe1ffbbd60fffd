//! Counts the solutions of the N queens problem on many machines that talk to each other.
//!
//! The board is cut into `units`; each rank's `pool` of threads solves some with the bitmasks of
//! `solver`. `ranks` runs one rank over the connections that `mesh` makes and `link` serves,
//! `steal` decides whom an idle rank asks for work, and the `ledger` holds the count to account.
#![forbid(unsafe_code)]

mod cli;
mod exchange;
mod hosts;
mod ledger;
mod link;
mod mesh;
mod pool;
mod ranks;
mod solver;
mod steal;
mod units;
mod wire;

use std::process::ExitCode;

use clap::Parser;

/// Exit codes: 0 counted, 1 not counted, 2 wrong command line.
fn main() -> ExitCode {
    let options = cli::Options::parse();
    let job = cli::JobVariables {
        node_file: std::env::var_os("OAR_NODEFILE").map(Into::into),
        rank: std::env::var("OAR_MESH_RANK").ok(),
        size: std::env::var("OAR_MESH_SIZE").ok(),
    };
    match cli::count(&options, &job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nqueens: {}", ranks::chain(&error));
            ExitCode::FAILURE
        }
    }
}
