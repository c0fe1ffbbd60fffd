//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use coordinator_core::{NodeNumber, Quota};
use ipnet::IpNet;
use overlay_relay::RelayLimits;

use crate::role::Role;

/// The coordinator of Clouds@home.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the coordinator: API, scheduler, rendezvous and relay.
    Serve(Serve),
    /// Run a relay on a machine of its own: it joins the coordinator's, and nodes use the nearest.
    Relay(Relay),
    /// Join tokens: each makes one node, or one relay.
    #[command(subcommand)]
    Token(Token),
    /// Users: scientists, operators, administrators.
    #[command(subcommand)]
    User(User),
    /// Volunteers' machines that have joined.
    #[command(subcommand)]
    Node(Node),
    /// Show who changed what about users, nodes and other users' jobs.
    Audit(Audit),
    /// Copy the database and the root key to a new folder, while the server runs: `serve --data` starts from it.
    Backup(Backup),
    /// Look whether the data directory is as it should be: database, keys, permissions, space.
    Doctor(Doctor),
    /// Print the description of the API: OpenAPI 3.1, as docs/openapi.json has it.
    Openapi,
}

/// `coordinator serve`.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// Data directory: database, root key, archives. Made if missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// TCP address of the HTTPS API.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443")]
    pub listen: SocketAddr,
    /// UDP address of the control channel.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443")]
    pub rendezvous: SocketAddr,
    /// UDP address of the relay, which is also the second reflector.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6444")]
    pub relay: SocketAddr,
    /// Host name or IP address under which agents and users reach this server; the first one names the URL.
    #[arg(long, value_name = "HOST_OR_IP", required = true)]
    pub public_address: Vec<String>,
    /// How often agents poll.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_time)]
    pub poll_interval: Duration,
    /// Silence after which a node is suspected.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = positive_time)]
    pub node_timeout: Duration,
    /// Time in which a launch must come to run.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = positive_time)]
    pub launch_deadline: Duration,
    /// The largest stage-in archive, in bytes or as in 500MiB.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    pub max_stagein: u64,
    /// How long a stage-in archive is kept after its last use, or `forever`.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = lifetime)]
    pub keep_stageins: Duration,
    /// How long results are kept after the job's end, or `forever`.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = lifetime)]
    pub keep_results: Duration,
    /// Requests a second of each user, and of each address without a login; ten times as many at once. More
    /// are refused (429) for a while. 0: no limit.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub user_rate: u32,
    /// A limit on what runs at the same time, as OAR's administrators write them: QUEUE,PROJECT,TYPE,USER =
    /// RESOURCES,JOBS,RESOURCE-HOURS, with * for all together, / for each and -1 for no limit. So
    /// "*,*,*,/ = 100,-1,-1" gives each user 100 resources. What does not fit waits, and `oarstat --why` says so.
    #[arg(long, value_name = "QUOTA")]
    pub quota: Vec<Quota>,
    /// A proxy in front that asks users who they are: its X-REMOTE-IDENT is believed. An address or a
    /// network, as in 192.0.2.0/28.
    #[arg(long, value_name = "IP_OR_NETWORK", value_parser = network)]
    pub trusted_proxy: Vec<IpNet>,
    /// Serve programs of old as they are. Whoever reaches the API can make nodes then, and users can report for
    /// these nodes.
    #[arg(long, value_enum, value_name = "PROGRAM")]
    pub compat: Vec<Compat>,
    /// What its relay grants.
    #[command(flatten)]
    pub grants: Grants,
    /// Where its counters are told.
    #[command(flatten)]
    pub metrics: Metrics,
}

/// A program of old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compat {
    /// OAR 2.5.2's desktop agent: it signs in without a token, and polls without a name.
    RubyAgent,
}

/// What a relay grants.
#[derive(Args, Clone, Copy, Debug)]
pub struct Grants {
    /// What two nodes may send each other through the relay in Mbit/s, both ways together.
    #[arg(long, value_name = "MBIT", env = "RELAY_RATE", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub relay_rate: u32,
}

impl Grants {
    /// The same for the relay.
    pub fn limits(self) -> RelayLimits {
        RelayLimits::default().with_channel_rate(u64::from(self.relay_rate) * 1_000_000 / 8)
    }
}

