//! The coordinators' decisions, which are those of [`coordinator_core`], and what is told of them.

use std::time::Duration;

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;
use coordinator_core::{
    Array, Change, Cluster, Counters, Draft, Job, JobId, MeshBlock, Node, NodeNumber, PartState,
    Policy, Report, Request, UnixMillis,
};
use netsim_report::What;
use netsim_scenario::resolved::{Coordinator as Settings, Start};

use super::{EPOCH, INBOX, JobAt, Run, Submission, Task, WARM_UP};
use crate::world::CONTROL_DELAY;

/// What every volunteer says of its memory. Chosen: scenarios name none.
const MEMORY_MIB: u64 = 4_096;

/// A coordinator at work.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) cluster: Cluster,
    counters: Counters,
    policy: Policy,
    pub(super) poll_interval: Duration,
    /// Its agents in the order of their numbers.
    pub(super) agents: Vec<usize>,
    pub(super) inbox: Vec<(usize, JobId, u32, Report)>,
    pub(super) opened: Vec<(JobId, u32)>,
    pub(super) inbox_is_due: bool,
}

impl Coordinator {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            cluster: Cluster::default(),
            counters: Counters::default(),
            policy: Policy {
                node_timeout: settings.node_timeout,
                launch_deadline: settings.launch_deadline,
                ..Policy::default()
            },
            poll_interval: settings.poll_interval,
            agents: Vec::new(),
            inbox: Vec::new(),
            opened: Vec::new(),
            inbox_is_due: false,
        }
    }

    /// The agent with that number.
    pub(super) fn agent(&self, number: NodeNumber) -> Option<usize> {
        let place = usize::try_from(number.0.checked_sub(1)?).ok()?;
        self.agents.get(place).copied()
    }
}

