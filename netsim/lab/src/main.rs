//! `netsim`: the whole system in network namespaces on one machine.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use netsim::commands::{Args, execute};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();

    // SAFETY: nothing before this line starts a thread; here and below.
    unsafe { find_system_programs() };
    // SAFETY: as above.
    match unsafe { execute(Args::parse()) } {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            // The chain of causes is part of the message.
            tracing::debug!(?error, "netsim failed");
            // The disk that it is written to may be full.
            let _ = writeln!(std::io::stderr(), "netsim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where Debian has `nft`, `ip` and others. An ordinary user's PATH does not name them.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Looks for programs there, too, after where the user looks.
///
/// # Safety
///
/// The process must have a single thread.
unsafe fn find_system_programs() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(
        SYSTEM
            .map(Into::into)
            .into_iter()
            .filter(|folder| !folders.contains(folder))
            .collect::<Vec<_>>(),
    );
    if let Ok(path) = std::env::join_paths(folders) {
        // SAFETY: by this function's contract.
        unsafe { std::env::set_var("PATH", path) };
    }
}
