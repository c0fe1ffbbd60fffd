//! The agents: they poll, take jobs, join meshes, report.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_api::agent::Fault;
use coordinator_api::resource::ResourceState;
use coordinator_core::{JobId, NodeNumber, Report};
use netsim_scenario::resolved::Volunteer;
use netsim_sim::HostId;
use overlay_core::{Input, MeshId};

use super::{JobAt, Run, Task, What};
use crate::world::CONTROL_DELAY;

/// From taking a job to joining its mesh: stage-in, sandbox. Chosen.
const STAGE_IN: Duration = Duration::from_millis(300);

/// From the end of the command to the report of it: stage-out. Chosen.
pub(super) const STAGE_OUT: Duration = Duration::from_millis(100);

/// Until a report that did not get through is repeated. As the agent's first retry.
const RETRY: Duration = Duration::from_secs(1);

/// An agent. Its index is that of its node in the world, and of its volunteer in the scenario.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) name: String,
    /// Its coordinator.
    pub(super) server: usize,
    /// Its number there.
    pub(super) number: NodeNumber,
    pub(super) cores: u16,
    /// Whether its machine comes and goes by the scenario's churn.
    pub(super) churns: bool,
    /// What the coordinator was last told to think of it.
    pub(super) state: ResourceState,
    /// Polls come at this time after each whole interval.
    phase: Duration,
    is_polling: bool,
    /// The parts of jobs that it has taken: whether it is in the mesh.
    parts: BTreeMap<(JobAt, u32), bool>,
}

impl Agent {
    /// The machine has lost its power.
    pub(super) fn lose_everything(&mut self) {
        self.parts.clear();
    }
}

