//! What agents write down of themselves (`agent run --events FILE`), as events of a run.
//!
//! Only an agent sees the moment at which a pair takes another path or a command ends; the coordinator
//! hears of it later, and whoever asks the coordinator later still. The lines' fields stand in
//! docs/run-directory.md.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::event::{Event, PathKind, Sample, What};
use crate::job::{JobKey, unnamed};

/// The name of the file in each machine's directory.
pub const FILE: &str = "agent.events";

/// The longest line that is looked at. A reason is a few sentences.
const MAX_LINE: u64 = 64 << 10;

/// The most lines of all agents that are read. Chosen: as many as of the event log.
const MAX_LINES: usize = 20_000_000;

/// What the agents of a run have written.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    /// By machine.
    lines: BTreeMap<String, Vec<Line>>,
    /// The coordinators of machines, where those have names.
    clusters: BTreeMap<String, String>,
    /// Machines by their coordinators and the host names that those gave them.
    machines: HashMap<(String, String), String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Line {
    mono_us: u64,
    #[serde(flatten)]
    what: Told,
}

/// What matters of a line; other events and fields are passed over.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Told {
    AgentStarted {
        host: String,
    },
    MeshLeft {
        job: u64,
        generation: u32,
    },
    Path {
        job: u64,
        generation: u32,
        peer: String,
        path: String,
        via: Option<String>,
        rtt_ms: Option<f64>,
        #[serde(default)]
        reason: String,
    },
    Pair {
        job: u64,
        peer: String,
        sent_bytes: u64,
        rtt_ms: Option<f64>,
    },
    CommandStarted {
        job: u64,
        generation: u32,
        rank: u32,
    },
    CommandEnded {
        job: u64,
        generation: u32,
        rank: u32,
        how: String,
        exit: Option<i32>,
    },
    #[serde(other)]
    Other,
}

/// A pair's path when it was last of use to its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastPath {
    /// The path.
    pub path: PathKind,
    /// Over which endpoint.
    pub via: Option<String>,
    /// Why.
    pub reason: String,
}

impl Agents {
    /// Reads the file in each directory below `dir`, whose names are the machines'. `clusters` are the
    /// run's ([`RunInfo::clusters`](crate::RunInfo::clusters)).
    ///
    /// # Errors
    /// When `dir` cannot be read. Files that cannot, and lines that are cut off, are passed over.
    pub fn read(dir: &Path, clusters: &BTreeMap<String, String>) -> io::Result<Self> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
        folders.sort();
        let mut agents = Self { clusters: clusters.clone(), ..Self::default() };
        let mut left = MAX_LINES;
        for folder in folders {
            let Some(machine) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            let lines = lines(&folder.join(FILE), &mut left);
            for line in &lines {
                if let Told::AgentStarted { host } = &line.what {
                    let known_as = (agents.coordinator(machine), host.clone());
                    agents.machines.insert(known_as, machine.to_owned());
                }
            }
            agents.lines.insert(machine.to_owned(), lines);
        }
        Ok(agents)
    }

    /// Whose a machine is.
    fn coordinator(&self, machine: &str) -> String {
        self.clusters.get(machine).cloned().unwrap_or_else(unnamed)
    }

    /// The machine that the agent of another one calls by that host name.
    fn machine(&self, of: &str, host: &str) -> String {
        let known_as = (self.coordinator(of), host.to_owned());
        self.machines.get(&known_as).map_or(host, String::as_str).to_owned()
    }

    /// The events and readings, in order of time. `start_us` is the start of the run on the clock that
    /// all programs of a machine share, microseconds.
    pub fn events(&self, start_us: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for (machine, lines) in &self.lines {
            let mut rtts: HashMap<(u64, &str), f64> = HashMap::new();
            for line in lines {
                let t = line.mono_us.saturating_sub(start_us) as f64 / 1e6;
                let mut is_new = true;
                if let Told::Pair { job, peer, rtt_ms: Some(rtt_ms), .. } = &line.what {
                    is_new = rtts.insert((*job, peer), *rtt_ms) != Some(*rtt_ms);
                }
                self.event(machine, &line.what, &mut |what| {
                    // A reading that equals the last one is left out.
                    if is_new || !matches!(what, What::Sample(Sample::Rtt { .. })) {
                        events.push(Event { t, what });
                    }
                });
            }
        }
        events.sort_by(|a, b| a.t.total_cmp(&b.t));
        events
    }

    fn event(&self, machine: &str, told: &Told, tell: &mut dyn FnMut(What)) {
        let from = machine.to_owned();
        let key = |number: u64| JobKey { coordinator: self.coordinator(machine), number };
        match told {
            Told::Path { job, peer, path, via, rtt_ms, reason, .. } => {
                let path = PathKind::of(path);
                // Why it is direct goes without saying in a run's event log.
                let explain = if path == PathKind::Direct { String::new() } else { reason.clone() };
                let (job, to) = (key(*job), self.machine(machine, peer));
                let (via, rtt_ms) = (via.clone(), *rtt_ms);
                tell(What::Path { job, from, to, path, via, rtt_ms, explain });
            }
            Told::Pair { job, peer, sent_bytes, rtt_ms } => {
                let (job, to, sent) = (key(*job), self.machine(machine, peer), *sent_bytes);
                if let Some(rtt_ms) = *rtt_ms {
                    let (job, from, to) = (job.clone(), from.clone(), to.clone());
                    tell(What::Sample(Sample::Rtt { job, from, to, rtt_ms }));
                }
                tell(What::Sample(Sample::PairBytes { job, from, to, sent }));
            }
            Told::CommandStarted { job, generation, rank } => tell(What::RankState {
                job: key(*job),
                generation: *generation,
                rank: *rank,
                node: from,
                state: "Running".to_owned(),
                exit: None,
            }),
            Told::CommandEnded { job, generation, rank, how, exit } => tell(What::RankState {
                job: key(*job),
                generation: *generation,
                rank: *rank,
                node: from,
                state: if how == "exited" { "Terminated" } else { "Error" }.to_owned(),
                exit: *exit,
            }),
            Told::AgentStarted { .. } | Told::MeshLeft { .. } | Told::Other => {}
        }
    }

    /// The path of each ordered pair of a launch when the first of its two ranks had come to its end: what
    /// happens to a path afterwards happens to nobody.
    pub fn last_paths(
        &self,
        job: &JobKey,
        generation: u32,
    ) -> BTreeMap<(String, String), LastPath> {
        let of = |line: &&Line| line.what.launch() == Some((job.number, generation));
        let end = |machine: &str| {
            let lines = self.lines.get(machine).into_iter().flatten().filter(of);
            let mut ends = lines.filter(|line| {
                matches!(line.what, Told::CommandEnded { .. } | Told::MeshLeft { .. })
            });
            ends.next().map_or(u64::MAX, |line| line.mono_us)
        };
        let mut last = BTreeMap::new();
        let own = |machine: &&String| self.coordinator(machine) == job.coordinator;
        for (from, lines) in self.lines.iter().filter(|(machine, _)| own(machine)) {
            let own_end = end(from);
            let mut ends: HashMap<String, u64> = HashMap::new();
            for line in lines.iter().filter(of) {
                let Told::Path { peer, path, via, reason, .. } = &line.what else { continue };
                let to = self.machine(from, peer);
                let other_end = *ends.entry(to.clone()).or_insert_with(|| end(&to));
                if line.mono_us <= own_end.min(other_end) {
                    let (path, via) = (PathKind::of(path), via.clone());
                    let told = LastPath { path, via, reason: reason.clone() };
                    last.insert((from.clone(), to), told);
                }
            }
        }
        last
    }
}

