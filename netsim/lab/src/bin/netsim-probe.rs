//! `netsim-probe TOKEN`: the job of the laboratory's tests, see `netsim::probe`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let token = std::env::args().nth(1).unwrap_or_default();
    match netsim::probe::serve(&token) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("netsim-probe: {error}");
            ExitCode::FAILURE
        }
    }
}
