//! What a run found, as data and as a table.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Table, presets};
use coordinator_api::mesh::MeshPair;
use netsim_report::JobKey;
use netsim_sim::Prediction;
use serde::Serialize;

use crate::expect::Checked;
use crate::progress::Step;

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's file.
    pub scenario: String,
    /// The seed that decided the order of the volunteers' start.
    pub seed: u64,
    /// Every expectation holds.
    pub passed: bool,
    /// The expectations that do not hold.
    pub failures: Vec<String>,
    /// What happened in vain.
    pub warnings: Vec<String>,
    /// What the scenario expects of its jobs and of the run as a whole, looked at.
    pub expectations: Vec<Checked>,
    /// The run's steps and how long they took.
    pub steps: Vec<Step>,
    /// The jobs, each coordinator's in the order of submission.
    pub jobs: Vec<JobReport>,
}

/// What a run found about a job.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JobReport {
    /// Its number.
    pub id: u64,
    /// The coordinator that it was submitted to.
    pub coordinator: String,
    /// Its name in the scenario.
    pub name: String,
    /// The name that it shares with all of its campaign.
    pub group: String,
    /// Its place among the scenario's jobs, from 0.
    pub place: usize,
    /// It failed and was submitted again: another one stands for it.
    pub was_repeated: bool,
    /// Its command.
    pub command: String,
    /// Its final state.
    pub state: String,
    /// Its command's exit status, where it ended by itself.
    pub exit: Option<i32>,
    /// What the coordinator said last about it.
    pub message: String,
    /// Number of solutions in the first node's output, where that was expected.
    pub solutions: Option<u64>,
    /// Seconds since the Unix epoch: submitted, started, ended.
    pub submitted: u64,
    /// See [`submitted`](Self::submitted).
    pub started: u64,
    /// See [`submitted`](Self::submitted).
    pub ended: u64,
    /// From its submission until it was first seen running, seconds.
    pub queued_s: Option<f64>,
    /// From then until it was seen to have ended, seconds.
    pub ran_s: Option<f64>,
    /// From the assignment of the nodes until every pair had a path, milliseconds.
    pub mesh_ready_after_ms: Option<u64>,
    /// Its nodes in the order of their ranks.
    pub nodes: Vec<NodeReport>,
    /// Its pairs.
    pub pairs: Vec<PairReport>,
}

/// A node of a job.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its rank.
    pub rank: u16,
    /// Its host name.
    pub host: String,
    /// The network that it is behind.
    pub behind: String,
    /// Bytes that the job sent from it into the mesh.
    pub sent_bytes: u64,
    /// Bytes that the job received on it from the mesh.
    pub received_bytes: u64,
}

/// A pair of nodes, in both directions.
#[derive(Clone, Debug, Serialize)]
pub struct PairReport {
    /// The ranks, the lower first.
    pub ranks: (u16, u16),
    /// What RFC 4787 lets one expect.
    pub predicted: Prediction,
    /// As the lower rank saw it.
    pub forth: Option<MeshPair>,
    /// As the higher rank saw it.
    pub back: Option<MeshPair>,
}

impl PairReport {
    /// `direct`, `relayed`, `none`, or both where the two ends differ.
    pub fn path(&self) -> String {
        match (&self.forth, &self.back) {
            (Some(a), Some(b)) if a.path != b.path => format!("{} / {}", a.path, b.path),
            (Some(one), _) | (None, Some(one)) => one.path.clone(),
            (None, None) => "none".to_owned(),
        }
    }

    /// Whether either end used the relay.
    pub fn is_relayed(&self) -> bool {
        self.ends().any(|end| end.path == "relayed")
    }

    /// Whether the relay holds it because nobody sends.
    pub fn is_idle(&self) -> bool {
        self.is_relayed() && self.ends().any(|end| end.explain.starts_with("idle"))
    }

    /// Both ends' reports.
    pub fn ends(&self) -> impl Iterator<Item = &MeshPair> {
        self.forth.iter().chain(&self.back)
    }