/// Where a relay tells its counters.
#[derive(Args, Clone, Copy, Debug)]
pub struct Metrics {
    /// Where the relay's counters are told in Prometheus' format, at /metrics; this machine's port 6445 when
    /// no address follows.
    #[arg(
        id = "metrics",
        long = "metrics",
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:6445"
    )]
    pub address: Option<SocketAddr>,
}

/// `coordinator relay`.
#[derive(Args, Clone, Debug)]
pub struct Relay {
    /// The relay's own directory: its key and its place at the coordinator. Made if missing.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// A token of `coordinator token add --relay`, at the first start.
    #[arg(long, value_name = "TOKEN", env = "RELAY_JOIN_TOKEN", hide_env_values = true)]
    pub join: Option<String>,
    /// UDP address of the relay.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6444")]
    pub listen: SocketAddr,
    /// TCP address where nodes that get no UDP out reach the relay, over TLS: port 443 is let out nearly
    /// everywhere. UDP on the same port takes QUIC datagrams, where that is not the port of --listen. The address
    /// of --listen when not given.
    #[arg(long, value_name = "ADDR:PORT")]
    pub tunnel: Option<SocketAddr>,
    /// Host name or IP address under which nodes reach this machine; the one that the coordinator sees
    /// when not given.
    #[arg(long, value_name = "HOST_OR_IP")]
    pub public_address: Vec<String>,
    /// The coordinator's control channel; when not given, the coordinator is asked where it is.
    #[arg(long, value_name = "HOST:PORT")]
    pub rendezvous: Option<String>,
    /// What it grants.
    #[command(flatten)]
    pub grants: Grants,
    /// Where its counters are told.
    #[command(flatten)]
    pub metrics: Metrics,
}

/// `coordinator token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make join tokens, one a line.
    Add {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// For relays instead of nodes.
        #[arg(long)]
        relay: bool,
        /// How many.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        count: u16,
        /// How long they can be used.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = positive_time)]
        expires: Duration,
        /// Print a JSON list.
        #[arg(long)]
        json: bool,
    },
    /// Take a join token back; a used one takes the node or relay along that it made.
    Revoke {
        /// Its id, as `token list` shows it.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Show all join tokens: id, expiry, state.
    List {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// `coordinator user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user and print the login string for `oar login`.
    Add {
        /// The user's name.
        name: String,
        /// What they may do.
        #[arg(long, value_enum, default_value_t = Role::User)]
        role: Role,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Show all users: roles, passwords, who is revoked.
    List {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Give a user another role.
    Role {
        /// The user's name.
        name: String,
        /// What they may do.
        #[arg(value_enum)]
        role: Role,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Set a user's password, for clients that know Basic authentication only: asked for on the terminal, or
    /// the first line of standard input.
    Password {
        /// The user's name.
        name: String,
        /// Take the password away instead.
        #[arg(long)]
        remove: bool,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Print a new login string; the old one ends. It lets a revoked user in again.
    Token {
        /// The user's name.
        name: String,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// End a user's login and password; their jobs and results stay.
    Revoke {
        /// The user's name.
        name: String,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// `coordinator node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Show all nodes that have joined: program, date, who is revoked.
    List {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Turn nodes out: their jobs go elsewhere, and only a new join token lets them in again.
    Revoke {
        /// The node's name, as in vol-3.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<NodeNumber>,
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// `coordinator backup`.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// Data directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The folder to make.
    #[arg(value_name = "FOLDER")]
    pub to: PathBuf,
}

/// `coordinator doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// Data directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// `coordinator audit`.
#[derive(Args, Clone, Debug)]
pub struct Audit {
    /// Data directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How many, the last ones.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub last: u32,
    /// Print a JSON object a line.
    #[arg(long)]
    pub json: bool,
}

fn positive_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("must be more than 0".to_owned()) } else { Ok(time) }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    if text == "forever" { Ok(Duration::MAX) } else { positive_time(text) }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| "write an address, or a network".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, factor) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or((text, 1_u64));
    let number: u64 = digits.trim().parse().map_err(|_| "write bytes, KiB, MiB or GiB")?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("17"), Ok(17));
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert!(size("4GB").is_err());
        assert!(size("99999999999GiB").is_err());
    }
}
