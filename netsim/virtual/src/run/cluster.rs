//! The coordinator's decisions, which are those of [`coordinator_core`], and what is told of them.

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;
use coordinator_core::{
    Array, Change, Cluster, Draft, Job, JobId, MeshBlock, Node, NodeNumber, PartState, Request,
    UnixMillis,
};
use netsim_report::What;
use netsim_scenario::resolved::Start;

use super::{EPOCH, INBOX, Run, Submission, Task, WARM_UP};
use crate::world::CONTROL_DELAY;

/// What every volunteer says of its memory. Chosen: scenarios name none.
const MEMORY_MIB: u64 = 4_096;

impl Run<'_> {
    /// All volunteers are enrolled in the order of the scenario, and the work is put on the agenda.
    pub(super) fn enrol(&mut self) {
        let cores: Vec<u16> = self.agents.iter().map(|agent| agent.cores).collect();
        self.decide(|draft| {
            for cores in cores {
                draft.enrol(cores, MEMORY_MIB);
            }
        });
        self.tell_who_is_up();
        for (entry, job) in self.resolved.jobs.iter().enumerate() {
            if let Start::At(at) = job.start {
                self.at(WARM_UP + at, Task::Submit(entry));
            }
        }
        self.plan_timeline();
        self.at(WARM_UP, Task::Tick);
    }

    /// Lets the coordinator's core decide, and draws the consequences.
    pub(super) fn decide<T>(&mut self, decision: impl FnOnce(&mut Draft<'_>) -> T) -> T {
        let mut draft = Draft::new(&self.cluster, self.clock(), &self.policy);
        let answer = decision(&mut draft);
        let (cluster, changes) = draft.finish(&self.cluster);
        self.cluster = cluster;
        for change in changes {
            match change {
                Change::Node(node) => self.on_node(&node),
                Change::Job(job) => self.on_job(&job),
                Change::Counters(counters) => self.counters = counters,
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
        let submission = job.submission();
        let owner = job.scientist.clone();
        let admitted = Request::admit(&submission).map_err(|error| error.to_string());
        let array = Array::admit(&submission).map_err(|error| error.to_string());
        let submitted = admitted.and_then(|request| {
            let array = array?;
            let now = self.world.now();
            for index in 0..array.len() {
                let id = JobId(self.counters.job + index as u64);
                self.submissions.insert(id, Submission::new(entry, now));
            }
            let ids = self.decide(|draft| draft.submit_array(&owner, &request, &array));
            ids.map_err(|error| error.to_string())
        });
        match submitted {
            Ok(ids) => self.jobs[entry] = ids,
            Err(reason) => {
                self.submissions.retain(|_, job| job.entry != entry);
                self.fail(format!("job {}: {reason}", self.resolved.jobs[entry].name));
                // It counts as a job that has ended: the run can come to its end.
                self.jobs[entry] = vec![JobId(0)];
            }
        }
    }

    /// The coordinator looks at the clock; everybody who can has polled since the last time.
    pub(super) fn tick(&mut self) {
        let interval = self.resolved.coordinator.poll_interval;
        self.later(interval.max(INBOX), Task::Tick);
        if self.world.coordinator_away {
            return;
        }
        let now = self.clock();
        let (mut heard, mut back) = (Vec::with_capacity(self.agents.len()), Vec::new());
        for index in 0..self.agents.len() {
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
        let blocks = self.blocks();
        self.decide(|draft| {
            back.into_iter().for_each(|number| draft.heard(number));
            draft.tick(&heard, &blocks);
        });
    }

    /// Something has come in.
    pub(super) fn collect(&mut self) {
        if !std::mem::replace(&mut self.inbox_is_due, true) {
            self.later(INBOX, Task::Inbox);
        }
    }

    pub(super) fn take_inbox(&mut self) {
        self.inbox_is_due = false;
        let (inbox, opened) = (std::mem::take(&mut self.inbox), std::mem::take(&mut self.opened));
        let reports: Vec<_> = inbox
            .into_iter()
            .map(|(agent, job, generation, report)| {
                (self.agents[agent].number, job, generation, report)
            })
            .collect();
        self.decide(|draft| {
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
    pub(super) fn parts_of(&self, number: NodeNumber) -> Vec<(JobId, u32)> {
        let shares = self.cluster.node(number).into_iter().flat_map(|node| &node.shares);
        let launches = shares.filter_map(|share| {
            let launch = self.cluster.job(share.job)?.live_launch()?;
            let (_, part) = launch.part(number)?;
            (part.state == PartState::Acknowledged && part.killed.is_none())
                .then_some((share.job, launch.generation))
        });
        launches.collect()
    }

    /// What keeps meshes from opening.
    fn blocks(&self) -> Vec<MeshBlock> {
        let launches = self.launches.iter().filter(|(_, launch)| launch.opened_at.is_none());
        launches.filter_map(|(job, launch)| launch.block(*job, &self.agents)).collect()
    }

    fn on_node(&mut self, node: &Node) {
        let Some(index) = node.number.0.checked_sub(1).and_then(|n| usize::try_from(n).ok()) else {
            return;
        };
        let Some(agent) = self.agents.get_mut(index) else { return };
        if agent.state != node.state {
            agent.state = node.state;
            let (node, state) = (agent.name.clone(), format!("{:?}", node.state));
            self.tell(What::NodeState { node, state });
        }
        if !node.shares.is_empty() || !node.leftovers.is_empty() {
            self.poll_soon(index);
        }
    }

    fn on_job(&mut self, job: &Job) {
        let Some(submission) = self.submissions.get_mut(&job.id) else { return };
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
                job: job.id.0,
                command: request.command.clone(),
                nodes: wanted,
                types: names,
                walltime_s: Some(job.walltime_s()),
            });
        }
        if changed || is_new {
            self.tell(What::JobState {
                job: job.id.0,
                state: state.to_owned(),
                exit: job.exit_code.map(|status| status >> 8),
                message: job.last_word().map(|event| event.description.clone()).unwrap_or_default(),
            });
        }
        let running = self.launches.get(&job.id).map(|launch| launch.generation);
        let live = job.live_launch().map(|launch| launch.generation);
        if running.is_some() && running != live {
            self.end_launch(job.id);
        }
        if relaunched {
            self.begin_launch(job);
        }
        self.tell_ranks(job);
        self.tell_to_end(job);
        if changed {
            self.follow(job);
        }
    }

    /// Nodes that shall end their parts hear of it with their next polls.
    fn tell_to_end(&mut self, job: &Job) {
        let parts = job.live_launch().into_iter().flat_map(|launch| &launch.parts);
        for part in parts.filter(|part| part.killed.is_some() && !part.is_over()) {
            let index = part.node.0.checked_sub(1).and_then(|n| usize::try_from(n).ok());
            if let Some(index) = index.filter(|index| *index < self.agents.len()) {
                self.poll_soon(index);
            }
        }
    }

    fn tell_ranks(&mut self, job: &Job) {
        let Some(launch) = &job.launch else { return };
        let Some(submission) = self.submissions.get_mut(&job.id) else { return };
        submission.ranks.resize(launch.parts.len(), "");
        let mut told = Vec::new();
        for (rank, (part, last)) in launch.parts.iter().zip(&mut submission.ranks).enumerate() {
            let state = rank_word(&part.state);
            if std::mem::replace(last, state) != state {
                told.push((rank, part.node, state));
            }
        }
        for (rank, node, state) in told {
            self.tell(What::RankState {
                job: job.id.0,
                generation: launch.generation,
                rank: u32::try_from(rank).unwrap_or(u32::MAX),
                node: node.to_string(),
                state: state.to_owned(),
                exit: None,
            });
        }
    }

    /// What follows from a job's new state.
    fn follow(&mut self, job: &Job) {
        let now = self.world.now();
        let entry = {
            let Some(submission) = self.submissions.get_mut(&job.id) else { return };
            if job.state.is_final() {
                submission.ended = Some(now);
                submission.terminated = job.state == JobState::Terminated;
            }
            submission.entry
        };
        if job.state == JobState::Running {
            let generation = job.generation;
            self.later(CONTROL_DELAY, Task::Begin { job: job.id, generation });
        }
        self.happened_to(entry, job.state);
    }

    /// The coordinator starts again with what it has stored.
    pub(super) fn reload(&mut self) {
        let nodes: Vec<Node> = self.cluster.nodes().map(|node| (**node).clone()).collect();
        let jobs: Vec<Job> = self.cluster.jobs().map(|job| (**job).clone()).collect();
        let usage = self.cluster.usage().clone();
        self.cluster = Cluster::load(nodes, jobs, self.counters, usage, self.clock(), &self.policy);
    }

    pub(super) fn fail(&mut self, text: String) {
        self.tell(What::Failure { text: text.clone() });
        self.failures.push(text);
    }
}

impl Submission {
    fn new(entry: usize, at: std::time::Duration) -> Self {
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
