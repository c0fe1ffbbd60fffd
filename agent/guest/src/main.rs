//! The agent: pulls jobs, runs them shut in, joins their meshes.

#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

/// What is logged unless RUST_LOG says otherwise. boringtun calls the ordinary end of idle keys an
/// error; what matters of a session is logged by the overlay.
const DEFAULT_LOG: &str = "info,boringtun=off";

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();

    match agent::cli::dispatch(agent::cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // The last words go out plain: they are for a person. The disk that they are written to may be full.
            let _ = writeln!(std::io::stderr(), "agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
