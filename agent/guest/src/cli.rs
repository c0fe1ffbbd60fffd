//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use coordinator_client::JoinToken;

use crate::enrol::Offer;
use crate::run::{self, RunOptions};
use crate::{doctor, shim, state_dir, status};

/// The agent of a volunteer's machine: takes jobs, runs them shut in, joins their networks.
#[derive(Parser)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work as a node until stopped.
    Run {
        /// The join token, at the first start.
        #[arg(long, value_name = "TOKEN", env = "AGENT_JOIN_TOKEN", hide_env_values = true)]
        join: Option<String>,
        #[command(flatten)]
        state: StateArgument,
        #[command(flatten)]
        offer: OfferArguments,
        /// Where the UDP socket of the jobs' networks is bound; port 0: any.
        #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:0")]
        bind: SocketAddr,
    },
    /// Become a node, without working yet.
    Join {
        /// The join token.
        #[arg(value_name = "TOKEN")]
        token: String,
        #[command(flatten)]
        state: StateArgument,
        #[command(flatten)]
        offer: OfferArguments,
    },
    /// Say which node this is and what it is doing.
    Status {
        #[command(flatten)]
        state: StateArgument,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Check what the agent needs of this machine, and say how to mend what is missing.
    Doctor {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Hold one job (started by the agent).
    #[command(hide = true)]
    Shim {
        /// The launch's folder.
        #[arg(long, required_unless_present = "probe")]
        dir: Option<PathBuf>,
        /// Only try whether a shim could work here.
        #[arg(long)]
        probe: bool,
    },
}

#[derive(Args)]
struct StateArgument {
    /// The agent's own directory.
    #[arg(long, value_name = "DIR", env = "AGENT_STATE")]
    state: Option<PathBuf>,
}

impl StateArgument {
    fn path(self) -> anyhow::Result<PathBuf> {
        self.state
            .or_else(state_dir::default_path)
            .context("there is no home directory: name the state directory with --state")
    }
}

#[derive(Args)]
struct OfferArguments {
    /// Cores to give, 1 or more; all of them when not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    cores: Option<u16>,
    /// Memory to give, MiB; all of it when not given.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
}

impl OfferArguments {
    fn offer(&self) -> Offer {
        Offer::of_machine(self.cores, self.memory)
    }
}

/// Does what was asked.
///
/// # Errors
/// With a sentence for people; the exit code is then 1.
pub fn dispatch(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Run { join, state, offer, bind } => {
            let token = join.as_deref().map(parse_token).transpose()?;
            let options = RunOptions { token, offer: offer.offer(), bind };
            runtime()?.block_on(run::run(&state.path()?, options))?;
        }
        Command::Join { token, state, offer } => {
            let token = parse_token(&token)?;
            let joined = runtime()?.block_on(run::join(&state.path()?, &token, offer.offer()))?;
            writeln!(std::io::stdout().lock(), "{}", joined.hostname)?;
        }
        Command::Status { state, json } => {
            let status = status::read(&state.path()?)?;
            let text = if json { serde_json::to_string(&status)? } else { status.to_string() };
            writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
        }
        Command::Doctor { json } => {
            let findings = doctor::examine();
            let text = if json {
                serde_json::to_string(&findings)?
            } else {
                findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            };
            writeln!(std::io::stdout().lock(), "{text}")?;
            if findings.iter().any(|finding| finding.needed && !finding.ok) {
                return Ok(ExitCode::FAILURE);
            }
        }
        // Before any thread exists: the namespaces are made in here.
        Command::Shim { dir: Some(dir), probe: false } => shim::server::run(&dir)?,
        Command::Shim { .. } => doctor::probe()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Done here because clap would quote a damaged token, which is a secret, in its message.
fn parse_token(text: &str) -> anyhow::Result<JoinToken> {
    Ok(text.parse()?)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