    fn explain(&self) -> Option<&str> {
        self.ends().map(|end| end.explain.as_str()).find(|text| !text.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for job in &self.jobs {
            writeln!(f, "{job}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let seconds: f64 = self.steps.iter().map(|step| step.seconds).sum();
        if self.passed {
            return write!(
                f,
                "PASSED: everything that the scenario expects holds ({seconds:.1} s)"
            );
        }
        write!(f, "FAILED ({seconds:.1} s):")?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n  - {failure}"))
    }
}

impl fmt::Display for JobReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "job {}: {}", self.key(), self.command)?;
        write!(f, "  {}", self.state)?;
        if let Some(exit) = self.exit {
            write!(f, ", exit status {exit}")?;
        }
        if let Some(solutions) = self.solutions {
            write!(f, ", {solutions} solutions")?;
        }
        let waited = self.started.saturating_sub(self.submitted);
        let ran = self.ended.saturating_sub(self.started);
        writeln!(f, "; started {waited} s after submission, took {ran} s from launch to end")?;
        if let Some(ms) = self.mesh_ready_after_ms {
            writeln!(f, "  mesh ready {:.2} s after assignment", ms as f64 / 1e3)?;
        }
        if !self.pairs.is_empty() {
            writeln!(f, "{}", self.pair_table())?;
            writeln!(f, "{}", self.node_table())?;
        }
        for pair in self.pairs.iter().filter(|pair| pair.is_relayed()) {
            let why = pair.explain().unwrap_or("no reason was reported");
            writeln!(f, "  {} is relayed: {why}", self.names(pair))?;
        }
        Ok(())
    }
}

impl JobReport {
    /// As logs name it.
    pub fn key(&self) -> JobKey {
        JobKey::new(&self.coordinator, self.id)
    }

    fn pair_table(&self) -> Table {
        let mut table = table(["pair", "behind", "path", "via", "RTT", "sent →", "sent ←"]);
        for pair in &self.pairs {
            let rtt = pair.ends().filter_map(|end| end.rtt_us).min();
            let via: Vec<&str> = pair.ends().filter_map(|end| end.via.as_deref()).collect();
            let sent = |end: &Option<MeshPair>| end.as_ref().map_or(0, |end| end.sent_bytes);
            let (a, b) = (self.behind(pair.ranks.0), self.behind(pair.ranks.1));
            table.add_row([
                Cell::new(self.names(pair)),
                Cell::new(format!("{a}, {b}")),
                Cell::new(pair.path()),
                Cell::new(match via.as_slice() {
                    [one, other] if one != other => format!("{one}, {other}"),
                    [one, ..] => (*one).to_owned(),
                    [] => String::new(),
                }),
                right(rtt.map_or_else(String::new, |us| format!("{:.2} ms", us as f64 / 1e3))),
                right(bytes(sent(&pair.forth))),
                right(bytes(sent(&pair.back))),
            ]);
        }
        table
    }

    fn node_table(&self) -> Table {
        let mut table = table(["rank", "node", "behind", "sent", "received"]);
        for node in &self.nodes {
            table.add_row([
                right(node.rank.to_string()),
                Cell::new(&node.host),
                Cell::new(&node.behind),
                right(bytes(node.sent_bytes)),
                right(bytes(node.received_bytes)),
            ]);
        }
        table
    }

    /// The host names of a pair.
    pub fn names(&self, pair: &PairReport) -> String {
        let (low, high) = self.hosts(pair);
        format!("{low} – {high}")
    }

    /// The machines of a pair, the lower rank's first.
    pub fn hosts(&self, pair: &PairReport) -> (&str, &str) {
        (self.host(pair.ranks.0), self.host(pair.ranks.1))
    }

    fn node(&self, rank: u16) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.rank == rank)
    }

    fn host(&self, rank: u16) -> &str {
        self.node(rank).map_or("?", |node| &node.host)
    }

    fn behind(&self, rank: u16) -> &str {
        self.node(rank).map_or("?", |node| &node.behind)
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A size for people: three digits are enough.
fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.2} MiB", count as f64 / 1_048_576.0),
    }
}
