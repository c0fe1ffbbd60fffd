//! What agent and shim say to each other: one JSON line a question, one JSON line an answer.
//!
//! A connection carries one question. The answer to [`Request::Wait`] comes when the command has ended;
//! the open connection also tells the shim that there is an agent.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::confine::cage::Cage;
use crate::confine::limits::JobLimits;

/// The version of this protocol; a restarted agent may be another than the one that started the shim.
pub const VERSION: u16 = 1;

/// The longest line, bytes. A hosts file of the largest mesh (1,024 members) is about 100 kB.
pub const MAX_LINE: usize = 512 * 1024;

/// How long a shim goes on without an agent (architecture, section 5).
pub const ALONE_LIMIT: Duration = Duration::from_secs(60);

/// What a shim has to run: `launch.json` of the job's directory. The shim reads it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// [`VERSION`].
    pub version: u16,
    /// The host name inside the sandbox.
    pub hostname: String,
    /// The device of a mesh is wanted, with this MTU.
    pub mesh_mtu: Option<u16>,
    /// Given to `/bin/sh -c`.
    pub command: String,
    /// What runs in the sandbox.
    #[serde(default)]
    pub role: Role,
    /// The whole environment of the command.
    pub environment: Vec<(String, String)>,
    /// File name for the standard output, in the working directory.
    pub stdout: String,
    /// File name for the standard error.
    pub stderr: String,
    /// The most bytes of each of them.
    pub max_output_bytes: u64,
    /// How long the command may run.
    pub walltime_s: u64,
    /// Time between the polite and the final signal of a kill.
    pub kill_grace_ms: u64,
    /// [`ALONE_LIMIT`]; less in tests.
    pub alone_limit_ms: u64,
    /// How much of the machine it may use.
    #[serde(default)]
    pub limits: JobLimits,
    /// The groups that hold it to that.
    #[serde(default)]
    pub cage: Cage,
}

/// What a node does for its job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the command, alone.
    #[default]
    Command,
    /// Runs the command, and lets the job's other nodes in by SSH.
    CommandAndSessions,
    /// Only lets them in.
    Sessions,
}

impl Role {
    /// The command runs here.
    pub fn has_command(self) -> bool {
        self != Self::Sessions
    }

    /// Other nodes may come in.
    pub fn has_sessions(self) -> bool {
        self != Self::Command
    }
}

/// A question of the agent.
#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// How do things stand? -> [`Answer::State`].
    Hello,
    /// The descriptor of `mesh0` -> [`Answer::Done`] with the descriptor, or [`Answer::Refused`].
    TakeTun,
    /// Keep the mesh's WireGuard secret, 64 hexadecimal digits -> [`Answer::Done`].
    StoreSecret {
        /// The secret.
        secret: String,
    },
    /// Give it back -> [`Answer::Secret`].
    Secret,
    /// The node's own addresses (mesh jobs) and the hosts file -> [`Answer::Done`].
    SetMembers {
        /// Address and prefix length.
        ipv4: (Ipv4Addr, u8),
        /// Address and prefix length.
        ipv6: (Ipv6Addr, u8),
        /// The text of `/etc/hosts`.
        hosts: String,
    },
    /// Run the command. A second time changes nothing -> [`Answer::Done`].
    Start,
    /// End the command -> [`Answer::Done`] at once; [`Request::Wait`] tells when it has ended.
    Kill,
    /// Stop the command where it stands, or let it go on -> [`Answer::Done`], when that is so.
    Pause {
        /// Stop it.
        paused: bool,
    },
    /// Other limits -> [`Answer::Done`]. The disk's, and those that no control group holds, stay what they were.
    Limit {
        /// All of them.
        limits: JobLimits,
    },
    /// -> [`Answer::Ended`], when it has.
    Wait,
    /// The agent has no further use for the shim -> [`Answer::Done`], and the shim ends.
    Release,
}

/// An answer of the shim.
#[derive(Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// How things stand.
    State {
        /// [`VERSION`].
        version: u16,
        /// The command was started.
        started: bool,
        /// It has ended.
        ended: bool,
    },
    /// The secret, if one was stored.
    Secret {
        /// 64 hexadecimal digits.
        secret: Option<String>,
    },
    /// The command has ended.
    Ended(ExitReport),
    /// It cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// How the command ended: also `exit.json` of the job's directory, which outlives the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// How it ended.
    pub ending: Ending,
    /// The command had been started.
    pub started: bool,
    /// An output was longer than its limit, and the rest was dropped.
    pub output_cut: bool,
    /// Processes of the job were ended because its memory was used up.
    #[serde(default)]
    pub out_of_memory: bool,
}

impl ExitReport {
    /// A command that never ran.
    pub fn not_started(ending: Ending) -> Self {
        Self { ending, started: false, output_cut: false, out_of_memory: false }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Ending {
    /// By itself.
    Exited {
        /// The raw wait status: an exit with 3 is 768. A command that a signal ended counts as an exit
        /// with 128 and the signal's number, as a shell reports it.
        wait_status: i32,
    },
    /// By the agent's order.
    Killed,
    /// It had run for its walltime.
    Walltime,
    /// No agent had come back in time.
    Alone,
    /// It used more than its share of the disk.
    OverLimit {
        /// Of what, and how much.
        reason: String,
    },
    /// The sandbox could not be made: this machine's fault.
    Unusable {
        /// What failed.
        reason: String,
    },
}
