//! What a job is told of its network while it runs: a file with the members, and events on a socket.
//!
//! | for the job | holds |
//! |---|---|
//! | `$OAR_MESH_MEMBERS` | CSV: `rank,name,ipv4,ipv6,state,path,rtt_ms`, a line for each member, as it is now |
//! | `$OAR_MESH_EVENTS` | a stream socket: a line of JSON for what is, then one for each change |
//! | `$OAR_MESH_MATRIX` | CSV without a header: round trip times, milliseconds, as measured when it opened |
//!
//! `state` is `self`, `present`, `paused` or `left`; `path` is `direct`, `relayed` or `none`, as this node sends to that
//! member. Both lie in a folder that the sandbox shows, and are replaced whole.

mod socket;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use overlay_core::control::{PairReport, PathReport};
use overlay_core::ids::{MeshId, NodeId};
use overlay_core::netmap::{Activity, Netmap};
use serde::Serialize;

use crate::environment::{MEMBERS_SUFFIX, MeshAddresses};
use socket::Stage;

/// A member, as the job is told of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Member {
    rank: u16,
    name: String,
    ipv4: std::net::Ipv4Addr,
    ipv6: std::net::Ipv6Addr,
    state: State,
    path: &'static str,
    rtt_ms: Option<f64>,
    #[serde(skip)]
    node: NodeId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    #[serde(rename = "self")]
    Own,
    Present,
    /// Its owner lets it stand still.
    Paused,
    Left,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Present => "present",
            Self::Paused => "paused",
            Self::Left => "left",
        }
    }
}

