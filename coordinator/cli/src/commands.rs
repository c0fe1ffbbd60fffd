//! The commands, their options, and the names that they answer to.

mod account;
mod accounting;
mod delete;
mod hold;
mod install;
mod job;
mod nodes;
mod nodesetting;
mod outcome;
mod property;
mod stat;
mod submit;
mod top;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{EXIT_CODES, Failure};

/// Submits and follows jobs on a Clouds@home cluster.
///
/// OAR_TOKEN, a login string or a token, goes before the stored login; OAR_API before its address.
///
/// Called as oarsub, oarstat, oardel, oarhold, oarresume, oarnodes, oarnodesetting, oarproperty or
/// oaraccounting (by a link of that name), it is that command.
#[derive(Debug, Parser)]
#[command(name = "oar", version, after_help = EXIT_CODES)]
struct Oar {
    #[command(subcommand)]
    command: Command,
}

/// One call of the program.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is taken apart at once")]
pub(crate) enum Command {
    /// Stores the login string that the administrator gave.
    Login(account::Login),
    /// Submits a job (oarsub).
    #[command(visible_alias = "oarsub")]
    Sub(submit::Sub),
    /// Shows jobs (oarstat).
    #[command(visible_alias = "oarstat")]
    Stat(stat::Stat),
    /// Deletes jobs (oardel).
    #[command(visible_alias = "oardel")]
    Del(delete::Del),
    /// Holds jobs that wait (oarhold).
    #[command(visible_alias = "oarhold")]
    Hold(hold::Hold),
    /// Lets held jobs go on (oarresume).
    #[command(visible_alias = "oarresume")]
    Resume(hold::Resume),
    /// Shows nodes and their resources (oarnodes).
    #[command(visible_alias = "oarnodes")]
    Nodes(nodes::Nodes),
    /// Takes nodes away, gives them back, sets their properties; for operators (oarnodesetting).
    #[command(visible_alias = "oarnodesetting")]
    Nodesetting(nodesetting::NodeSetting),
    /// Lists, removes and renames properties of resources; for operators (oarproperty).
    #[command(visible_alias = "oarproperty")]
    Property(property::Property),
    /// Shows what users asked for and used (oaraccounting).
    #[command(visible_alias = "oaraccounting")]
    Accounting(accounting::Accounting),
    /// Shows the cluster and its jobs on the whole screen, again and again.
    Top(top::Top),
    /// Waits for a job's end and exits with its exit code.
    Wait(outcome::Wait),
    /// Fetches a job's results and unpacks them, one folder per rank.
    Fetch(outcome::Fetch),
    /// Prints what a job has written to its standard output.
    Logs(outcome::Logs),
    /// Shows a job's network, pair by pair.
    Mesh(job::Mesh),
    /// Shows what happened to a job.
    Events(job::Events),
    /// Prints a script that completes the commands of all names: `source <(oar completions bash)`.
    Completions(install::Completions),
    /// Writes the manual's pages into a folder.
    Man(install::Man),
}

/// Reads the command line; the name of the program may be the command. Ends the program on wrong usage.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Command {
    let args: Vec<_> = args.collect();
    let name = args.first().and_then(|name| Path::new(name).file_name());
    match name.and_then(|name| name.to_str()) {
        Some("oarsub") => Command::Sub(submit::Sub::parse_from(args)),
        Some("oarstat") => Command::Stat(stat::Stat::parse_from(args)),
        Some("oardel") => Command::Del(delete::Del::parse_from(args)),
        Some("oarhold") => Command::Hold(hold::Hold::parse_from(args)),
        Some("oarresume") => Command::Resume(hold::Resume::parse_from(args)),
        Some("oarnodes") => Command::Nodes(nodes::Nodes::parse_from(args)),
        Some("oarnodesetting") => Command::Nodesetting(nodesetting::NodeSetting::parse_from(args)),
        Some("oarproperty") => Command::Property(property::Property::parse_from(args)),
        Some("oaraccounting") => Command::Accounting(accounting::Accounting::parse_from(args)),
        _ => Oar::parse_from(args).command,
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<ExitCode, Failure> {
    let done = ExitCode::SUCCESS;
    match command {
        Command::Login(login) => login.run().await.map(|()| done),
        Command::Sub(sub) => sub.run().await.map(|()| done),
        Command::Stat(stat) => stat.run().await.map(|()| done),
        Command::Del(del) => del.run().await.map(|()| done),
        Command::Hold(hold) => hold.run().await.map(|()| done),
        Command::Resume(resume) => resume.run().await.map(|()| done),
        Command::Nodes(nodes) => nodes.run().await.map(|()| done),
        Command::Nodesetting(setting) => setting.run().await.map(|()| done),
        Command::Property(property) => property.run().await.map(|()| done),
        Command::Accounting(accounting) => accounting.run().await.map(|()| done),
        Command::Top(top) => top.run().await.map(|()| done),
        Command::Wait(wait) => wait.run().await,
        Command::Fetch(fetch) => fetch.run().await.map(|()| done),
        Command::Logs(logs) => logs.run().await.map(|()| done),
        Command::Mesh(mesh) => mesh.run().await.map(|()| done),
        Command::Events(events) => events.run().await.map(|()| done),
        Command::Completions(completions) => completions.run().map(|()| done),
        Command::Man(man) => man.run().map(|()| done),
    }
}
