//! `agent run --events FILE`: what happens on this node, one JSON object a line, for tests and for people
//! who want to know why a job's network is as it is. docs/run-directory.md has the fields.
//!
//! Each line has the moment on two clocks: `mono_us`, which only goes forward, and which all programs of
//! one machine share, and `unix_us`, which can be compared between machines as well as they are set.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use nix::time::{ClockId, clock_gettime};
use overlay_core::control::{PairReport, PathReport};
use overlay_core::{MeshId, NodeId};
use overlay_driver::{Observed, Observer};
use serde::Serialize;

use crate::reconcile::LaunchId;
use crate::shim::protocol::{Ending, ExitReport};

/// Events that may wait for the disk. Chosen: a second of a mesh of a thousand whose paths all change.
const WAITING: usize = 4096;

/// The most bytes of the file. Chosen: months of a busy node; a debugging aid must not fill a disk.
const MOST: u64 = 1 << 30;

/// How long the end waits for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where events go. Cheap to clone.
#[derive(Clone, Default)]
pub struct Events {
    to: Option<SyncSender<Entry>>,
    lost: Arc<AtomicU64>,
}

enum Entry {
    Happened(Moment, What),
    /// Answered when everything before it is written.
    End(SyncSender<()>),
}

/// A moment on both clocks, microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
struct Moment {
    mono_us: u64,
    unix_us: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    at: Moment,
    #[serde(flatten)]
    what: &'a What,
}

/// What happened. The names are those of the lines.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The agent works, under this host name.
    AgentStarted {
        /// The node's OAR host name.
        host: String,
        /// The agent's.
        version: &'static str,
    },
    /// The agent ends.
    AgentStopped,
    /// The node asks to be part of a job's mesh.
    MeshJoined(Launch),
    /// Every pair of the mesh has a path.
    MeshOpen(Launch),
    /// The coordinator has closed the mesh.
    MeshClosed {
        /// Whose.
        #[serde(flatten)]
        launch: Launch,
        /// Why.
        reason: String,
    },
    /// The node has left the mesh.
    MeshLeft(Launch),
    /// What this node sends to a peer takes this path from here on, or takes it for this reason.
    Path {
        /// Whose.
        #[serde(flatten)]
        launch: Launch,
        /// The peer.
        #[serde(flatten)]
        peer: Peer,
        /// `direct`, `relayed` or `none`.
        path: &'static str,
        /// The peer's endpoint, or the relay's.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<String>,
        /// Smoothed round trip time, milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<f64>,
        /// Why.
        reason: String,
    },
    /// What a job has exchanged with a peer so far: several times a second where it has changed.
    Pair {
        /// Whose.
        #[serde(flatten)]
        launch: Launch,
        /// The peer.
        #[serde(flatten)]
        peer: Peer,
        /// Bytes of IP packets that left `mesh0` for the peer.
        sent_bytes: u64,
        /// Bytes of IP packets from the peer that entered `mesh0`.
        received_bytes: u64,
        /// Smoothed round trip time, milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<f64>,
    },
    /// The job's command runs on this node.
    CommandStarted {
        /// Whose.
        #[serde(flatten)]
        launch: Launch,
        /// This node's.
        rank: u16,
    },
    /// It does not any more.
    CommandEnded {
        /// Whose.
        #[serde(flatten)]
        launch: Launch,
        /// This node's.
        rank: u16,
        /// `exited`, `killed`, `walltime`, `alone` or `unusable`.
        how: &'static str,
        /// Its exit status, where it has ended by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
    },
    /// The disk was too slow: so many events before this one are missing.
    Lost {
        /// How many.
        count: u64,
    },
}

/// One launch of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Launch {
    /// The job's number.
    pub job: u64,
    /// Counts its launches.
    pub generation: u32,
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its host name; its id in hexadecimal digits where the name is not known.
    pub peer: String,
    /// Its rank in the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_rank: Option<u16>,
}

