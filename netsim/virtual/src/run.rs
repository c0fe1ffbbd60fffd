//! A scenario from its first machine to its expectations, in virtual time.
//!
//! What decides is the real thing: the overlay's core on every volunteer, and the coordinator's core
//! ([`coordinator_core`]) with its scheduler and its job and node states. What carries out is small and
//! told here, with its times, which are chosen:
//!
//! - An agent polls at the scenario's interval, each in its own phase; HTTPS and the control channel
//!   are reliable and take 20 ms each way, and wait while the machine is cut off.
//! - A node joins a job's mesh 300 ms after it has taken the job (stage-in, sandbox), and reports the end
//!   of its part 100 ms after the command (stage-out).
//! - A coordinator takes what comes in within 100 ms together.
//! - No program runs. In place of its command a job exchanges its `pair-bytes`, at least a packet,
//!   between all pairs of its mesh, and then takes as long as `sleep N` in the command says, or a
//!   second. It succeeds. What is expected of outputs and files is not looked at, and a note says so.
//! - Relays are reached over UDP. The coordinator notices their coming and going at once, and every pair
//!   has a channel at each.
//!
//! The same scenario and seed give the same events.

mod agents;
mod cluster;
mod expectations;
mod launches;
mod timeline;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coordinator_core::{JobId, Report, UnixMillis};
use netsim_report::{JobKey, PathKind, Role, What, Why};
use netsim_scenario::Resolved;
use netsim_scenario::resolved::Volunteer;
use netsim_sim::topology::RouterSpec;
use netsim_sim::{
    Change, Firewall, HostId, HostState, Oracle, Prediction, Topology, TopologyError,
};
use overlay_core::NodeId;

use crate::world::{Note, World};
use agents::Agent;
use cluster::Coordinator;
use launches::{Finished, LaunchRun};
use timeline::Timeline;

/// From the beginning until the work starts: machines are there and have found the coordinator.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long the coordinator collects what comes in. Chosen.
const INBOX: Duration = Duration::from_millis(100);

/// The coordinator's clock at the beginning. Chosen: a moment in 2027.
const EPOCH: UnixMillis = UnixMillis(1_800_000_000_000);

/// Why a scenario cannot be run in virtual time.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its network cannot be built.
    #[error("the network cannot be built")]
    Topology(#[from] TopologyError),
    /// The simulated nodes speak UDP and have no way over TLS.
    #[error(
        "the network of {0} lets no UDP through, and in virtual time there is no way over TLS: run the scenario in \
         the laboratory, without `--backend sim`"
    )]
    NoUdp(String),
    /// A job that the coordinator would refuse.
    #[error("job {name}: {reason}")]
    Job {
        /// The job's name in the scenario.
        name: String,
        /// What the coordinator says.
        reason: String,
    },
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// All that the scenario expects holds.
    pub passed: bool,
    /// What does not hold.
    pub failures: Vec<String>,
    /// What the scenario expects of programs and their files, which are not there in virtual time.
    pub not_looked_at: Vec<String>,
    /// What happened in vain.
    pub warnings: Vec<String>,
    /// The virtual time that it took.
    pub took: Duration,
    /// Jobs that ended well.
    pub terminated: usize,
    /// Jobs that ended in an error, or not at all.
    pub failed: usize,
    /// Pairs of the ended jobs whose path was direct in the end.
    pub direct_pairs: usize,
    /// And relayed.
    pub relayed_pairs: usize,
    /// Packets that were sent.
    pub packets: u64,
}

/// Runs a scenario. `record` is told what happens and when; `start` is any instant.
///
/// # Errors
/// [`RunError`]: nothing has happened then.
pub fn run(
    resolved: &Resolved,
    start: Instant,
    record: &mut dyn FnMut(Duration, What),
) -> Result<Outcome, RunError> {
    let mut run = Run::new(resolved, start, record)?;
    run.introduce_everybody();
    run.enrol();
    while let Some(at) = run.next() {
        run.happen(at);
    }
    Ok(run.conclude())
}

