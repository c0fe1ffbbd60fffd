//! A run as its tables and figures need it: machines, jobs and pairs with their histories.

use std::collections::BTreeMap;

use crate::event::{Event, PathKind, Role, What};
use crate::info::RunInfo;
use crate::job::JobKey;
use crate::read::{Contents, Row};

mod pairs;

pub use pairs::{Pair, PairKey, Stretch};

/// Readings of a counter: seconds since the start of the run, and the count.
pub type Series = Vec<(f64, f64)>;

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// `run.json`.
    pub info: RunInfo,
    /// The scenario's text.
    pub scenario: String,
    /// What is not there, for people.
    pub missing: Vec<String>,
    /// The last moment that is known, seconds.
    pub end: f64,
    /// Machines and routers in the order of their appearance.
    pub nodes: Vec<Node>,
    /// In the order of submission.
    pub jobs: Vec<Job>,
    /// By job, sender and receiver.
    pub pairs: BTreeMap<PairKey, Pair>,
    /// The best path that a pair can have, by the oracle; names in order.
    pub predicted: BTreeMap<(String, String), Prediction>,
    /// What else was said.
    pub notes: Vec<String>,
    /// What the timeline did.
    pub faults: Vec<Fault>,
    /// The run's steps: name and beginning.
    pub steps: Vec<(f64, String)>,
    /// What was expected.
    pub expectations: Vec<Expectation>,
    /// What failed besides.
    pub failures: Vec<(f64, String)>,
}

/// A machine or router.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// What it is behind.
    pub behind: String,
    /// Its region.
    pub region: String,
    /// The coordinator that it belongs to, where that is not the only one.
    pub coordinator: String,
    /// When its program worked: from, to.
    pub up: Vec<(f64, f64)>,
    /// When its owner had it switched on: from, to. Empty: nobody ever said.
    pub available: Vec<(f64, f64)>,
    /// How often its program ended without being asked to.
    pub crashes: u32,
    /// Bytes sent at its network interface.
    pub sent: Series,
    /// Bytes received at its network interface.
    pub received: Series,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which.
    pub id: JobKey,
    /// Its command.
    pub command: String,
    /// Nodes that it wants.
    pub nodes: u32,
    /// When it was submitted.
    pub submitted: f64,
    /// Its states: beginning, name. The last goes on to the end.
    pub states: Vec<(f64, String)>,
    /// Its exit status.
    pub exit: Option<i32>,
    /// Its launches' meshes.
    pub opened: Vec<Opened>,
    /// Its ranks: node and rank by launch.
    pub ranks: BTreeMap<(u32, u32), String>,
    /// When the commands of its ranks ran, by launch and rank.
    pub commands: BTreeMap<(u32, u32), (f64, f64)>,
}

/// A mesh that opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// When.
    pub at: f64,
    /// Since the assignment of the nodes.
    pub after: f64,
}

/// What RFC 4787 says about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The best path that can be.
    pub path: PathKind,
    /// A direct one can be only between nodes that calculate each other's next port.
    pub by_guessing: bool,
}

impl Prediction {
    /// Whether a pair with that path is as predicted.
    pub fn allows(self, path: PathKind) -> bool {
        path == self.path || (self.by_guessing && path == PathKind::Relayed)
    }

    /// For people.
    pub fn name(self) -> &'static str {
        if self.by_guessing { "direct-or-relayed" } else { self.path.name() }
    }
}

/// Something from the timeline.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When.
    pub at: f64,
    /// What, to whom.
    pub text: String,
}

/// Something that was expected.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// What.
    pub text: String,
    /// Whether it holds.
    pub met: bool,
    /// What was found instead.
    pub found: String,
}

impl Job {
    /// Whether that is the last state of a job.
    pub fn is_final(state: &str) -> bool {
        matches!(state, "Terminated" | "Error")
    }

    /// When it ended.
    pub fn ended(&self) -> Option<f64> {
        self.states.iter().find(|(_, state)| Self::is_final(state)).map(|(at, _)| *at)
    }

    /// The state that it was last seen in.
    pub fn state(&self) -> &str {
        self.states.last().map_or("?", |(_, state)| state)
    }

    /// When it first ran.
    pub fn started(&self) -> Option<f64> {
        self.states.iter().find(|(_, state)| state == "Running").map(|(at, _)| *at)
    }

    /// Takes the moments at which it began to run from its commands, where each launch that was seen
    /// running has one: whoever asked the coordinator has learnt it a little later.
    fn refine(&mut self) {
        let mut begun: BTreeMap<u32, f64> = BTreeMap::new();
        for ((generation, _), (from, _)) in &self.commands {
            let first = begun.entry(*generation).or_insert(*from);
            *first = first.min(*from);
        }
        let is_running = |state: &(f64, String)| state.1 == "Running";
        if self.states.iter().filter(|state| is_running(state)).count() != begun.len() {
            return;
        }
        let mut begun = begun.into_values();
        for at in 0..self.states.len() {
            if !is_running(&self.states[at]) {
                continue;
            }
            let least = at.checked_sub(1).map_or(0.0, |before| self.states[before].0);
            let most = self.states.get(at + 1).map_or(f64::INFINITY, |after| after.0);
            if let Some(from) = begun.next().filter(|from| least <= *from && *from <= most) {
                self.states[at].0 = from;
            }
        }
    }

