//! `netsim`: the whole system in network namespaces on one machine.

use std::process::ExitCode;

use clap::Parser as _;
use netsim::commands::{Args, execute};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    // SAFETY: nothing before this line starts a thread.
    match unsafe { execute(Args::parse()) } {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            // The chain of causes is part of the message.
            tracing::debug!(?error, "netsim failed");
            eprintln!("netsim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