impl Run<'_> {
    pub(super) fn add_agent(
        &mut self,
        volunteer: &Volunteer,
        host: HostId,
        (is_on, churns): (bool, bool),
    ) {
        if !is_on {
            self.world.net.apply(netsim_sim::Change::Kill(host));
        }
        let server = self.resolved.place_of(&volunteer.coordinator);
        let index = self.world.add_node_of(server, host);
        let coordinator = &mut self.coordinators[server];
        coordinator.agents.push(index);
        self.agent_of.insert(self.world.nodes[index].id, index);
        // A hash of the number spreads the polls over the interval.
        let spread = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let share = spread as f64 / (1u64 << 24) as f64;
        self.agents.push(Agent {
            name: volunteer.host.clone(),
            server,
            number: NodeNumber(coordinator.agents.len() as u64),
            cores: u16::try_from(volunteer.cores).unwrap_or(u16::MAX),
            churns,
            state: ResourceState::Alive,
            phase: coordinator.poll_interval.mul_f64(share),
            is_polling: false,
            parts: BTreeMap::new(),
        });
    }

    /// The agent's next poll is of interest: there is something for it.
    pub(super) fn poll_soon(&mut self, agent: usize) {
        let Agent { server, phase, is_polling, .. } = &mut self.agents[agent];
        if std::mem::replace(is_polling, true) {
            return;
        }
        let interval = self.coordinators[*server].poll_interval.max(Duration::from_millis(1));
        let earliest = self.world.now() + CONTROL_DELAY;
        let since = earliest.saturating_sub(*phase).as_nanos();
        let whole = since.div_ceil(interval.as_nanos()).max(1);
        let at = *phase + interval * u32::try_from(whole).unwrap_or(u32::MAX);
        self.at(at.max(earliest), Task::Poll(agent));
    }

    pub(super) fn poll(&mut self, index: usize) {
        self.agents[index].is_polling = false;
        if !self.runs(index) {
            // It asks when it starts or goes on.
            return;
        }
        if !self.reaches_coordinator(index) {
            return self.poll_soon(index);
        }
        let Agent { server, number, state, .. } = self.agents[index];
        if state != ResourceState::Alive {
            self.decide(server, |draft| draft.heard(number));
        }
        for (id, generation) in self.coordinators[server].cluster.to_launch(number) {
            let job = JobAt { server, id };
            self.agents[index].parts.insert((job, generation), false);
            self.report(index, job, generation, Report::Running, Duration::ZERO);
            if self.launches.get(&job).is_some_and(|launch| launch.is_mesh) {
                self.later(STAGE_IN, Task::Join { agent: index, job, generation });
            }
        }
        for (id, generation) in self.coordinators[server].cluster.to_kill(number) {
            let job = JobAt { server, id };
            let known = self.leave(index, job, generation);
            let message = if known { "ended as told" } else { "it is not here any more" };
            let report = Report::Error { fault: Fault::Killed, message: message.to_owned() };
            self.report(index, job, generation, report, STAGE_OUT);
        }
        // What it has taken before it lost its power.
        for (job, generation) in self.parts_of(server, number) {
            if !self.agents[index].parts.contains_key(&(job, generation)) {
                let message = "the machine has started again".to_owned();
                let report = Report::Error { fault: Fault::Node, message };
                self.report(index, job, generation, report, Duration::ZERO);
            }
        }
    }

    pub(super) fn reaches_coordinator(&self, agent: usize) -> bool {
        let node = &self.world.nodes[agent];
        !self.world.servers[node.server].away
            && node.welcomed
            && self.world.net.is_connected(node.host)
    }

    pub(super) fn report(
        &mut self,
        agent: usize,
        job: JobAt,
        generation: u32,
        report: Report,
        after: Duration,
    ) {
        self.later(after + CONTROL_DELAY, Task::Report { agent, job, generation, report });
    }

    /// A report is there, if the agent still is.
    pub(super) fn arrive(&mut self, agent: usize, job: JobAt, generation: u32, report: Report) {
        if !self.runs(agent) {
            return;
        }
        if self.reaches_coordinator(agent) {
            let coordinator = &mut self.coordinators[job.server];
            coordinator.inbox.push((agent, job.id, generation, report));
            self.collect(job.server);
        } else {
            self.report(agent, job, generation, report, RETRY);
        }
    }

    pub(super) fn join(&mut self, agent: usize, job: JobAt, generation: u32) {
        let Some(joined) = self.agents[agent].parts.get_mut(&(job, generation)) else { return };
        *joined = true;
        self.world.input(agent, Input::JoinMesh(mesh(job, generation)));
        self.later(CONTROL_DELAY, Task::Joined { agent, job, generation });
    }

    /// The agent's part is over. Whether it had one.
    pub(super) fn leave(&mut self, agent: usize, job: JobAt, generation: u32) -> bool {
        let part = self.agents[agent].parts.remove(&(job, generation));
        if part == Some(true) {
            self.world.input(agent, Input::LeaveMesh(mesh(job, generation)));
        }
        part.is_some()
    }

    pub(super) fn has_part(&self, agent: usize, job: JobAt, generation: u32) -> bool {
        self.agents[agent].parts.contains_key(&(job, generation))
    }

    /// Tells who is there at the beginning.
    pub(super) fn tell_who_is_up(&mut self) {
        for index in 0..self.agents.len() {
            let node = self.agents[index].name.clone();
            if self.runs(index) {
                self.tell(What::Up { node });
            } else {
                self.tell(What::Churn { node, available: false });
            }
        }
    }
}

/// Bits of a job's number that are left beside its coordinator's in the name of a mesh.
const NUMBER_BITS: u32 = 48;

/// The mesh of a launch. A world has meshes of all coordinators, whose jobs have the same numbers.
pub(super) fn mesh(job: JobAt, generation: u32) -> MeshId {
    MeshId { job: (job.server as u64) << NUMBER_BITS | job.id.0, generation }
}

/// The launch of a mesh.
pub(super) fn launch(mesh: MeshId) -> (JobAt, u32) {
    let server = usize::try_from(mesh.job >> NUMBER_BITS).unwrap_or(usize::MAX);
    let id = JobId(mesh.job & ((1 << NUMBER_BITS) - 1));
    (JobAt { server, id }, mesh.generation)
}