    /// When its nodes were first assigned: pairs begin to look for a path then.
    pub fn assigned(&self) -> f64 {
        let opened = self.opened.first().map(|opened| opened.at - opened.after);
        let launched = || {
            let is_launch = |state: &str| matches!(state, "toLaunch" | "Launching" | "Running");
            self.states.iter().find(|(_, state)| is_launch(state)).map(|(at, _)| *at)
        };
        opened.or_else(launched).unwrap_or(self.submitted).max(0.0)
    }
}

impl Run {
    /// From what a run directory holds.
    pub fn of(contents: Contents) -> Self {
        let Contents { info, scenario, events, samples, missing, .. } = contents;
        let last = |t: f64, end: f64| if t > end { t } else { end };
        let end = events.iter().map(|event| event.t).fold(0.0, |end, t| last(t, end));
        let end = samples.iter().map(|row| row.t).fold(end, |end, t| last(t, end));
        let mut run = Self {
            info,
            scenario,
            missing,
            end,
            nodes: Vec::new(),
            jobs: Vec::new(),
            pairs: BTreeMap::new(),
            predicted: BTreeMap::new(),
            notes: Vec::new(),
            faults: Vec::new(),
            steps: Vec::new(),
            expectations: Vec::new(),
            failures: Vec::new(),
        };
        let mut places = Places::default();
        let mut events = events;
        // Several threads write: the order of the file is nearly, but not quite, that of time.
        events.sort_by(|a, b| a.t.total_cmp(&b.t));
        for event in events {
            run.take(event, &mut places);
        }
        let mut samples = samples;
        samples.sort_by(|a, b| a.t.total_cmp(&b.t));
        for row in samples {
            run.take_sample(row, &mut places);
        }
        run.close();
        run
    }

