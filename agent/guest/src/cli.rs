//! The command line.

mod values;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use overlay_driver::keep_heap_small;

use self::values::{local, parse_token, per_day, per_second, reachable};
use crate::ask::PingOptions;
use crate::confine::files;
use crate::confine::limits::OwnLimits;
use crate::enrol::Offer;
use crate::mesh::SocketOptions;
use crate::oar::OarOptions;
use crate::owner::{Change, NetworkGrant};
use crate::run::{self, RunOptions, ServerOptions};
use crate::{ask, doctor, inside, shim, state_dir, status};

/// The agent of a volunteer's machine: takes jobs, runs them shut in, joins their networks.
#[derive(Parser)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::large_enum_variant, reason = "one is made, from the command line")]
#[derive(Subcommand)]
enum Command {
    /// Work as a node until stopped.
    Run {
        /// The join token, at the first start.
        #[arg(long, value_name = "TOKEN", env = "AGENT_JOIN_TOKEN", hide_env_values = true)]
        join: Option<String>,
        #[command(flatten)]
        oar: OarArguments,
        #[command(flatten)]
        state: StateArgument,
        #[command(flatten)]
        offer: OfferArguments,
        #[command(flatten)]
        network: NetworkArguments,
        /// Where the UDP socket of the jobs' networks is bound; port 0: any.
        #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:0")]
        bind: SocketAddr,
        /// Do not ask the router for a port (PCP, NAT-PMP, UPnP). Without one, some peers can be reached through
        /// the relay only.
        #[arg(long)]
        no_port_mapping: bool,
        /// Where nothing else leads to a direct path, let this node and a peer whose volunteer allows it too meet by
        /// chance: up to 256 ports are opened here, or 1,024 of the peer's tried, at 100 packets a second, once an
        /// hour for each peer. Cheap routers have failed under such, and some providers take it for an attack.
        #[arg(long)]
        allow_birthday_probing: bool,
        /// Threads that carry the jobs' packets, each for its share of the peers: more of them serve many peers
        /// faster, and one peer no faster. By default one for every two cores, at least one.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
        workers: Option<u16>,
        /// Appends what happens to jobs and their networks to this file, for debugging: one JSON object a
        /// line, with `mono_us` and `unix_us` (microseconds of the machine's monotonic clock and since
        /// 1970) and `event`: agent-started, mesh-joined, path (direct, relayed or none, and the reason;
        /// at every change), pair (bytes and round trip time, several times a second), mesh-open, mesh-closed,
        /// mesh-left, command-started, command-ended, agent-stopped. Up to 1 GiB.
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
        /// An endpoint that leads to that socket from outside, such as a port that the router forwards (then
        /// give --bind a port, too); may be given several times.
        #[arg(long, value_name = "ADDR:PORT", value_parser = reachable)]
        advertise: Vec<SocketAddr>,
        /// Counters for Prometheus at http://ADDR:PORT/metrics; an address of this machine alone, such as
        /// 127.0.0.1:9464, since whoever can connect can read them.
        #[arg(long, value_name = "ADDR:PORT", value_parser = local)]
        metrics: Option<SocketAddr>,
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
    /// Measure round trips to a node that shares a job's network, on the path in use and on the relay.
    Ping {
        /// Its host name, its address in the job, or the beginning of its id.
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        state: StateArgument,
        /// Rounds.
        #[arg(long, short, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        count: u16,
        /// Between rounds.
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
        interval: Duration,
        /// Bytes of each packet, 56 to 1412.
        #[arg(long, default_value_t = 56, value_parser = clap::value_parser!(u16).range(56..=1412))]
        size: u16,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Say why the path to a node is as it is.
    Explain {
        /// Its host name, its address in the job, or the beginning of its id.
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        state: StateArgument,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Measure what this network does to UDP: NAT, filtering, IPv6, proxy. Works without a running agent.
    Netcheck {
        #[command(flatten)]
        state: StateArgument,
        /// Also how long the router remembers a silent connection, which takes three minutes.
        #[arg(long)]
        lifetime: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Take no new jobs. Those that are here go on to their end.
    Drain {
        #[command(flatten)]
        state: StateArgument,
        /// Return when the last of them has ended and its results are delivered.
        #[arg(long)]
        wait: bool,
    },
    /// Let jobs stand still where they are, and take no new ones: they use no processor, and keep their memory.
    Pause {
        #[command(flatten)]
        state: StateArgument,
    },
    /// Let paused jobs go on, and take new ones.
    Continue {
        #[command(flatten)]
        state: StateArgument,
    },
    /// Say, or change, how much of this machine all jobs together may use. Holds at once and for later starts; 0
    /// takes a limit away.
    Limits {
        #[command(flatten)]
        state: StateArgument,
        /// Cores. Jobs that run keep theirs as processors' time where control groups allow it.
        #[arg(long, value_name = "N")]
        cores: Option<u16>,
        /// Memory, MiB. Each job has as large a part of it as of the cores.
        #[arg(long, value_name = "MIB")]
        memory: Option<u64>,
        /// Disk, MiB; the same. For jobs that begin after this.
        #[arg(long, value_name = "MIB")]
        disk: Option<u64>,
        #[command(flatten)]
        network: NetworkArguments,
        /// When jobs may run, by this machine's clock, as in 22:00-07:00; they are paused for the rest of the day.
        /// `all` takes it away.
        #[arg(long, value_name = "FROM-TO")]
        hours: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Print what the running agent has counted, in Prometheus' text format.
    Metrics {
        #[command(flatten)]
        state: StateArgument,
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
    /// Give up rights, and become the job's program (started by the shim).
    #[command(hide = true)]
    Confined {
        /// Address space of each process, bytes.
        #[arg(long)]
        memory: Option<u64>,
        /// Processes and threads.
        #[arg(long)]
        tasks: Option<u64>,
        /// The size of each file, bytes.
        #[arg(long)]
        file: Option<u64>,
        /// The program.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// Run a job's command and its sessions (started by the shim).
    #[command(hide = true)]
    Inside {
        /// For `sh -c`; without one, only let the job's other nodes in.
        command: Option<OsString>,
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

/// For a node of a plain OAR server (2.5.9).
#[derive(Args)]
struct OarArguments {
    /// Work for a plain OAR 2.5.9 server in place of a coordinator: the address of its API, such as
    /// https://HOST/oarapi-priv. Its administrator makes the node (oarnodesetting -a -h NODE -p
    /// desktop_computing=YES). It gives jobs no network: those with `-t mesh` are refused.
    #[arg(long, value_name = "URL", requires = "node", requires = "user", conflicts_with_all = ["join", "metrics"])]
    oar: Option<String>,
    /// The node's name at the OAR server.
    #[arg(long, value_name = "NAME", requires = "oar")]
    node: Option<String>,
    /// The login that the OAR server asks for.
    #[arg(long, value_name = "LOGIN", requires = "oar")]
    user: Option<String>,
    /// The file with its password. Without one only the name is sent (X-REMOTE-IDENT), to a server that trusts it.
    #[arg(long, value_name = "FILE", requires = "oar")]
    password_file: Option<PathBuf>,
    /// The certificates (PEM) of who may sign the OAR server's; Debian's public authorities when not given.
    #[arg(long, value_name = "FILE", requires = "oar")]
    authorities: Option<PathBuf>,
    /// Between two questions to the OAR server, which answers each with a process of its own.
    #[arg(long, value_name = "TIME", requires = "oar", default_value = "30s", value_parser = humantime::parse_duration)]
    poll_interval: Duration,
}

impl OarArguments {
    fn options(self) -> Option<OarOptions> {
        Some(OarOptions {
            url: self.oar?,
            node: self.node?,
            user: self.user?,
            password_file: self.password_file,
            authorities: self.authorities,
            interval: self.poll_interval,
        })
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

#[derive(Args)]
struct NetworkArguments {
    /// How fast jobs' networks and archives may go, both ways together, as in 2MB/s or 16Mbit/s; as fast as the line when
    /// not given.
    #[arg(long, value_name = "RATE", value_parser = per_second)]
    network_rate: Option<u64>,
    /// What they may carry from midnight to midnight, as in 20GB. When it is used up, no new jobs are taken, and those
    /// that run go on with 8 kB/s of network (at most 0.7 GB more).
    #[arg(long, value_name = "BYTES", value_parser = per_day)]
    network_per_day: Option<u64>,
}

impl NetworkArguments {
    fn grant(&self) -> NetworkGrant {
        NetworkGrant {
            bytes_per_second: self.network_rate.and_then(NonZeroU64::new),
            bytes_per_day: self.network_per_day.and_then(NonZeroU64::new),
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// With a sentence for people; the exit code is then 1.
pub fn dispatch(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Run {
            join,
            oar,
            state,
            offer,
            network,
            bind,
            advertise,
            no_port_mapping,
            allow_birthday_probing: birthday_probing,
            workers,
            events,
            metrics,
        } => {
            keep_heap_small();
            let token = join.as_deref().map(parse_token).transpose()?;
            let port_mapping = !no_port_mapping;
            let workers = workers.and_then(NonZeroU16::new);
            let server = match oar.options() {
                Some(oar) => ServerOptions::Oar(oar),
                None => ServerOptions::Coordinator(token),
            };
            let options = RunOptions {
                server,
                offer: offer.offer(),
                network: network.grant(),
                socket: SocketOptions {
                    bind,
                    advertise,
                    port_mapping,
                    birthday_probing,
                    workers,
                    limit: Arc::default(),
                },
                events,
                metrics,
            };
            runtime()?.block_on(run::run(&state.path()?, options))?;
        }
        Command::Join { token, state, offer } => {
            let token = parse_token(&token)?;
            let joined = runtime()?.block_on(run::join(&state.path()?, &token, offer.offer()))?;
            say(&joined.hostname)?;
        }
        Command::Status { state, json } => {
            let state = state.path()?;
            let read = runtime()?.block_on(status::read_and_ask(&state));
            let status = read.with_context(|| state_dir::unreadable(&state))?;
            let text = if json { serde_json::to_string(&status)? } else { status.to_string() };
            say(text.trim_end())?;
        }
        Command::Ping { node, state, count, interval, size, json } => {
            let options = PingOptions { count, interval, size, json };
            let state = state.path()?;
            let pinging = ask::ping(&state, &node, &options, std::io::stdout());
            match runtime()?.block_on(pinging) {
                Ok(true) => {}
                Ok(false) => return Ok(ExitCode::FAILURE),
                Err(error) => unless_nobody_reads(error)?,
            }
        }
        Command::Explain { node, state, json } => {
            let text = runtime()?.block_on(ask::explain(&state.path()?, &node, json))?;
            say(&text)?;
        }
        Command::Netcheck { state, lifetime, json } => {
            let found = runtime()?.block_on(ask::netcheck(&state.path()?, lifetime))?;
            let text = if json { serde_json::to_string(&found)? } else { found.to_string() };
            say(text.trim_end())?;
        }
        Command::Drain { state, wait } => {
            let state = state.path()?;
            let drain = Change { draining: Some(true), ..Change::default() };
            runtime()?.block_on(async {
                ask::change(&state, drain).await?;
                if wait { ask::emptied(&state).await } else { Ok(()) }
            })?;
        }
        Command::Pause { state } => {
            let pause = Change { paused: Some(true), ..Change::default() };
            runtime()?.block_on(ask::change(&state.path()?, pause))?;
        }
        Command::Continue { state } => {
            let go_on = Change { paused: Some(false), draining: Some(false), ..Change::default() };
            runtime()?.block_on(ask::change(&state.path()?, go_on))?;
        }
        Command::Limits { state, cores, memory, disk, network, hours, json } => {
            let all_hours = hours.as_deref() == Some("all");
            let hours = hours.filter(|_| !all_hours).map(|text| text.parse()).transpose()?;
            let change = Change {
                cores,
                memory_mib: memory,
                disk_mib: disk,
                network_rate: network.network_rate,
                network_per_day: network.network_per_day,
                hours,
                all_hours,
                ..Change::default()
            };
            let wishes = runtime()?.block_on(ask::change(&state.path()?, change))?;
            let text = if json { serde_json::to_string(&wishes)? } else { wishes.to_string() };
            say(text.trim_end())?;
        }
        Command::Metrics { state } => {
            let text = runtime()?.block_on(ask::metrics(&state.path()?))?;
            say(text.trim_end())?;
        }
        Command::Doctor { json } => {
            let findings = doctor::examine();
            let text = if json {
                serde_json::to_string(&findings)?
            } else {
                findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            };
            say(&text)?;
            if findings.iter().any(|finding| finding.needed && !finding.ok) {
                return Ok(ExitCode::FAILURE);
            }
        }
        // Before any thread exists: the namespaces are made in here.
        Command::Shim { dir: Some(dir), probe: false } => shim::server::run(&dir)?,
        Command::Shim { .. } => doctor::probe()?,
        Command::Confined { memory, tasks, file, program, arguments } => {
            OwnLimits { memory_bytes: memory, tasks, file_bytes: file }.take()?;
            files::restrict().context("Landlock does not take the job's rules")?;
            let error = process::Command::new(&program).args(arguments).exec();
            return Err(error).with_context(|| program.display().to_string());
        }
        Command::Inside { command } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let code = runtime.block_on(inside::run(command))?;
            // What sessions still run ends with the sandbox, not with this runtime.
            runtime.shutdown_background();
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line on standard output.
fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(Into::into).or_else(unless_nobody_reads)
}

/// Who reads no further, as `head`, has seen enough: that is no failure.
fn unless_nobody_reads(error: anyhow::Error) -> anyhow::Result<()> {
    let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(broken) { Ok(()) } else { Err(error) }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
