//! The command line, and what a job's environment adds to it.

use std::{fs::File, io, io::Read, io::Write, path::PathBuf, time::Duration, time::Instant};

use clap::Parser;

use crate::{
    hosts::{self, Host, HostsError},
    mesh::Roster,
    ranks::{Outcome, Run, RunError},
    solver::BoardSize,
    units::Units,
    wire::{Greeting, VERSION},
};

/// Bytes of a host list, at most (chosen: a line for each core of many machines).
const MAX_HOSTS_FILE: u64 = 4 << 20;
/// Bytes exchanged between two ranks, at most (chosen).
const MAX_EXCHANGE: u64 = 1 << 40;

/// Counts the ways to place N queens on a board of N by N squares so that none attacks another.
///
/// Alone it uses the cores of this machine. In a job with `-t mesh -t spmd`, or with --hosts and
/// --rank, one process on each machine shares the work over TCP, and rank 0 prints the count.
#[derive(Debug, Parser)]
#[command(name = "nqueens", version)]
pub(crate) struct Options {
    /// Rows of the board: 1 to 27 (the largest whose count is known).
    #[arg(value_name = "N")]
    board: BoardSize,
    /// Threads of this rank [default: one per available core].
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Bytes that each rank sends to each other and checks before the search, e.g. 1MiB.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    exchange: u64,
    /// One host (or host:port) a line; repeated lines count once [default in a job: $OAR_NODEFILE].
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// This machine's place in the host list, from 0 [default in a job: $OAR_MESH_RANK].
    #[arg(long, value_name = "R")]
    rank: Option<u32>,
    /// TCP port of hosts that name none.
    #[arg(long, value_name = "P", default_value_t = 4910,
          value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Seconds for all ranks to find each other.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    connect_timeout: u64,
    /// Seconds of silence after which a rank counts as lost.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    peer_timeout: u64,
}

/// What a job's environment says.
#[derive(Debug, Default)]
pub(crate) struct JobVariables {
    /// `OAR_NODEFILE`
    pub(crate) node_file: Option<PathBuf>,
    /// `OAR_MESH_RANK`
    pub(crate) rank: Option<String>,
    /// `OAR_MESH_SIZE`
    pub(crate) size: Option<String>,
}

