//! The coordinator's command line.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use coordinator::args::{Arguments, Command};
use coordinator::{commands, relay, serve};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    logs.with_writer(std::io::stderr).init();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                match arguments.command {
                    Command::Serve(serve) => serve::run(serve).await,
                    Command::Relay(arguments) => relay::run(arguments).await,
                    Command::Token(token) => commands::token(token).await,
                    Command::User(user) => commands::user(user).await,
                    Command::Node(node) => commands::node(node).await,
                    Command::Audit(audit) => commands::audit(audit).await,
                    Command::Backup(backup) => commands::backup(backup).await,
                    Command::Doctor(doctor) => commands::doctor(doctor).await,
                    Command::Openapi => commands::openapi(),
                }
            })
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one place that speaks to the operator directly: a sentence, with its causes.
            let text = format!("coordinator: {error:#}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
            ExitCode::FAILURE
        }
    }
}