    /// The volunteers.
    pub fn volunteers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Volunteer)
    }

    /// The best path that a pair can have, by the oracle.
    pub fn predicted(&self, key: &PairKey) -> Option<Prediction> {
        let (from, to) = (key.from.clone(), key.to.clone());
        self.predicted.get(&if from <= to { (from, to) } else { (to, from) }).copied()
    }

    fn take(&mut self, event: Event, places: &mut Places) {
        let t = event.t;
        match event.what {
            What::RunStart { .. } | What::RunEnd { error: None, .. } | What::Sample(_) => {}
            What::RunEnd { error: Some(text), .. } | What::Failure { text } => {
                self.failures.push((t, text));
            }
            What::Step { name } => self.steps.push((t, name)),
            What::Node { node, role, behind, region, coordinator, .. } => {
                let known = self.node(&node, places);
                known.role = role;
                known.behind = behind;
                known.region = region.unwrap_or_default();
                known.coordinator = coordinator.unwrap_or_default();
            }
            What::Up { node } => begin(&mut self.node(&node, places).up, t),
            What::Down { node, why } => {
                // Its commands end with it, and nobody is left to say so.
                for job in &mut self.jobs {
                    let of_node = |at: &(u32, u32)| job.ranks.get(at).is_some_and(|on| *on == node);
                    let open = job
                        .commands
                        .iter_mut()
                        .filter(|(at, span)| span.1.is_infinite() && of_node(at));
                    open.for_each(|(_, span)| span.1 = t);
                }
                let node = self.node(&node, places);
                end(&mut node.up, t);
                node.crashes += u32::from(why == crate::event::Why::Crashed);
            }
            What::Churn { node, available } => {
                let spans = &mut self.node(&node, places).available;
                match available {
                    true => begin(spans, t),
                    // It was there from the start, if this is the first that is heard of it.
                    false if spans.is_empty() => spans.push((0.0, t)),
                    false => end(spans, t),
                }
            }
            What::Fault { name, nodes, text } => {
                let mut told = name;
                for part in [nodes.join(", "), text] {
                    if !part.is_empty() {
                        told = format!("{told} {part}");
                    }
                }
                self.faults.push(Fault { at: t, text: told });
            }
            What::JobSubmitted { job, command, nodes, .. } => {
                let known = self.job(job, t, places);
                (known.command, known.nodes, known.submitted) = (command, nodes, t);
            }
            What::JobState { job, state, exit, .. } => {
                let known = self.job(job, t, places);
                known.exit = exit.or(known.exit);
                if known.states.last().is_none_or(|(_, last)| *last != state) {
                    known.states.push((t, state));
                }
            }
            What::RankState { job, generation, rank, node, state, .. } => {
                let known = self.job(job, t, places);
                known.ranks.insert((generation, rank), node);
                let (id, node) = (known.id.clone(), known.ranks[&(generation, rank)].clone());
                if state == "Running" {
                    known.commands.entry((generation, rank)).or_insert((t, f64::INFINITY));
                    self.pairs_of(&id, &node).for_each(|pair| pair.over = None);
                } else if let Some((_, end)) = known.commands.get_mut(&(generation, rank))
                    && end.is_infinite()
                {
                    *end = t;
                    self.pairs_of(&id, &node).for_each(|pair| {
                        pair.over.get_or_insert(t);
                    });
                }
            }
            What::MeshOpen { job, generation, after_s, members } => {
                let known = self.job(job, t, places);
                known.opened.push(Opened { at: t, after: after_s });
                for (rank, node) in (0..).zip(members) {
                    known.ranks.insert((generation, rank), node);
                }
            }
            What::Path { job, from, to, path, via, rtt_ms, explain } => {
                let pair = self.pairs.entry(PairKey { job, from, to }).or_default();
                pair.enter(t, path, via, rtt_ms, explain);
            }
            What::Predicted { from, to, path, by_guessing } => {
                let names = if from <= to { (from, to) } else { (to, from) };
                self.predicted.insert(names, Prediction { path, by_guessing });
            }
            What::Expectation { text, met, found } => {
                self.expectations.push(Expectation { text, met, found });
            }
            What::Note { text } => self.notes.push(text),
            What::NodeState { .. } => {}
        }
    }

    /// The pairs of a job that a node is an end of.
    fn pairs_of(&mut self, job: &JobKey, node: &str) -> impl Iterator<Item = &mut Pair> {
        let first = |job| PairKey { job, from: String::new(), to: String::new() };
        let next = JobKey { number: job.number.saturating_add(1), ..job.clone() };
        let of_job = self.pairs.range_mut(first(job.clone())..first(next));
        of_job.filter(move |(key, _)| key.from == node || key.to == node).map(|(_, pair)| pair)
    }

    fn take_sample(&mut self, row: Row, places: &mut Places) {
        let reading = (row.t, row.value);
        match (row.metric.as_str(), row.job) {
            ("pair-bytes", Some(job)) => {
                let key = PairKey { job, from: row.from, to: row.to };
                self.pairs.entry(key).or_default().sent.push(reading);
            }
            ("rtt-ms", Some(job)) => {
                let key = PairKey { job, from: row.from, to: row.to };
                self.pairs.entry(key).or_default().rtt.push(reading);
            }
            ("node-sent-bytes", _) => self.node(&row.from, places).sent.push(reading),
            ("node-received-bytes", _) => self.node(&row.from, places).received.push(reading),
            _ => {}
        }
    }

    /// What was still open when the run ended, ends with it.
    fn close(&mut self) {
        for node in &mut self.nodes {
            for spans in [&mut node.up, &mut node.available] {
                end(spans, self.end);
            }
        }
        let ends: BTreeMap<JobKey, f64> =
            self.jobs.iter().map(|job| (job.id.clone(), job.ended().unwrap_or(self.end))).collect();
        for job in &mut self.jobs {
            job.refine();
            let end = ends.get(&job.id).copied().unwrap_or(self.end);
            job.commands.values_mut().filter(|(_, to)| to.is_infinite()).for_each(|span| {
                span.1 = end.max(span.0);
            });
        }
        for (key, pair) in &mut self.pairs {
            pair.close(ends.get(&key.job).copied().unwrap_or(self.end));
        }
    }

    fn node(&mut self, name: &str, places: &mut Places) -> &mut Node {
        let at = *places.nodes.entry(name.to_owned()).or_insert_with(|| {
            self.nodes.push(Node {
                name: name.to_owned(),
                role: Role::Machine,
                behind: String::new(),
                region: String::new(),
                coordinator: String::new(),
                up: Vec::new(),
                available: Vec::new(),
                crashes: 0,
                sent: Vec::new(),
                received: Vec::new(),
            });
            self.nodes.len() - 1
        });
        &mut self.nodes[at]
    }

    fn job(&mut self, id: JobKey, t: f64, places: &mut Places) -> &mut Job {
        let at = *places.jobs.entry(id).or_insert_with_key(|id| {
            self.jobs.push(Job {
                id: id.clone(),
                command: String::new(),
                nodes: 0,
                submitted: t,
                states: vec![(t, "Waiting".to_owned())],
                exit: None,
                opened: Vec::new(),
                ranks: BTreeMap::new(),
                commands: BTreeMap::new(),
            });
            self.jobs.len() - 1
        });
        &mut self.jobs[at]
    }
}

/// Where the nodes and jobs lie, by name and number.
#[derive(Default)]
struct Places {
    nodes: BTreeMap<String, usize>,
    jobs: BTreeMap<JobKey, usize>,
}

/// Open spans have no end yet.
fn begin(spans: &mut Vec<(f64, f64)>, t: f64) {
    if spans.last().is_none_or(|(_, end)| end.is_finite()) {
        spans.push((t, f64::INFINITY));
    }
}

fn end(spans: &mut [(f64, f64)], t: f64) {
    if let Some((_, end)) = spans.last_mut()
        && end.is_infinite()
    {
        *end = t;
    }
}