/// The first volunteer with a firewall before it that stops UDP.
fn without_udp(resolved: &Resolved) -> Option<&str> {
    let Topology { hosts, routers, .. } = &resolved.topology;
    let routers: BTreeMap<&str, _> = routers.iter().map(|it| (it.name.as_str(), it)).collect();
    let behind: BTreeMap<&str, _> =
        hosts.iter().filter_map(|it| Some((it.name.as_str(), it.behind.as_deref()?))).collect();
    let is_shut = |volunteer: &&Volunteer| {
        let first = behind.get(volunteer.host.as_str()).and_then(|name| routers.get(name));
        let outside = |it: &&RouterSpec| routers.get(it.behind.as_deref()?).copied();
        let mut way = std::iter::successors(first.copied(), outside);
        // A router behind itself is for the topology to refuse.
        way.by_ref().take(routers.len()).any(|it| it.firewall != Firewall::None)
    };
    resolved.volunteers.iter().find(is_shut).map(|volunteer| volunteer.host.as_str())
}

/// What is expected of a pair, as event logs of both back ends say it.
pub fn predicted(from: String, to: String, expected: Prediction) -> What {
    let (path, by_guessing) = match expected {
        Prediction::Direct => (PathKind::Direct, false),
        Prediction::Either => (PathKind::Direct, true),
        Prediction::Relayed => (PathKind::Relayed, false),
    };
    What::Predicted { from, to, path, by_guessing }
}

/// Something that is to be done at a time.
#[derive(Debug)]
enum Task {
    /// The jobs that start by the clock, and what the timeline says.
    Submit(usize),
    Timeline(usize),
    /// A coordinator looks at the clock, and at who has polled.
    Tick(usize),
    /// A coordinator takes what has come in.
    Inbox(usize),
    Poll(usize),
    Join {
        agent: usize,
        job: JobAt,
        generation: u32,
    },
    Joined {
        agent: usize,
        job: JobAt,
        generation: u32,
    },
    Opened {
        job: JobAt,
        generation: u32,
    },
    Begin {
        job: JobAt,
        generation: u32,
    },
    Exchange {
        job: JobAt,
        generation: u32,
    },
    Report {
        agent: usize,
        job: JobAt,
        generation: u32,
        report: Report,
    },
}

struct Run<'a> {
    resolved: &'a Resolved,
    record: &'a mut dyn FnMut(Duration, What),
    world: World,
    oracle: Oracle,
    agenda: BTreeMap<(Duration, u64), Task>,
    tasks: u64,
    end: Duration,
    /// In the order of the scenario's coordinators and the world's servers.
    coordinators: Vec<Coordinator>,
    agents: Vec<Agent>,
    agent_of: BTreeMap<NodeId, usize>,
    /// The jobs of each entry of the scenario.
    jobs: Vec<Vec<JobAt>>,
    submissions: BTreeMap<JobAt, Submission>,
    launches: BTreeMap<JobAt, LaunchRun>,
    finished: BTreeMap<JobAt, Finished>,
    timeline: Timeline,
    /// The relays that run alone, by their machines' names.
    relays: BTreeMap<String, NodeId>,
    failures: Vec<String>,
    warnings: Vec<String>,
}

/// A job: the numbers are each coordinator's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct JobAt {
    /// The coordinator.
    server: usize,
    id: JobId,
}

/// A job that was submitted.
#[derive(Debug)]
struct Submission {
    /// Its entry in the scenario.
    entry: usize,
    at: Duration,
    state: &'static str,
    began: Option<Duration>,
    ended: Option<Duration>,
    terminated: bool,
    ranks: Vec<&'static str>,
    generation: u32,
}

