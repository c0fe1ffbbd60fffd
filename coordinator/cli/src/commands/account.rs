//! `oar login`.

use std::io::Read;

use clap::Args;
use coordinator_client::Client;

use crate::failure::Failure;
use crate::{login, output};

/// The longest login string that is read from the standard input, bytes.
const MAX_INPUT: u64 = 8192;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The login string (`cah-login-1.…`); `-` reads it from the standard input, where no list of processes
    /// shows it
    #[arg(value_name = "LOGINSTRING")]
    login: String,
}

impl Login {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let text = match self.login.as_str() {
            "-" => read_input()?,
            _ => self.login,
        };
        let login: coordinator_client::Login = text.parse()?;
        let checked = Client::for_login(&login)?.whoami().await;
        match checked {
            Ok(user) if user == login.user => {}
            Ok(_) => return Err(Failure::LoginRefused),
            Err(error) if error.status() == Some(401) => return Err(Failure::LoginRefused),
            // The string may be right although the coordinator rests.
            Err(error) if error.is_transient() => eprintln!("oar: not checked: {error}"),
            Err(error) => return Err(error.into()),
        }
        let path = login::store(&login)?;
        output::print(&format!(
            "Logged in as {} at {} ({}).\n",
            output::plain_line(&login.user),
            login.url,
            path.display()
        ))
    }
}

fn read_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(Failure::file("the standard input".as_ref()))?;
    Ok(text)
}
