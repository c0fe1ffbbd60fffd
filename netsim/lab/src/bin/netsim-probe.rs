//! `netsim-probe TOKEN`: the job of the laboratory's tests, see `netsim::probe`.

use std::process::ExitCode;

const USAGE: &str = "\
netsim-probe TOKEN: the job of netsim's own tests, of no use otherwise

It answers everybody on port 7700 with TOKEN, by TCP and UDP, and obeys commands on 127.0.0.1:7701:
dial tcp:HOST:PORT, send HOST:PORT TEXT, exit STATUS.";

fn main() -> ExitCode {
    let token = std::env::args().nth(1).unwrap_or_default();
    if token.is_empty() || token.starts_with('-') {
        let is_asked = token == "--help" || token == "-h";
        eprintln!("{USAGE}");
        return if is_asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    match netsim::probe::serve(&token) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("netsim-probe: {error}");
            ExitCode::FAILURE
        }
    }
}
