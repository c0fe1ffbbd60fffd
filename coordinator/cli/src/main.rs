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

use std::process::ExitCode;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let command = commands::parse(std::env::args_os());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("oar: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(command)) {
        Ok(code) => code,
        Err(failure) if failure.is_silent() => failure.exit_code(),
        Err(failure) => {
            eprintln!("oar: {failure}");
            failure.exit_code()
        }
    }
}