impl<'a> Run<'a> {
    fn new(
        resolved: &'a Resolved,
        start: Instant,
        record: &'a mut dyn FnMut(Duration, What),
    ) -> Result<Self, RunError> {
        if let Some(volunteer) = without_udp(resolved) {
            return Err(RunError::NoUdp(volunteer.to_owned()));
        }
        let end = WARM_UP + resolved.duration;
        let built = resolved.topology.build(resolved.seed, end)?;
        let mut servers = Vec::new();
        for coordinator in &resolved.coordinators {
            servers.push(built.host(&coordinator.name)?);
        }
        let timeline = Timeline::new(resolved, &built)?;
        let mut hosts = Vec::with_capacity(resolved.volunteers.len());
        for volunteer in &resolved.volunteers {
            hosts.push(built.host(&volunteer.host)?);
        }
        let starts_on: BTreeMap<String, bool> = resolved
            .presences()
            .into_iter()
            .map(|(host, presence)| (host, presence.starts_on))
            .collect();
        let mut relays = BTreeMap::new();
        for relay in &resolved.relays {
            let server = resolved.place_of(&relay.coordinator);
            relays.insert(relay.host.clone(), (server, built.host(&relay.host)?));
        }
        let mut world = World::on(built.network, &servers, resolved.seed, start);
        world.keep_notes();
        let add = |(name, (server, host))| (name, world.add_relay_of(server, host));
        let relays = relays.into_iter().map(add).collect();
        let mut run = Self {
            resolved,
            record,
            world,
            oracle: resolved.oracle()?,
            agenda: BTreeMap::new(),
            tasks: 0,
            end,
            coordinators: resolved.coordinators.iter().map(Coordinator::new).collect(),
            agents: Vec::new(),
            agent_of: BTreeMap::new(),
            jobs: vec![Vec::new(); resolved.jobs.len()],
            submissions: BTreeMap::new(),
            launches: BTreeMap::new(),
            finished: BTreeMap::new(),
            timeline,
            relays,
            failures: Vec::new(),
            warnings: resolved.warnings(),
        };
        for (volunteer, host) in resolved.volunteers.iter().zip(hosts) {
            let starts_on = starts_on.get(&volunteer.host);
            let is_on = starts_on.copied().unwrap_or(true);
            run.add_agent(volunteer, host, (is_on, starts_on.is_some()));
        }
        Ok(run)
    }

    /// The first events: which machines there are.
    fn introduce_everybody(&mut self) {
        let resolved = self.resolved;
        let (regions, clusters) = (resolved.topology.regions_by_name(), resolved.clusters());
        let region = |name: &str| regions.get(name).map(|&region| region.to_owned());
        for router in &resolved.topology.routers {
            self.tell(What::Node {
                node: router.name.clone(),
                role: Role::Router,
                behind: router.nat.profile().map_or("no NAT", |_| "NAT").to_owned(),
                router: router.behind.clone(),
                region: region(&router.name),
                coordinator: None,
                cores: None,
            });
        }
        let volunteers = resolved.volunteers.iter().map(|it| (it.host.as_str(), it));
        let volunteers: BTreeMap<&str, _> = volunteers.collect();
        for host in &resolved.topology.hosts {
            let volunteer = volunteers.get(host.name.as_str());
            let is_scientist = resolved.scientists.iter().any(|it| it.host == host.name);
            let role = match volunteer {
                Some(_) => Role::Volunteer,
                None if resolved.coordinators.iter().any(|it| it.name == host.name) => {
                    Role::Coordinator
                }
                None if is_scientist => Role::Scientist,
                None if self.relays.contains_key(&host.name) => Role::Relay,
                None => Role::Machine,
            };
            self.tell(What::Node {
                node: host.name.clone(),
                role,
                behind: volunteer.map(|it| it.behind.clone()).unwrap_or_default(),
                router: host.behind.clone(),
                region: region(&host.name),
                coordinator: clusters.get(&host.name).cloned(),
                cores: volunteer.map(|it| u16::try_from(it.cores).unwrap_or(u16::MAX)),
            });
        }
        for coordinator in &resolved.coordinators {
            self.tell(What::Up { node: coordinator.name.clone() });
        }
        for relay in &resolved.relays {
            self.tell(What::Up { node: relay.host.clone() });
        }
    }

