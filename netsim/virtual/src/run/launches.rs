//! Launches: their meshes, and what the jobs do in place of their commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_core::{Job, JobId, MeshBlock, Report};
use netsim_report::{PathKind, Sample, What};
use netsim_sim::Prediction;
use overlay_core::{PairState, Path, Pattern, SessionKey};

use super::agents::{Agent, STAGE_OUT, launch as launch_of, mesh};
use super::{JobAt, Run, Task, seconds};
use crate::wireguard::Inner;
use crate::world::CONTROL_DELAY;

/// How long a job without `sleep` in its command takes beside its exchange. Chosen.
const RUN_TIME: Duration = Duration::from_secs(1);

/// How often a pair sends a burst, and how large: 4 Mbit/s and pair. Chosen: below what the slowest
/// link of a small mesh carries, as a transport that finds its rate would be.
const BURST_EVERY: Duration = Duration::from_millis(20);
const BURST: u32 = 8;
const BURST_BYTES: u32 = 1_200;

/// A launch that is on its way or running.
#[derive(Debug)]
pub(super) struct LaunchRun {
    pub(super) generation: u32,
    pub(super) is_mesh: bool,
    pub(super) opened_at: Option<Duration>,
    /// The agents in the order of their ranks.
    members: Vec<usize>,
    is_spmd: bool,
    assigned: Duration,
    joined: BTreeSet<usize>,
    pattern: Option<Pattern>,
    /// The ordered pairs that are settled, of those that must be.
    settled: BTreeSet<(usize, usize)>,
    to_settle: usize,
    told_open: bool,
    pairs: BTreeMap<(usize, usize), PairEnd>,
    exchange: Option<Exchange>,
}

/// What a rank knows of its pair with another one.
#[derive(Clone, Debug, Default)]
pub(super) struct PairEnd {
    pub(super) path: PathKind,
    pub(super) via: Option<Path>,
    pub(super) rtt_us: Option<u64>,
    pub(super) first_byte: Option<Duration>,
    pub(super) received: u64,
}

/// What is left of a launch that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) members: Vec<usize>,
    pub(super) pairs: BTreeMap<(usize, usize), PairEnd>,
    pub(super) time_to_mesh: Option<Duration>,
}

#[derive(Debug)]
struct Exchange {
    bytes: u64,
    /// The ordered pairs, as agents, that have not carried them yet.
    pairs: Vec<(usize, usize)>,
    not_before: Duration,
}

impl LaunchRun {
    /// Why the mesh is not open.
    pub(super) fn block(&self, job: JobId, agents: &[Agent]) -> Option<MeshBlock> {
        let absent = self.members.iter().filter(|agent| !self.joined.contains(agent));
        let faulty: Vec<_> = absent.map(|agent| agents[*agent].number).collect();
        if !self.is_mesh {
            return None;
        }
        let reason = if faulty.is_empty() {
            let missing = self.to_settle - self.settled.len();
            format!("{missing} of {} pairs have no settled path", self.to_settle)
        } else {
            let names: Vec<_> = faulty.iter().map(ToString::to_string).collect();
            format!("{} never joined", names.join(", "))
        };
        Some(MeshBlock { job, reason, faulty })
    }

    fn joins(&self, a: usize, b: usize) -> bool {
        self.pattern.is_none_or(|pattern| pattern.joins(a, b, self.members.len()))
    }
}