/// A line on the socket.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    /// The first line that a reader gets.
    Members { members: Vec<&'a Member> },
    /// A member is there, or is back.
    Joined { rank: u16, name: &'a str },
    /// A member's part of the job has ended.
    Left { rank: u16, name: &'a str },
    /// A member stands still: its owner has paused it.
    Paused { rank: u16, name: &'a str },
    /// And goes on.
    Resumed { rank: u16, name: &'a str },
    /// What is sent to that member takes another way now.
    Path { rank: u16, name: &'a str, path: &'static str, rtt_ms: Option<f64>, why: &'a str },
}

/// The members of a mesh, and what has become of them.
#[derive(Debug)]
struct Roster {
    own: u16,
    members: BTreeMap<u16, Member>,
}

impl Roster {
    fn new(own: u16) -> Self {
        Self { own, members: BTreeMap::new() }
    }

    /// Takes a netmap; the lines that it is worth.
    fn on_netmap(&mut self, netmap: &Netmap) -> Vec<String> {
        let mut lines = Vec::new();
        for member in self.members.values_mut() {
            let is_there = netmap.members.iter().any(|other| other.index == member.rank);
            if !is_there && matches!(member.state, State::Present | State::Paused) {
                member.state = State::Left;
                lines.push(line(&Event::Left { rank: member.rank, name: &member.name }));
            }
        }
        for listed in &netmap.members {
            let former = self.members.get(&listed.index);
            if former.is_some_and(|known| known.node == listed.node && known.state != State::Left) {
                continue;
            }
            let MeshAddresses { ipv4, ipv6 } = MeshAddresses::of(netmap.mesh, listed.index);
            let is_own = listed.index == self.own;
            let member = Member {
                rank: listed.index,
                name: listed.name.clone(),
                ipv4,
                ipv6,
                state: if is_own { State::Own } else { State::Present },
                path: "none",
                rtt_ms: None,
                node: listed.node,
            };
            if !is_own {
                lines.push(line(&Event::Joined { rank: member.rank, name: &member.name }));
            }
            self.members.insert(listed.index, member);
        }
        lines
    }

    /// A member's part has ended, or it is back.
    fn on_member(&mut self, node: NodeId, ended: bool) -> Vec<String> {
        let state = if ended { State::Left } else { State::Present };
        let member = self.members.values_mut().find(|member| member.node == node);
        let Some(member) = member.filter(|m| m.state != State::Own && m.state != state) else {
            return Vec::new();
        };
        member.state = state;
        let (rank, name) = (member.rank, &*member.name);
        let event = if ended { Event::Left { rank, name } } else { Event::Joined { rank, name } };
        vec![line(&event)]
    }

    /// Takes how the pairs stand now. A round trip time alone is no event.
    fn on_pairs(&mut self, pairs: &[PairReport]) -> Vec<String> {
        let mut lines = Vec::new();
        for pair in pairs {
            let member = self.members.values_mut().find(|member| member.node == pair.peer);
            let Some(member) = member else { continue };
            let is_paused = pair.activity == Activity::Paused;
            let (rank, name) = (member.rank, &*member.name);
            match member.state {
                State::Present if is_paused => {
                    lines.push(line(&Event::Paused { rank, name }));
                    member.state = State::Paused;
                }
                State::Paused if !is_paused => {
                    lines.push(line(&Event::Resumed { rank, name }));
                    member.state = State::Present;
                }
                State::Own | State::Present | State::Paused | State::Left => {}
            }
            let path = match pair.path {
                PathReport::None => "none",
                PathReport::Direct { .. } => "direct",
                PathReport::Relayed { .. } => "relayed",
            };
            // Thousands of a millisecond: what a floating point number shows of it is short.
            member.rtt_ms = pair.rtt_us.map(|us| us as f64 / 1000.0);
            if std::mem::replace(&mut member.path, path) != path {
                let (rank, name, rtt_ms) = (member.rank, &*member.name, member.rtt_ms);
                lines.push(line(&Event::Path { rank, name, path, rtt_ms, why: &pair.explain }));
            }
        }
        lines
    }

    /// What is: the first line of a reader.
    fn snapshot(&self) -> String {
        line(&Event::Members { members: self.members.values().collect() })
    }

    fn csv(&self) -> String {
        let mut text = String::from("rank,name,ipv4,ipv6,state,path,rtt_ms\n");
        for Member { rank, name, ipv4, ipv6, state, path, rtt_ms, .. } in self.members.values() {
            let rtt = rtt_ms.map(|ms| format!("{ms:.3}")).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{rank},{name},{ipv4},{ipv6},{},{path},{rtt}", state.name());
        }
        text
    }
}

fn line(event: &Event<'_>) -> String {
    let mut text = serde_json::to_string(event).unwrap_or_default();
    text.push('\n');
    text
}

/// The news of one launch: to be told of what happens to its mesh.
pub(super) struct News {
    mesh: MeshId,
    folder: PathBuf,
    roster: Roster,
    stage: Stage,
    written: String,
}

impl News {
    /// Opens the socket. `folder` is what the sandbox shows as OAR's own.
    pub(super) fn begin(folder: PathBuf, mesh: MeshId, own: u16) -> io::Result<Self> {
        let stage = Stage::open(&folder, mesh.job)?;
        Ok(Self { mesh, folder, roster: Roster::new(own), stage, written: String::new() })
    }

    /// The members are known, or others than before.
    pub(super) fn on_netmap(&mut self, netmap: &Netmap) {
        let lines = self.roster.on_netmap(netmap);
        self.tell(lines);
    }

    /// A member's part has ended, or it is back.
    pub(super) fn on_member(&mut self, node: NodeId, ended: bool) {
        let lines = self.roster.on_member(node, ended);
        self.tell(lines);
    }

    /// How the pairs stand.
    pub(super) fn on_pairs(&mut self, pairs: &[PairReport]) {
        let lines = self.roster.on_pairs(pairs);
        self.tell(lines);
    }

    fn tell(&mut self, lines: Vec<String>) {
        let text = self.roster.csv();
        if text != self.written {
            let file = self.folder.join(format!("{}{MEMBERS_SUFFIX}", self.mesh.job));
            match replace(&file, &text) {
                Ok(()) => self.written = text,
                Err(error) => {
                    tracing::warn!(mesh = %self.mesh, %error, "writing the members failed");
                }
            }
        }
        self.stage.tell(self.roster.snapshot(), lines);
    }
}

/// Writes a file whole: whoever reads it finds the old text or the new one.
pub(crate) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, file)
}

#[cfg(test)]
mod tests;