    /// When something happens next; none: the run is over.
    fn next(&self) -> Option<Duration> {
        if self.is_done() {
            return None;
        }
        let task = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let next = [task, self.world.next_event()].into_iter().flatten().min()?;
        (next <= self.end).then_some(next)
    }

    fn happen(&mut self, at: Duration) {
        let task = self.agenda.first_key_value().map(|((at, _), _)| *at);
        if self.world.next_event().is_some_and(|event| event <= at) {
            self.world.happen(at);
        } else if task.is_some_and(|task| task <= at)
            && let Some((_, task)) = self.agenda.pop_first()
        {
            self.world.net.advance_to(at);
            self.carry_out(task);
        }
        for note in self.world.take_notes() {
            match note {
                Note::Pair { at, node, session, state } => self.on_pair(at, node, session, &state),
                Note::Changed { change, .. } => self.on_change(change),
            }
        }
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Submit(entry) => self.submit(entry),
            Task::Timeline(index) => self.act(index),
            Task::Tick(server) => self.tick(server),
            Task::Inbox(server) => self.take_inbox(server),
            Task::Poll(agent) => self.poll(agent),
            Task::Join { agent, job, generation } => self.join(agent, job, generation),
            Task::Joined { agent, job, generation } => self.joined(agent, job, generation),
            Task::Opened { job, generation } => {
                self.coordinators[job.server].opened.push((job.id, generation));
                self.collect(job.server);
            }
            Task::Begin { job, generation } => self.begin(job, generation),
            Task::Exchange { job, generation } => self.exchange(job, generation),
            Task::Report { agent, job, generation, report } => {
                self.arrive(agent, job, generation, report);
            }
        }
    }

    /// All jobs have ended, and nothing of the timeline is left. Without jobs: when the time is over.
    fn is_done(&self) -> bool {
        self.has_all_ended() && self.timeline.is_over()
    }

    /// Every job of the scenario was submitted and has ended.
    fn has_all_ended(&self) -> bool {
        let all_ended = self.submissions.values().all(|job| job.ended.is_some());
        let all_submitted = self.jobs.iter().all(|jobs| !jobs.is_empty());
        !self.jobs.is_empty() && all_submitted && all_ended
    }

    /// A job as logs name it.
    fn key(&self, job: JobAt) -> JobKey {
        JobKey::new(&self.resolved.coordinators[job.server].name, job.id.0)
    }

    fn later(&mut self, delay: Duration, task: Task) {
        self.at(self.world.now() + delay, task);
    }

    fn at(&mut self, at: Duration, task: Task) {
        self.tasks += 1;
        self.agenda.insert((at, self.tasks), task);
    }

    fn tell(&mut self, what: What) {
        (self.record)(self.world.now(), what);
    }

    /// Something has happened to the network.
    fn on_change(&mut self, change: Change) {
        match change {
            Change::Kill(host) => self.power(host, false),
            Change::Start(host) => self.power(host, true),
            Change::Resume(host) => {
                if let Some(agent) = self.agent_on(host) {
                    self.poll_soon(agent);
                }
            }
            Change::Roam(..)
            | Change::NatReboot(_)
            | Change::LinkDown(_)
            | Change::LinkUp(_)
            | Change::UplinkDown(_)
            | Change::UplinkUp(_)
            | Change::Suspend(_) => {}
        }
    }

    fn power(&mut self, host: HostId, is_on: bool) {
        let Some(index) = self.agent_on(host) else { return };
        let agent = &mut self.agents[index];
        let (node, churns) = (agent.name.clone(), agent.churns);
        agent.lose_everything();
        if churns {
            self.tell(What::Churn { node: node.clone(), available: is_on });
        }
        if is_on {
            self.tell(What::Up { node });
            self.poll_soon(index);
        } else {
            let why = if churns { Why::Churn } else { Why::Killed };
            self.tell(What::Down { node, why });
        }
    }

    fn agent_on(&self, host: HostId) -> Option<usize> {
        // Agents and nodes are made together.
        self.world.node_on(host)
    }

    fn runs(&self, agent: usize) -> bool {
        self.world.net.state(self.world.nodes[agent].host) == HostState::Running
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
