//! oarsub, oarstat, oardel, oarnodes: one binary, many names.

#![forbid(unsafe_code)]

mod commands;
mod failure;
mod login;
mod output;
mod pack;
mod progress;
mod results;
mod scratch;

use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let command = commands::parse(std::env::args_os());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "oar: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(command)) {
        Ok(code) => code,
        Err(failure) if failure.is_silent() => failure.exit_code(),
        Err(failure) => {
            // The disk that it is written to may be full.
            let _ = writeln!(io::stderr(), "oar: {failure}");
            failure.exit_code()
        }
    }
}