impl Run<'_> {
    /// All volunteers are enrolled in the order of the scenario, and the work is put on the agenda.
    pub(super) fn enrol(&mut self) {
        for server in 0..self.coordinators.len() {
            let agents = &self.coordinators[server].agents;
            let cores: Vec<u16> = agents.iter().map(|agent| self.agents[*agent].cores).collect();
            self.decide(server, |draft| {
                for cores in cores {
                    draft.enrol(cores, MEMORY_MIB);
                }
            });
        }
        self.tell_who_is_up();
        for (entry, job) in self.resolved.jobs.iter().enumerate() {
            if let Start::At(at) = job.start {
                self.at(WARM_UP + at, Task::Submit(entry));
            }
        }
        self.plan_timeline();
        for server in 0..self.coordinators.len() {
            self.at(WARM_UP, Task::Tick(server));
        }
    }

    /// Lets a coordinator's core decide, and draws the consequences.
    pub(super) fn decide<T>(
        &mut self,
        server: usize,
        decision: impl FnOnce(&mut Draft<'_>) -> T,
    ) -> T {
        let now = self.clock();
        let Coordinator { cluster, policy, .. } = &mut self.coordinators[server];
        let mut draft = Draft::new(cluster, now, policy);
        let answer = decision(&mut draft);
        let (decided, changes) = draft.finish(cluster);
        *cluster = decided;
        for change in changes {
            match change {
                Change::Node(node) => self.on_node(server, &node),
                Change::Job(job) => self.on_job(server, &job),
                Change::Counters(counters) => self.coordinators[server].counters = counters,
                Change::Usage(..) => {}
            }
        }
        answer
    }

    fn clock(&self) -> UnixMillis {
        EPOCH + self.world.now()
    }

    pub(super) fn submit(&mut self, entry: usize) {
        let job = &self.resolved.jobs[entry];
        let server = self.resolved.place_of(&job.coordinator);
        let submission = job.submission();
        let owner = job.scientist.clone();
        let admitted = Request::admit(&submission).map_err(|error| error.to_string());
        let array = Array::admit(&submission).map_err(|error| error.to_string());
        let submitted = admitted.and_then(|request| {
            let array = array?;
            let now = self.world.now();
            for index in 0..array.len() {
                let id = JobId(self.coordinators[server].counters.job + index as u64);
                self.submissions.insert(JobAt { server, id }, Submission::new(entry, now));
            }
            let ids = self.decide(server, |draft| draft.submit_array(&owner, &request, &array));
            ids.map_err(|error| error.to_string())
        });
        match submitted {
            Ok(ids) => {
                self.jobs[entry] = ids.into_iter().map(|id| JobAt { server, id }).collect();
            }
            Err(reason) => {
                self.submissions.retain(|_, job| job.entry != entry);
                self.fail(format!("job {}: {reason}", self.resolved.jobs[entry].name));
                // It counts as a job that has ended: the run can come to its end.
                self.jobs[entry] = vec![JobAt { server, id: JobId(0) }];
            }
        }
    }

    /// A coordinator looks at the clock; everybody who can has polled since the last time.
    pub(super) fn tick(&mut self, server: usize) {
        let Coordinator { poll_interval, agents, .. } = &self.coordinators[server];
        let (interval, agents) = (*poll_interval, agents.clone());
        self.later(interval.max(INBOX), Task::Tick(server));
        if self.world.servers[server].away {
            return;
        }
        let now = self.clock();
        let (mut heard, mut back) = (Vec::with_capacity(agents.len()), Vec::new());
        for index in agents {
            if self.reaches_coordinator(index) {
                let agent = &self.agents[index];
                match agent.state {
                    ResourceState::Alive => heard.push((agent.number, now)),
                    ResourceState::Suspected | ResourceState::Absent | ResourceState::Dead => {
                        back.push(agent.number);
                    }
                }
            }
        }
        let blocks = self.blocks(server);
        self.decide(server, |draft| {
            back.into_iter().for_each(|number| draft.heard(number));
            draft.tick(&heard, &blocks);
        });
    }

    /// Something has come in.
    pub(super) fn collect(&mut self, server: usize) {
        if !std::mem::replace(&mut self.coordinators[server].inbox_is_due, true) {
            self.later(INBOX, Task::Inbox(server));
        }
    }

    pub(super) fn take_inbox(&mut self, server: usize) {
        let coordinator = &mut self.coordinators[server];
        coordinator.inbox_is_due = false;
        let inbox = std::mem::take(&mut coordinator.inbox);
        let opened = std::mem::take(&mut coordinator.opened);
        let reports: Vec<_> = inbox
            .into_iter()
            .map(|(agent, job, generation, report)| {
                (self.agents[agent].number, job, generation, report)
            })
            .collect();
        self.decide(server, |draft| {
            for (job, generation) in opened {
                draft.mesh_opened(job, generation);
            }
            for (node, job, generation, report) in reports {
                // Refused is what comes twice or too late; the agent learns it with its next poll.
                let _ = draft.report(node, job, generation, report);
            }
        });
    }

    /// The launches in which a node has a part that is not over.
    pub(super) fn parts_of(&self, server: usize, number: NodeNumber) -> Vec<(JobAt, u32)> {
        let cluster = &self.coordinators[server].cluster;
        let shares = cluster.node(number).into_iter().flat_map(|node| &node.shares);
        let launches = shares.filter_map(|share| {
            let launch = cluster.job(share.job)?.live_launch()?;
            let (_, part) = launch.part(number)?;
            (part.state == PartState::Acknowledged && part.killed.is_none())
                .then_some((JobAt { server, id: share.job }, launch.generation))
        });
        launches.collect()
    }

    /// What keeps a coordinator's meshes from opening.
    fn blocks(&self, server: usize) -> Vec<MeshBlock> {
        let own = self.launches.iter().filter(|(job, _)| job.server == server);
        let launches = own.filter(|(_, launch)| launch.opened_at.is_none());
        launches.filter_map(|(job, launch)| launch.block(job.id, &self.agents)).collect()
    }

    fn on_node(&mut self, server: usize, node: &Node) {
        let Some(index) = self.coordinators[server].agent(node.number) else { return };
        let agent = &mut self.agents[index];
        if agent.state != node.state {
            agent.state = node.state;
            let (node, state) = (agent.name.clone(), format!("{:?}", node.state));
            self.tell(What::NodeState { node, state });
        }
        if !node.shares.is_empty() || !node.leftovers.is_empty() {
            self.poll_soon(index);
        }
    }

    fn on_job(&mut self, server: usize, job: &Job) {
        let at = JobAt { server, id: job.id };
        let Some(submission) = self.submissions.get_mut(&at) else { return };
        let state = word(job.state);
        let (is_new, entry) = (submission.state.is_empty(), submission.entry);
        let changed = std::mem::replace(&mut submission.state, state) != state;
        let relaunched =
            job.live_launch().is_some_and(|launch| launch.generation > submission.generation);
        if is_new {
            let request = &job.request;
            let wanted = self.resolved.jobs[entry].nodes;
            let names = request.types.names().into_iter().map(str::to_owned).collect();
            self.tell(What::JobSubmitted {
                job: self.key(at),
                command: request.command.clone(),
                nodes: wanted,
                types: names,
                walltime_s: Some(job.walltime_s()),
            });
        }
        if changed || is_new {
            self.tell(What::JobState {
                job: self.key(at),
                state: state.to_owned(),
                exit: job.exit_code.map(|status| status >> 8),
                message: job.last_word().map(|event| event.description.clone()).unwrap_or_default(),
            });
        }
        let running = self.launches.get(&at).map(|launch| launch.generation);
        let live = job.live_launch().map(|launch| launch.generation);
        if running.is_some() && running != live {
            self.end_launch(at);
        }
        if relaunched {
            self.begin_launch(at, job);
        }
        self.tell_ranks(at, job);
        self.tell_to_end(server, job);
        if changed {
            self.follow(at, job);
        }
    }

    /// Nodes that shall end their parts hear of it with their next polls.
    fn tell_to_end(&mut self, server: usize, job: &Job) {
        let parts = job.live_launch().into_iter().flat_map(|launch| &launch.parts);
        for part in parts.filter(|part| part.killed.is_some() && !part.is_over()) {
            if let Some(index) = self.coordinators[server].agent(part.node) {
                self.poll_soon(index);
            }
        }
    }

    fn tell_ranks(&mut self, at: JobAt, job: &Job) {
        let Some(launch) = &job.launch else { return };
        let Some(submission) = self.submissions.get_mut(&at) else { return };
        submission.ranks.resize(launch.parts.len(), "");
        let mut told = Vec::new();
        for (rank, (part, last)) in launch.parts.iter().zip(&mut submission.ranks).enumerate() {
            let state = rank_word(&part.state);
            if std::mem::replace(last, state) != state {
                told.push((rank, part.node, state));
            }
        }
        for (rank, number, state) in told {
            let agent = self.coordinators[at.server].agent(number);
            let Some(node) = agent.map(|index| self.agents[index].name.clone()) else { continue };
            self.tell(What::RankState {
                job: self.key(at),
                generation: launch.generation,
                rank: u32::try_from(rank).unwrap_or(u32::MAX),
                node,
                state: state.to_owned(),
                exit: None,
            });
        }
    }

    /// What follows from a job's new state.
    fn follow(&mut self, at: JobAt, job: &Job) {
        let now = self.world.now();
        let entry = {
            let Some(submission) = self.submissions.get_mut(&at) else { return };
            if job.state.is_final() {
                submission.ended = Some(now);
                submission.terminated = job.state == JobState::Terminated;
            }
            submission.entry
        };
        if job.state == JobState::Running {
            let generation = job.generation;
            self.later(CONTROL_DELAY, Task::Begin { job: at, generation });
        }
        self.happened_to(entry, job.state);
    }

    /// A coordinator starts again with what it has stored.
    pub(super) fn reload(&mut self, server: usize) {
        let now = self.clock();
        let Coordinator { cluster, counters, policy, .. } = &mut self.coordinators[server];
        let nodes: Vec<Node> = cluster.nodes().map(|node| (**node).clone()).collect();
        let jobs: Vec<Job> = cluster.jobs().map(|job| (**job).clone()).collect();
        let usage = cluster.usage().clone();
        *cluster = Cluster::load(nodes, jobs, *counters, usage, now, policy);
    }

    pub(super) fn fail(&mut self, text: String) {
        self.tell(What::Failure { text: text.clone() });
        self.failures.push(text);
    }
}

impl Submission {
    fn new(entry: usize, at: Duration) -> Self {
        Self {
            entry,
            at,
            state: "",
            began: None,
            ended: None,
            terminated: false,
            ranks: Vec::new(),
            generation: 0,
        }
    }
}

/// OAR's word.
fn word(state: JobState) -> &'static str {
    match state {
        JobState::Waiting => "Waiting",
        JobState::Hold => "Hold",
        JobState::ToLaunch => "toLaunch",
        JobState::ToError => "toError",
        JobState::ToAckReservation => "toAckReservation",
        JobState::Launching => "Launching",
        JobState::Running => "Running",
        JobState::Suspended => "Suspended",
        JobState::Resuming => "Resuming",
        JobState::Finishing => "Finishing",
        JobState::Terminated => "Terminated",
        JobState::Error => "Error",
    }
}

fn rank_word(state: &PartState) -> &'static str {
    match state {
        PartState::Assigned => "toLaunch",
        PartState::Acknowledged => "Running",
        PartState::Ended { .. } => "Terminated",
        PartState::Failed { .. } | PartState::Lost => "Error",
        PartState::Released => "Waiting",
    }
}