/// Why nothing was counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    #[error("cannot read the host list {path}", path = .path.display())]
    ReadHosts { path: PathBuf, source: io::Error },
    #[error("the host list {path} is larger than {MAX_HOSTS_FILE} bytes", path = .path.display())]
    HostsTooLong { path: PathBuf },
    #[error(transparent)]
    Hosts(#[from] HostsError),
    #[error("--hosts needs --rank: which line of the list is this machine?")]
    NoRank,
    #[error("--rank needs --hosts: where are the other ranks?")]
    NoHosts,
    #[error("${name} is not a number: {text:?}")]
    Variable { name: &'static str, text: String },
    #[error("rank {rank} is not in the host list of {ranks} hosts (the first is 0)")]
    RankTooLarge { rank: u32, ranks: usize },
    #[error("$OAR_MESH_SIZE is {said}, but the host list has {ranks} hosts")]
    Size { said: u32, ranks: usize },
    #[error("rank {rank}")]
    Run { rank: u32, source: RunError },
    #[error("cannot print the result")]
    Print(#[from] io::Error),
}

/// Counts, and prints the result if this is rank 0.
pub(crate) fn count(options: &Options, job: &JobVariables) -> Result<(), CountError> {
    let started = Instant::now();
    let (hosts, rank) = place(options, job)?;
    let threads = options.threads.map_or_else(available_threads, usize::from);
    let greeting = Greeting {
        version: VERSION,
        n: options.board.rows(),
        ranks: hosts.len() as u32,
        rank,
        exchange: options.exchange,
    };
    let patience = Duration::from_secs(options.connect_timeout);
    let roster = Roster { hosts, rank, greeting, patience };
    let silence = Duration::from_secs(options.peer_timeout);
    let mut run = Run::new(roster, Units::split(options.board), threads, silence);
    let outcome = run.search().map_err(|source| CountError::Run { rank, source })?;
    print(options, rank, threads, &outcome, started.elapsed())?;
    run.part();
    Ok(())
}

fn print(
    options: &Options,
    rank: u32,
    threads: usize,
    outcome: &Outcome,
    took: Duration,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if rank != 0 {
        return writeln!(out, "rank {rank}: {} units, {threads} threads", outcome.units_here);
    }
    let per_rank: Vec<String> = outcome.units_per_rank.iter().map(u64::to_string).collect();
    writeln!(out, "solutions({}) = {}", options.board, outcome.solutions)?;
    writeln!(
        out,
        "{:.3} s, ranks: {}, threads on rank 0: {threads}, units per rank: {}",
        took.as_secs_f64(),
        per_rank.len(),
        per_rank.join(" ")
    )
}

/// The host list and this machine's place in it; without either, this machine alone.
fn place(options: &Options, job: &JobVariables) -> Result<(Vec<Host>, u32), CountError> {
    let rank = match (options.rank, &job.rank) {
        (Some(rank), _) => Some(rank),
        (None, Some(text)) => Some(number("OAR_MESH_RANK", text)?),
        (None, None) => None,
    };
    let (path, rank) = match (&options.hosts, &job.node_file, rank) {
        (Some(path), _, Some(rank)) | (None, Some(path), Some(rank)) => (path, rank),
        (Some(_), _, None) => return Err(CountError::NoRank),
        (None, None, Some(_)) => return Err(CountError::NoHosts),
        // A job without a mesh has a node file too, but nobody to talk to.
        (None, _, None) => return Ok((vec![alone(options.port)], 0)),
    };
    let hosts = hosts::parse(&read(path)?, options.port)?;
    let ranks = hosts.len();
    if let Some(text) = job.size.as_ref().filter(|_| options.hosts.is_none()) {
        let said: u32 = number("OAR_MESH_SIZE", text)?;
        if said as usize != ranks {
            return Err(CountError::Size { said, ranks });
        }
    }
    if rank as usize >= ranks {
        return Err(CountError::RankTooLarge { rank, ranks });
    }
    Ok((hosts, rank))
}

fn alone(port: u16) -> Host {
    Host { name: "localhost".to_owned(), port }
}

fn read(path: &PathBuf) -> Result<String, CountError> {
    let failed = |source| CountError::ReadHosts { path: path.clone(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_HOSTS_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_HOSTS_FILE {
        return Err(CountError::HostsTooLong { path: path.clone() });
    }
    Ok(text)
}

fn number(name: &'static str, text: &str) -> Result<u32, CountError> {
    let trimmed = text.trim();
    trimmed
        .parse()
        .map_err(|_| CountError::Variable { name, text: trimmed.chars().take(40).collect() })
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `4096`, `64KiB`, `1MiB`, `2GiB`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("unknown unit {other:?}: use KiB, MiB or GiB")),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| *bytes <= MAX_EXCHANGE)
        .ok_or_else(|| "expected a size like 4096, 64KiB or 1MiB, at most 1024GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        Options::try_parse_from([&["nqueens"], words].concat()).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("1MiB"), Ok(1 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in ["", "MiB", "1MB", "-1", "1.5MiB", "99999999999GiB", "2000GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_file_without_a_rank_means_alone() {
        let job = JobVariables { node_file: Some("/nowhere".into()), ..JobVariables::default() };
        let (hosts, rank) = place(&options(&["8"]), &job).unwrap();
        assert_eq!((hosts.len(), rank), (1, 0));
    }

    #[test]
    fn half_a_place_is_refused() {
        let none = JobVariables::default();
        let error = place(&options(&["8", "--rank", "1"]), &none).unwrap_err();
        assert!(matches!(error, CountError::NoHosts), "{error}");
        let error = place(&options(&["8", "--hosts", "/nowhere"]), &none).unwrap_err();
        assert!(matches!(error, CountError::NoRank), "{error}");
        let job = JobVariables { rank: Some("one".into()), ..JobVariables::default() };
        let error = place(&options(&["8"]), &job).unwrap_err();
        assert!(matches!(error, CountError::Variable { .. }), "{error}");
    }
}