impl Told {
    /// The job and its launch.
    fn launch(&self) -> Option<(u64, u32)> {
        match self {
            Self::Path { job, generation, .. }
            | Self::MeshLeft { job, generation }
            | Self::CommandStarted { job, generation, .. }
            | Self::CommandEnded { job, generation, .. } => Some((*job, *generation)),
            Self::AgentStarted { .. } | Self::Pair { .. } | Self::Other => None,
        }
    }
}

/// The lines of a file, `left` of them at most. A killed agent's last one may be cut off.
fn lines(path: &Path, left: &mut usize) -> Vec<Line> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let Some(file) = is_file.then(|| File::open(path).ok()).flatten() else { return Vec::new() };
    let mut file = BufReader::new(file);
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    while *left > 0 {
        line.clear();
        match file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(length) if length > 0 => {}
            Ok(_) | Err(_) => break,
        }
        *left -= 1;
        if let Ok(line) = serde_json::from_slice(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two machines whose host names the coordinator has given the other way round.
    fn agents() -> (tempfile::TempDir, Agents) {
        let dir = tempfile::tempdir().unwrap();
        let path = |at: u64, peer: &str, path: &str, reason: &str| {
            format!(
                r#"{{"mono_us":{at},"unix_us":1,"event":"path","job":1,"generation":2,"peer":"{peer}","peer_rank":1,"path":"{path}","reason":"{reason}"}}"#
            )
        };
        let command = |at: u64, what: &str| {
            format!(
                r#"{{"mono_us":{at},"unix_us":1,"event":"command-{what}","job":1,"generation":2,"rank":0,"how":"exited","exit":0}}"#
            )
        };
        let host = |name: &str| {
            format!(
                r#"{{"mono_us":5,"unix_us":1,"event":"agent-started","host":"{name}","version":"1"}}"#
            )
        };
        let pair = r#"{"mono_us":2500000,"unix_us":1,"event":"pair","job":1,"generation":2,"peer":"host-1","sent_bytes":7,"received_bytes":8,"rtt_ms":1.5}"#;
        let one = [
            host("host-2"),
            path(2_000_000, "host-1", "relayed", "the search goes on"),
            r#"{"mono_us":2000001,"unix_us":1,"event":"of-a-later-agent","job":{}}"#.to_owned(),
            pair.to_owned(),
            command(3_000_000, "started"),
            path(4_000_000, "host-1", "direct", "it answered"),
            command(6_000_000, "ended"),
        ];
        let other = [
            host("host-1"),
            path(2_500_000, "host-2", "direct", ""),
            command(5_000_000, "ended"),
            path(5_500_000, "host-2", "none", "it is gone"),
        ];
        for (machine, lines) in [("vol-1", one.join("\n")), ("vol-2", other.join("\n"))] {
            fs::create_dir(dir.path().join(machine)).unwrap();
            fs::write(dir.path().join(machine).join(FILE), lines + "\n{\"mono_us\":9,").unwrap();
        }
        let agents = Agents::read(dir.path(), &BTreeMap::new()).unwrap();
        (dir, agents)
    }

    #[test]
    fn what_agents_say_becomes_events_by_the_machines_names() {
        let (_dir, agents) = agents();

        let events = agents.events(1_000_000);

        let told: Vec<String> =
            events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        let expected = [
            r#"{"t":1.0,"kind":"path","job":1,"from":"vol-1","to":"vol-2","path":"relayed","explain":"the search goes on"}"#,
            r#"{"t":1.5,"kind":"sample","metric":"rtt","job":1,"from":"vol-1","to":"vol-2","rtt_ms":1.5}"#,
            r#"{"t":1.5,"kind":"sample","metric":"pair-bytes","job":1,"from":"vol-1","to":"vol-2","sent":7}"#,
            r#"{"t":1.5,"kind":"path","job":1,"from":"vol-2","to":"vol-1","path":"direct"}"#,
            r#"{"t":2.0,"kind":"rank-state","job":1,"generation":2,"rank":0,"node":"vol-1","state":"Running"}"#,
            r#"{"t":3.0,"kind":"path","job":1,"from":"vol-1","to":"vol-2","path":"direct"}"#,
            r#"{"t":4.0,"kind":"rank-state","job":1,"generation":2,"rank":0,"node":"vol-2","state":"Terminated","exit":0}"#,
            r#"{"t":4.5,"kind":"path","job":1,"from":"vol-2","to":"vol-1","path":"none","explain":"it is gone"}"#,
            r#"{"t":5.0,"kind":"rank-state","job":1,"generation":2,"rank":0,"node":"vol-1","state":"Terminated","exit":0}"#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_happens_to_a_path_after_one_of_its_ends_is_of_no_use_does_not_count() {
        let (_dir, agents) = agents();

        let last = agents.last_paths(&1.into(), 2);

        let path = |from: &str, to: &str| last[&(from.to_owned(), to.to_owned())].path;
        assert_eq!(path("vol-1", "vol-2"), PathKind::Direct);
        assert_eq!(path("vol-2", "vol-1"), PathKind::Direct);
        assert_eq!(agents.last_paths(&1.into(), 3).len(), 0);
    }

    /// Two coordinators number their jobs and name their nodes each by itself.
    #[test]
    fn the_same_names_at_two_coordinators_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |machine: &str, host: &str, peer: &str| {
            fs::create_dir(dir.path().join(machine)).unwrap();
            let lines = format!(
                "{{\"mono_us\":1,\"event\":\"agent-started\",\"host\":\"{host}\"}}\n\
                 {{\"mono_us\":2,\"event\":\"path\",\"job\":1,\"generation\":1,\"peer\":\"{peer}\",\"path\":\"direct\"}}\n"
            );
            fs::write(dir.path().join(machine).join(FILE), lines).unwrap();
        };
        write("vol-1", "vol-1", "vol-2");
        write("vol-2", "vol-2", "vol-1");
        write("vol-3", "vol-1", "vol-2");
        write("vol-4", "vol-2", "vol-1");
        let clusters = ["vol-3", "vol-4"].map(|name| (name.to_owned(), "north".to_owned()));
        let agents = Agents::read(dir.path(), &clusters.into()).unwrap();

        let told: Vec<(String, String, String)> = agents
            .events(0)
            .into_iter()
            .filter_map(|event| {
                let What::Path { job, from, to, .. } = event.what else { return None };
                Some((job.to_string(), from, to))
            })
            .collect();

        let path = |job: &str, from: &str, to: &str| (job.into(), from.into(), to.into());
        let expected = [
            path("1", "vol-1", "vol-2"),
            path("1", "vol-2", "vol-1"),
            path("north/1", "vol-3", "vol-4"),
            path("north/1", "vol-4", "vol-3"),
        ];
        assert_eq!(told, expected);
        let last = agents.last_paths(&JobKey::new("north", 1), 1);
        let pairs: Vec<_> = last.into_keys().collect();
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(pairs, [pair("vol-3", "vol-4"), pair("vol-4", "vol-3")]);
    }
}