impl Run<'_> {
    /// The scheduler has given nodes to a job.
    pub(super) fn begin_launch(&mut self, at: JobAt, job: &Job) {
        let Some(launch) = job.live_launch() else { return };
        let coordinator = &self.coordinators[at.server];
        let members = launch.parts.iter().filter_map(|part| coordinator.agent(part.node));
        let members: Vec<usize> = members.collect();
        if let Some(submission) = self.submissions.get_mut(&at) {
            submission.generation = launch.generation;
            submission.ranks.clear();
        }
        let mut run = LaunchRun {
            generation: launch.generation,
            is_mesh: job.is_mesh(),
            opened_at: None,
            is_spmd: job.request.types.spmd,
            assigned: self.world.now(),
            joined: BTreeSet::new(),
            pattern: Some(job.request.types.pattern),
            settled: BTreeSet::new(),
            to_settle: 0,
            told_open: false,
            pairs: BTreeMap::new(),
            exchange: None,
            members,
        };
        let ranks = run.members.len();
        let ordered = (0..ranks).flat_map(|a| (0..ranks).map(move |b| (a, b)));
        run.to_settle = ordered.filter(|(a, b)| a != b && run.joins(*a, *b)).count();
        if run.is_mesh {
            self.predict(&run.members);
        }
        self.launches.insert(at, run);
    }

    /// What the oracle says of the pairs of a mesh.
    fn predict(&mut self, members: &[usize]) {
        for (index, a) in members.iter().enumerate() {
            for b in &members[index + 1..] {
                let Some(expected) = self.prediction(*a, *b) else { continue };
                let (from, to) = (self.agents[*a].name.clone(), self.agents[*b].name.clone());
                self.tell(super::predicted(from, to, expected));
            }
        }
    }

    /// What the oracle says of two volunteers where they stand now.
    pub(super) fn prediction(&self, a: usize, b: usize) -> Option<Prediction> {
        self.oracle.predict(&self.agents[a].name, &self.agents[b].name).ok()
    }

    /// The word that an agent has joined has arrived.
    pub(super) fn joined(&mut self, agent: usize, job: JobAt, generation: u32) {
        if self.world.servers[job.server].away || !self.has_part(agent, job, generation) {
            return;
        }
        let Some(launch) = self.live(job, generation) else { return };
        launch.joined.insert(agent);
        if launch.joined.len() == launch.members.len() {
            let (members, pattern) = (launch.members.clone(), launch.pattern);
            self.world.introduce(mesh(job, generation), &members, pattern, true);
            self.open_if_settled(job, generation);
        }
    }

    fn live(&mut self, job: JobAt, generation: u32) -> Option<&mut LaunchRun> {
        self.launches.get_mut(&job).filter(|launch| launch.generation == generation)
    }

    /// A node says how it sees a pair.
    pub(super) fn on_pair(
        &mut self,
        at: Duration,
        node: usize,
        session: SessionKey,
        state: &PairState,
    ) {
        let (job, generation) = launch_of(session.mesh);
        let Some(peer) = self.agent_of.get(&session.peer).copied() else { return };
        let Some(launch) = self.live(job, generation) else { return };
        let rank = |agent: usize| launch.members.iter().position(|member| *member == agent);
        let (Some(from), Some(to)) = (rank(node), rank(peer)) else { return };
        if launch.joins(from, to) {
            if state.established && state.settled {
                launch.settled.insert((from, to));
            } else if launch.opened_at.is_none() {
                launch.settled.remove(&(from, to));
            }
        }
        // As an agent does, it speaks of the pair as soon as it knows of it, without any path.
        let is_new = !launch.pairs.contains_key(&(from, to));
        let pair = launch.pairs.entry((from, to)).or_default();
        let kind = kind(state.path);
        let changed = std::mem::replace(&mut pair.path, kind) != kind || is_new;
        pair.via = state.path;
        pair.rtt_us = state.rtt_us;
        if state.established && pair.first_byte.is_none() {
            pair.first_byte = Some(at.saturating_sub(launch.assigned));
        }
        if changed {
            let via = state.path.map(|path| match path {
                Path::Direct(to) => to.to_string(),
                Path::Relayed { relay, .. } => relay.to_string(),
            });
            self.tell(What::Path {
                job: self.key(job),
                from: self.agents[node].name.clone(),
                to: self.agents[peer].name.clone(),
                path: kind,
                via,
                rtt_ms: state.rtt_us.map(|us| us as f64 / 1e3),
                explain: state.explain.clone(),
            });
        }
        self.open_if_settled(job, generation);
    }

    fn open_if_settled(&mut self, job: JobAt, generation: u32) {
        let Some(launch) = self.live(job, generation) else { return };
        let all_there = launch.joined.len() == launch.members.len();
        if all_there && launch.settled.len() == launch.to_settle && !launch.told_open {
            launch.told_open = true;
            self.later(CONTROL_DELAY, Task::Opened { job, generation });
        }
    }

    /// The job runs: its commands begin, and the mesh has been open.
    pub(super) fn begin(&mut self, job: JobAt, generation: u32) {
        let now = self.world.now();
        let Some(submission) = self.submissions.get_mut(&job) else { return };
        submission.began = Some(now);
        let wanted = &self.resolved.jobs[submission.entry];
        let (bytes, takes) = (wanted.expect.pair_bytes.0, run_time(&wanted.command));
        let Some(launch) = self.live(job, generation) else { return };
        let ranks = launch.members.len();
        let pairs = (0..ranks).flat_map(|a| (0..ranks).map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| a != b && launch.is_mesh && launch.joins(*a, *b));
        let pairs = pairs.map(|(a, b)| (launch.members[a], launch.members[b])).collect();
        let bytes = bytes.max(BURST_BYTES.into());
        launch.exchange = Some(Exchange { bytes, pairs, not_before: now + takes });
        if launch.is_mesh {
            launch.opened_at = Some(now);
            let after_s = seconds(now.saturating_sub(launch.assigned));
            let members = launch.members.clone();
            let members = members.iter().map(|agent| self.agents[*agent].name.clone()).collect();
            self.tell(What::MeshOpen { job: self.key(job), generation, after_s, members });
        }
        self.exchange(job, generation);
    }

    /// The pairs that have not carried everything yet send a burst; then the job ends.
    pub(super) fn exchange(&mut self, job: JobAt, generation: u32) {
        let now = self.world.now();
        let mesh = mesh(job, generation);
        let Some(launch) = self.launches.get_mut(&job).filter(|it| it.generation == generation)
        else {
            return;
        };
        let Some(Exchange { bytes, pairs, not_before }) = &mut launch.exchange else { return };
        let world = &mut self.world;
        let arrived = |world: &crate::World, from: usize, to: usize| {
            let key = world.key(mesh, from);
            world.nodes[to].bulk.get(&key).copied().unwrap_or(0)
        };
        pairs.retain(|(from, to)| arrived(world, *from, *to) < *bytes);
        if pairs.is_empty() {
            if now < *not_before {
                let at = *not_before;
                return self.at(at, Task::Exchange { job, generation });
            }
            return self.end_commands(job, generation);
        }
        for (from, to) in pairs.iter() {
            let left = bytes.saturating_sub(arrived(world, *from, *to));
            let packets = left.div_ceil(BURST_BYTES.into()).min(BURST.into());
            for _ in 0..packets {
                world.send_inner(mesh, *from, *to, Inner::Bulk(BURST_BYTES));
            }
        }
        self.later(BURST_EVERY, Task::Exchange { job, generation });
    }

    /// The command ends on all nodes (spmd) or on the first.
    fn end_commands(&mut self, job: JobAt, generation: u32) {
        self.take_stock(job);
        let Some(launch) = self.live(job, generation) else { return };
        launch.exchange = None;
        let last = if launch.is_spmd { launch.members.len() } else { 1 };
        let ending: Vec<usize> = launch.members[..last].to_vec();
        for agent in ending {
            if self.has_part(agent, job, generation) && self.runs(agent) {
                self.leave(agent, job, generation);
                let report = Report::Terminated { exit_code: Some(0) };
                self.report(agent, job, generation, report, STAGE_OUT);
            }
        }
    }

    /// Reads what the pairs have carried, while the sessions are there.
    fn take_stock(&mut self, job: JobAt) {
        let Some(launch) = self.launches.get_mut(&job) else { return };
        let mesh = mesh(job, launch.generation);
        let mut samples = Vec::new();
        for (from_rank, from) in launch.members.iter().enumerate() {
            for (to_rank, to) in launch.members.iter().enumerate() {
                let key = self.world.key(mesh, *from);
                let Some(bytes) = self.world.nodes[*to].bulk.get(&key).copied() else { continue };
                launch.pairs.entry((from_rank, to_rank)).or_default().received = bytes;
                samples.push((*from, *to, bytes));
            }
        }
        for (from, to, sent) in samples {
            let (from, to) = (self.agents[from].name.clone(), self.agents[to].name.clone());
            self.tell(What::Sample(Sample::PairBytes { job: self.key(job), from, to, sent }));
        }
    }

    /// The coordinator has ended a launch, well or not.
    pub(super) fn end_launch(&mut self, job: JobAt) {
        let Some(launch) = self.launches.remove(&job) else { return };
        self.world.dissolve(mesh(job, launch.generation));
        let time_to_mesh = launch.opened_at.map(|at| at.saturating_sub(launch.assigned));
        let LaunchRun { members, pairs, .. } = launch;
        self.finished.insert(job, Finished { members, pairs, time_to_mesh });
    }
}

fn kind(path: Option<Path>) -> PathKind {
    match path {
        None => PathKind::None,
        Some(Path::Direct(_)) => PathKind::Direct,
        Some(Path::Relayed { .. }) => PathKind::Relayed,
    }
}

/// As long as `sleep N` says.
fn run_time(command: &str) -> Duration {
    let mut words = command.split_whitespace().skip_while(|word| *word != "sleep").skip(1);
    let seconds = words.next().and_then(|word| word.trim_end_matches(';').parse::<f64>().ok());
    let slept = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    slept.unwrap_or(RUN_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_understood() {
        assert_eq!(run_time("sleep 30"), Duration::from_secs(30));
        assert_eq!(run_time("echo hello && sleep 0.5; echo bye"), Duration::from_millis(500));
        assert_eq!(run_time("./nqueens 15"), RUN_TIME);
        assert_eq!(run_time("sleep forever"), RUN_TIME);
    }
}
