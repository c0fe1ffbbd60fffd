//! A cluster with a clock, and the rows that a store would hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_api::agent::Fault;
use coordinator_api::job::{JobState, OneOrMany, SubmitJob};
use coordinator_core::{
    Actor, Change, Cluster, Counters, DeleteRefusal, Depth, Draft, EventKind, Job, JobId,
    MeshBlock, Node, NodeNumber, PartState, Policy, Report, ReportRefusal, Request, SubmitRefusal,
    UnixMillis, Usage, UsageKey, Used, plan,
};

pub(crate) const OK: Report = Report::Terminated { exit_code: Some(0) };

/// The cores of each node.
pub(crate) const CORES: u16 = 4;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) now: UnixMillis,
    pub(crate) policy: Policy,
    /// Rows as stored: all jobs, also those that have ended.
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) nodes: BTreeMap<NodeNumber, Node>,
    pub(crate) counters: Counters,
    pub(crate) usage: BTreeMap<UsageKey, Used>,
}

impl World {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            now: UnixMillis(1_800_000_000_000),
            policy: Policy::default(),
            jobs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            counters: Counters::default(),
            usage: BTreeMap::new(),
        };
        for _ in 0..nodes {
            world.enrol();
        }
        world
    }

    /// Decides, stores, and checks what must always hold.
    pub(crate) fn decide<T, E>(
        &mut self,
        decision: impl FnOnce(&mut Draft<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut draft = Draft::new(&self.cluster, self.now, &self.policy);
        let answer = decision(&mut draft)?;
        let (cluster, changes) = draft.finish(&self.cluster);
        for change in changes {
            match change {
                Change::Node(node) => {
                    self.nodes.insert(node.number, (*node).clone());
                }
                Change::Job(job) => self.store_job(&job),
                Change::Counters(counters) => self.counters = counters,
                Change::Usage(key, used) => drop(self.usage.insert(key, used)),
            }
        }
        self.cluster = cluster;
        self.check();
        Ok(answer)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::load(self.usage.clone())
    }

    pub(crate) fn apply(&mut self, decision: impl FnOnce(&mut Draft<'_>)) {
        let done = self.decide(|draft| {
            decision(draft);
            Ok::<(), ()>(())
        });
        assert_eq!(done, Ok(()));
    }

    fn store_job(&mut self, job: &Job) {
        if let Some(old) = self.jobs.insert(job.id, job.clone()) {
            assert!(!old.state.is_final(), "job {} changed after its end", job.id);
            assert!(job.generation >= old.generation, "job {} went back a generation", job.id);
            assert!(job.failed_launches >= old.failed_launches);
        }
    }

    /// What must hold after each decision.
    fn check(&self) {
        for job in self.cluster.jobs() {
            assert!(!job.state.is_final(), "job {} has ended and is still here", job.id);
            assert_eq!(self.jobs.get(&job.id), Some(&**job), "the row of job {}", job.id);
            let waits = matches!(job.state, JobState::Waiting | JobState::Hold);
            assert_eq!(job.launch.is_none(), waits, "job {}", job.id);
            for part in job.launch.iter().flat_map(|launch| &launch.parts) {
                let node = self.cluster.node(part.node).expect("the node of a part");
                let holds = node.shares.iter().any(|share| share.job == job.id);
                assert_eq!(holds, !part.is_over(), "{} and job {}", part.node, job.id);
            }
        }
        for node in self.cluster.nodes() {
            let mut taken = BTreeSet::new();
            for share in &node.shares {
                let job = self.cluster.job(share.job).expect("the job of a node");
                let launch = job.live_launch().expect("the launch of a node");
                let (_, part) = launch.part(node.number).expect("the node's part, or it is leaked");
                assert_eq!(part.cores, share.cores, "{} and job {}", node.number, job.id);
                for core in &share.cores {
                    assert!(
                        *core < node.cores && taken.insert(*core),
                        "core {core} is in two jobs"
                    );
                }
            }
            for left in &node.leftovers {
                let launch = self.cluster.job(left.job).and_then(|job| job.live_launch());
                let part = launch.filter(|launch| launch.generation == left.generation);
                let part = part.and_then(|launch| launch.part(node.number));
                assert!(part.is_none_or(|(_, part)| part.is_over()), "{left:?} is still live");
            }
            let row = self.nodes.get(&node.number).expect("the row of a node");
            assert_eq!((row.state, &row.shares), (node.state, &node.shares));
            assert_eq!(row.leftovers, node.leftovers);
        }
        let plan = plan(&self.cluster, self.now, &self.policy, Depth::Launches);
        assert_eq!((plan.launches, plan.evictions), (vec![], vec![]), "a job waits without need");
    }

    pub(crate) fn enrol(&mut self) -> NodeNumber {
        self.decide(|draft| Ok::<_, ()>(draft.enrol(CORES, 2_048))).unwrap()
    }

    pub(crate) fn try_submit(
        &mut self,
        nodes: u16,
        types: &[&str],
    ) -> Result<JobId, SubmitRefusal> {
        self.try_request(&format!("nodes={nodes}"), types)
    }

    /// Submits what `change` makes of an ordinary job.
    pub(crate) fn submit_as(
        &mut self,
        user: &str,
        resource: &str,
        change: impl FnOnce(&mut SubmitJob),
    ) -> Result<JobId, SubmitRefusal> {
        let mut submission = SubmitJob {
            command: "true".to_owned(),
            resource: OneOrMany(vec![resource.to_owned()]),
            ..SubmitJob::default()
        };
        change(&mut submission);
        let request = Request::admit(&submission).unwrap();
        self.decide(|draft| draft.submit(user, request))
    }

    /// Submits a job with that `-l`, but for the walltime of an hour.
    pub(crate) fn try_request(
        &mut self,
        levels: &str,
        types: &[&str],
    ) -> Result<JobId, SubmitRefusal> {
        let submission = SubmitJob {
            command: "true".to_owned(),
            resource: OneOrMany(vec![format!("{levels},walltime=1")]),
            types: OneOrMany(types.iter().map(|&name| name.to_owned()).collect()),
            ..SubmitJob::default()
        };
        let request = Request::admit(&submission).unwrap();
        self.decide(|draft| draft.submit("alice", request))
    }

    pub(crate) fn submit(&mut self, nodes: u16, types: &[&str]) -> JobId {
        self.try_submit(nodes, types).unwrap()
    }

    pub(crate) fn delete(&mut self, id: JobId) -> Result<(), DeleteRefusal> {
        self.decide(|draft| draft.delete(&Actor::user("alice"), id))
    }

    /// The report of a node on the current generation of a job.
    pub(crate) fn report(
        &mut self,
        node: u64,
        id: JobId,
        report: Report,
    ) -> Result<(), ReportRefusal> {
        let generation = self.jobs[&id].generation;
        self.report_of(node, id, generation, report)
    }

    pub(crate) fn report_of(
        &mut self,
        node: u64,
        id: JobId,
        generation: u32,
        report: Report,
    ) -> Result<(), ReportRefusal> {
        self.decide(|draft| draft.report(NodeNumber(node), id, generation, report))
    }

    pub(crate) fn acknowledge(&mut self, id: JobId, nodes: impl IntoIterator<Item = u64>) {
        for node in nodes {
            self.report(node, id, Report::Running).unwrap();
        }
    }

    pub(crate) fn open_mesh(&mut self, id: JobId) {
        self.open_mesh_of(id, self.jobs[&id].generation);
    }

    pub(crate) fn open_mesh_of(&mut self, id: JobId, generation: u32) {
        self.apply(|draft| draft.mesh_opened(id, generation));
    }

    /// Lets time pass in which these nodes go on polling.
    pub(crate) fn pass(&mut self, seconds: u64, polling: impl IntoIterator<Item = u64>) {
        self.pass_blocked(seconds, polling, &[]);
    }

    pub(crate) fn pass_blocked(
        &mut self,
        seconds: u64,
        polling: impl IntoIterator<Item = u64>,
        blocks: &[MeshBlock],
    ) {
        self.now = self.now + Duration::from_secs(seconds);
        let now = self.now;
        let heard: Vec<_> = polling.into_iter().map(|node| (NodeNumber(node), now)).collect();
        self.apply(|draft| draft.tick(&heard, blocks));
    }

    pub(crate) fn heard(&mut self, node: u64) {
        self.apply(|draft| draft.heard(NodeNumber(node)));
    }

    pub(crate) fn state(&self, id: JobId) -> JobState {
        self.jobs[&id].state
    }

    pub(crate) fn nodes_of(&self, id: JobId) -> Vec<u64> {
        let launch = self.jobs[&id].launch.iter().flat_map(|launch| &launch.parts);
        launch.map(|part| part.node.0).collect()
    }

    pub(crate) fn to_kill(&self, node: u64) -> Vec<(JobId, u32)> {
        self.cluster.to_kill(NodeNumber(node))
    }

    pub(crate) fn to_launch(&self, node: u64) -> Option<(JobId, u32)> {
        self.cluster.to_launch(NodeNumber(node)).into_iter().next()
    }

    pub(crate) fn is_free(&self, node: u64) -> bool {
        self.cluster.node(NodeNumber(node)).unwrap().free_cores().len() == usize::from(CORES)
    }

    pub(crate) fn kinds(&self, id: JobId) -> Vec<EventKind> {
        self.jobs[&id].events.iter().map(|event| event.kind).collect()
    }

    pub(crate) fn part(&self, id: JobId, rank: usize) -> PartState {
        self.jobs[&id].launch.as_ref().unwrap().parts[rank].state.clone()
    }
}

pub(crate) fn failed(fault: Fault, message: &str) -> Report {
    Report::Error { fault, message: message.to_owned() }
}

/// A raw wait status.
pub(crate) fn exit(code: i32) -> Report {
    Report::Terminated { exit_code: Some(code << 8) }
}