impl Events {
    /// Appends to that file, which is made for its owner alone if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let (to, entries) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&lost);
        let writing = thread::Builder::new().name("events".to_owned());
        writing.spawn(move || write(file, length, &entries, &missing))?;
        Ok(Self { to: Some(to), lost })
    }

    /// Something has happened now.
    pub fn record(&self, what: What) {
        self.record_at(Moment::now(), what);
    }

    fn record_at(&self, at: Moment, what: What) {
        if let Some(to) = &self.to
            && to.try_send(Entry::Happened(at, what)).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The job's command was started on this node.
    pub fn command_started(&self, id: LaunchId, rank: u16) {
        self.record(What::CommandStarted { launch: id.into(), rank });
    }

    /// It has ended.
    pub fn command_ended(&self, id: LaunchId, rank: u16, report: &ExitReport) {
        let (how, exit) = match &report.ending {
            Ending::Exited { wait_status } => ("exited", Some(wait_status >> 8)),
            Ending::Killed => ("killed", None),
            Ending::Walltime => ("walltime", None),
            Ending::Alone => ("alone", None),
            Ending::OverLimit { .. } => ("over-limit", None),
            Ending::Unusable { .. } => ("unusable", None),
        };
        if report.started {
            self.record(What::CommandEnded { launch: id.into(), rank, how, exit });
        }
    }

    /// Records what an overlay tells; none when nobody wants to know.
    pub fn observer(&self) -> Option<Observer> {
        self.to.as_ref()?;
        let events = self.clone();
        let mut names: HashMap<(MeshId, NodeId), Peer> = HashMap::new();
        let mut seen: HashMap<(MeshId, NodeId), Reading> = HashMap::new();
        let mut looks: HashMap<MeshId, Moment> = HashMap::new();
        Some(Box::new(move |observed| match observed {
            Observed::Joined(mesh) => events.record(What::MeshJoined((*mesh).into())),
            Observed::Open(mesh) => events.record(What::MeshOpen((*mesh).into())),
            Observed::Closed { mesh, reason } => {
                let (launch, reason) = ((*mesh).into(), reason.clone());
                events.record(What::MeshClosed { launch, reason });
            }
            Observed::Left(mesh) => {
                seen.retain(|(of, _), _| of != mesh);
                looks.remove(mesh);
                names.retain(|(of, _), _| of != mesh);
                events.record(What::MeshLeft((*mesh).into()));
            }
            Observed::Path { mesh, peer, member, path, rtt_us, reason } => {
                if let Some((name, rank)) = member {
                    let known = Peer { peer: name.clone(), peer_rank: Some(*rank) };
                    names.insert((*mesh, *peer), known);
                }
                let (path, via) = match path {
                    PathReport::None => ("none", None),
                    PathReport::Direct { endpoint } => ("direct", Some(endpoint.to_string())),
                    PathReport::Relayed { relay } => ("relayed", Some(relay.to_string())),
                };
                events.record(What::Path {
                    launch: (*mesh).into(),
                    peer: name_of(&names, (*mesh, *peer)),
                    path,
                    via,
                    rtt_ms: rtt_us.map(milliseconds),
                    reason: reason.clone(),
                });
            }
            Observed::Pairs { mesh, pairs } => {
                let now = Moment::now();
                // Until then those stood as they were that are told now.
                let last = looks.insert(*mesh, now);
                for pair in pairs {
                    let reading = Reading::of(pair, now);
                    if let Some(before) = seen.get(&(*mesh, pair.peer)) {
                        if before.is_equal(&reading) {
                            continue;
                        }
                        // Then what follows is known to have been sent since, and not long ago.
                        if let Some(last) = last.filter(|last| *last != before.first) {
                            let peer = name_of(&names, (*mesh, pair.peer));
                            events.record_at(last, before.what(*mesh, peer));
                        }
                    }
                    let peer = name_of(&names, (*mesh, pair.peer));
                    events.record_at(now, reading.what(*mesh, peer));
                    seen.insert((*mesh, pair.peer), reading);
                }
            }
        }))
    }

    /// Waits until everything is written, a moment at most.
    pub fn finish(&self) {
        self.record(What::AgentStopped);
        let (done, written) = sync_channel(1);
        if let Some(to) = &self.to
            && to.try_send(Entry::End(done)).is_ok()
        {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// What a pair has exchanged so far, and when that was seen first.
struct Reading {
    sent: u64,
    received: u64,
    rtt_us: Option<u64>,
    first: Moment,
}

impl Reading {
    fn of(pair: &PairReport, now: Moment) -> Self {
        let PairReport { sent_bytes: sent, received_bytes: received, rtt_us, .. } = *pair;
        Self { sent, received, rtt_us, first: now }
    }

    fn is_equal(&self, other: &Self) -> bool {
        let of = |reading: &Self| (reading.sent, reading.received, reading.rtt_us);
        of(self) == of(other)
    }

    fn what(&self, mesh: MeshId, peer: Peer) -> What {
        What::Pair {
            launch: mesh.into(),
            peer,
            sent_bytes: self.sent,
            received_bytes: self.received,
            rtt_ms: self.rtt_us.map(milliseconds),
        }
    }
}

fn name_of(names: &HashMap<(MeshId, NodeId), Peer>, pair: (MeshId, NodeId)) -> Peer {
    let unknown = || Peer { peer: HEXLOWER.encode(&pair.1.0), peer_rank: None };
    names.get(&pair).cloned().unwrap_or_else(unknown)
}

fn milliseconds(us: u64) -> f64 {
    us as f64 / 1e3
}

impl Moment {
    fn now() -> Self {
        let micros = |since: Duration| u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { mono_us: micros(mono), unix_us: micros(unix) }
    }
}

impl From<MeshId> for Launch {
    fn from(mesh: MeshId) -> Self {
        Self { job: mesh.job, generation: mesh.generation }
    }
}

impl From<LaunchId> for Launch {
    fn from(id: LaunchId) -> Self {
        Self { job: id.job, generation: id.generation }
    }
}

/// Writes entries until nobody can send any more. A disk that fails ends it with a word.
fn write(mut file: File, mut length: u64, entries: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in entries {
        let (at, what) = match entry {
            Entry::Happened(at, what) => (at, what),
            Entry::End(done) => {
                let _ = done.try_send(());
                continue;
            }
        };
        let missing = lost.swap(0, Ordering::Relaxed);
        let count = What::Lost { count: missing };
        let mut bytes = Vec::new();
        for what in (missing > 0).then_some(&count).into_iter().chain([&what]) {
            if serde_json::to_writer(&mut bytes, &Line { at, what }).is_ok() {
                bytes.push(b'\n');
            }
        }
        length += bytes.len() as u64;
        if length > MOST {
            tracing::warn!("the file of --events has {} MiB: it ends here", MOST >> 20);
            return;
        }
        if let Err(error) = file.write_all(&bytes) {
            tracing::warn!(%error, "writing the file of --events failed: it ends here");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn what_an_overlay_tells_is_written_down_with_names_and_both_clocks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events");
        let events = Events::to_file(&file).unwrap();
        let mut observer = events.observer().unwrap();
        let (mesh, peer) = (MeshId { job: 7, generation: 2 }, NodeId([3; 32]));
        let path = |path, reason: &str| Observed::Path {
            mesh,
            peer,
            member: Some(("vol-2".to_owned(), 1)),
            path,
            rtt_us: Some(1500),
            reason: reason.to_owned(),
        };
        let report = |sent_bytes| PairReport {
            peer,
            established: true,
            settled: true,
            path: PathReport::None,
            rtt_us: None,
            sent_bytes,
            received_bytes: 0,
            established_after_ms: None,
            explain: String::new(),
            activity: Default::default(),
        };
        let pairs = |sent| Observed::Pairs { mesh, pairs: vec![report(sent)] };

        observer(&Observed::Joined(mesh));
        let relay = "198.18.0.1:7000".parse().unwrap();
        observer(&path(PathReport::Relayed { relay }, "both routers map by destination"));
        observer(&pairs(10));
        // The second of two equal readings is told when the next one differs.
        let first = Moment::now();
        while Moment::now() == first {}
        observer(&pairs(10));
        observer(&pairs(30));
        observer(&Observed::Left(mesh));
        events.finish();

        let lines = lines(&file);
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        let expected =
            ["mesh-joined", "path", "pair", "pair", "pair", "mesh-left", "agent-stopped"];
        assert_eq!(names, expected);
        let sent: Vec<_> = lines[2..5].iter().map(|line| line["sent_bytes"].as_u64()).collect();
        assert_eq!(sent, [Some(10), Some(10), Some(30)]);
        assert!(
            lines.windows(2).all(|two| two[0]["mono_us"].as_u64() <= two[1]["mono_us"].as_u64())
        );
        // Later than 2020, in microseconds.
        assert!(lines[0]["unix_us"].as_u64().unwrap() > 1_577_836_800_000_000);
        let said = &lines[1];
        assert_eq!((&said["job"], &said["generation"]), (&7.into(), &2.into()));
        assert_eq!((&said["peer"], &said["peer_rank"]), (&"vol-2".into(), &1.into()));
        assert_eq!((&said["path"], &said["via"]), (&"relayed".into(), &"198.18.0.1:7000".into()));
        assert_eq!((&said["rtt_ms"], &lines[3]["sent_bytes"]), (&1.5.into(), &10.into()));
        assert_eq!(said["reason"], "both routers map by destination");
    }

    #[test]
    fn a_file_is_gone_on_with_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events");
        for _ in 0..2 {
            Events::to_file(&file).unwrap().finish();
        }
        assert_eq!(lines(&file).len(), 2);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Events::default().observer().is_none());
    }
}
