//! What a coordinator says about jobs and nodes while a run goes on, asked on a thread of its own.
//!
//! The thread stands on the machine of the coordinator's first scientist, keeps one connection, and goes on asking when the
//! coordinator is away. What it learns goes to the event log, and as [`News`] to the conductor.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coordinator_api::job::{Job, JobState};
use coordinator_api::mesh::JobMesh;
use coordinator_client::client::JobFilter;
use coordinator_client::{Client, ClientError};
use netsim_report::{JobKey, Recorder, What};

use super::mesh_log::{NewPairs, Openings};
use super::oracle::Predictions;
use crate::world::Scientist;

/// How often jobs are looked at.
const JOBS_EVERY: Duration = Duration::from_millis(150);
/// How often networks of running jobs and the states of nodes are looked at.
const MESHES_EVERY: Duration = Duration::from_millis(500);
/// Looking may take this share of the time at most, so that what is measured is not the measuring.
const SHARE_OF_TIME: u32 = 5;
/// But no pause is longer: an answer that was slow once is no reason to miss what happens.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the last reports about a network are waited for.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// The most jobs that are asked for at once: the coordinator's page.
const PAGE: usize = 500;

/// Something that the conductor acts on.
#[derive(Debug)]
pub(crate) enum News {
    /// A job is in another state than before, and has not ended.
    Changed(JobKey, Box<Job>),
    /// A job has ended; the network that it had, if it had one.
    Ended(JobKey, Box<Job>, Option<Box<JobMesh>>),
}

/// A watch under way, of all coordinators. Dropping it ends it.
pub(crate) struct Watch {
    recorder: Recorder,
    news: Receiver<News>,
    watched: Vec<Watched>,
}

/// A coordinator that is watched.
struct Watched {
    coordinator: String,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    is_over: bool,
    /// The jobs that are watched, with the state that was seen last, and when that was: seconds since the
    /// start of the run.
    jobs: BTreeMap<u64, (Option<JobState>, f64)>,
}

impl Watch {
    /// Begins to watch as these scientists, one of each coordinator, who must be logged in.
    pub(crate) fn start<'a>(
        scientists: impl Iterator<Item = &'a Scientist>,
        machines: &Predictions,
        recorder: &Recorder,
    ) -> anyhow::Result<Self> {
        let (to, news) = channel();
        let mut watch = Self { recorder: recorder.clone(), news, watched: Vec::new() };
        for scientist in scientists {
            let watched = Watched::start(scientist, machines, recorder, &to)?;
            watch.watched.push(watched);
        }
        Ok(watch)
    }

    /// Watches these jobs of a coordinator, until they have ended.
    pub(crate) fn add(&self, coordinator: &str, jobs: &[u64]) {
        let now = self.recorder.now();
        for watched in self.watched.iter().filter(|it| it.coordinator == coordinator) {
            lock(&watched.shared).jobs.extend(jobs.iter().map(|id| (*id, (None, now))));
        }
    }

    /// Waits for news, no longer than `limit`; returns all that there are.
    pub(crate) fn wait(&self, limit: Duration) -> anyhow::Result<Vec<News>> {
        let first = self.news.recv_timeout(limit).ok();
        let news: Vec<News> = first.into_iter().chain(self.news.try_iter()).collect();
        let has_ended = |it: &Watched| it.thread.as_ref().is_none_or(|thread| thread.is_finished());
        match self.watched.iter().find(|it| has_ended(it)) {
            Some(it) if news.is_empty() => {
                anyhow::bail!("the watch of the jobs of {} has ended", it.coordinator)
            }
            Some(_) | None => Ok(news),
        }
    }
}

impl Watched {
    fn start(
        scientist: &Scientist,
        machines: &Predictions,
        recorder: &Recorder,
        to: &Sender<News>,
    ) -> anyhow::Result<Self> {
        let login = scientist.login().context("nobody is logged in")?.clone();
        let coordinator = scientist.coordinator.clone();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (watched, of) = (Arc::clone(&shared), coordinator.clone());
        let (machines, recorder, to) = (machines.clone(), recorder.clone(), to.clone());
        let thread = scientist.machine.netns.spawn("watch", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (Ok(runtime), Ok(client)) = (runtime, Client::for_login(&login)) else { return };
            let watcher = Watcher {
                coordinator: of,
                client,
                shared: watched,
                to,
                recorder,
                machines,
                meshes: BTreeMap::new(),
                pairs: NewPairs::default(),
                nodes: BTreeMap::new(),
            };
            runtime.block_on(watcher.watch());
        })?;
        Ok(Self { coordinator, shared, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watched.iter().for_each(|it| lock(&it.shared).is_over = true);
        for thread in self.watched.iter_mut().filter_map(|it| it.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watcher {
    coordinator: String,
    client: Client,
    shared: Arc<Mutex<Shared>>,
    to: Sender<News>,
    recorder: Recorder,
    machines: Predictions,
    meshes: BTreeMap<u64, Openings>,
    pairs: NewPairs,
    nodes: BTreeMap<String, String>,
}

impl Watcher {
    async fn watch(mut self) {
        let (mut meshes_at, mut pause) = (Instant::now(), JOBS_EVERY);
        loop {
            tokio::time::sleep(pause).await;
            if lock(&self.shared).is_over {
                return;
            }
            let started = Instant::now();
            // A coordinator that is away answers later.
            if let Err(error) = self.look_at_jobs().await {
                tracing::debug!(%error, "the jobs' states are unknown");
            }
            if meshes_at <= Instant::now() {
                if let Err(error) = self.look_at_networks().await {
                    tracing::debug!(%error, "the networks' states are unknown");
                }
                meshes_at = started + MESHES_EVERY.max(started.elapsed() * SHARE_OF_TIME);
            }
            pause = JOBS_EVERY.max((started.elapsed() * SHARE_OF_TIME).min(LONGEST_PAUSE));
        }
    }

    async fn look_at_jobs(&mut self) -> Result<(), ClientError> {
        let watched: Vec<(u64, Option<JobState>)> =
            lock(&self.shared).jobs.iter().map(|(id, (state, _))| (*id, *state)).collect();
        for page in watched.chunks(PAGE) {
            let ids = page.iter().map(|(id, _)| *id).collect();
            let filter = JobFilter { ids, limit: Some(PAGE), ..JobFilter::default() };
            let seen = self.client.jobs(&filter).await?;
            for item in seen.items {
                let before = page.iter().find(|(id, _)| *id == item.id).and_then(|(_, s)| *s);
                if before != Some(item.state) {
                    self.tell(item.id).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells what a job has become. If the coordinator goes away meanwhile, it is told later.
    async fn tell(&mut self, id: u64) -> Result<(), ClientError> {
        let job = self.client.job(id).await?;
        let has_ended = job.state.is_final();
        let has_mesh =
            |kind: &String| matches!(&**kind, "mesh" | "spmd") || kind.starts_with("mesh=");
        let is_mesh = job.types.iter().any(has_mesh);
        let now = self.recorder.now();
        let mesh = if has_ended && is_mesh && job.start_time > 0 {
            self.mesh_in_the_end(id).await?
        } else {
            None
        };
        if let Some(mesh) = &mesh {
            self.log_mesh(mesh);
        }
        let tell = |t: f64, state: JobState| {
            self.recorder.record_at(
                t,
                What::JobState {
                    job: self.key(id),
                    state: state_text(state),
                    exit: job.exit_code.filter(|_| has_ended && state == job.state).map(|s| s >> 8),
                    message: if state == job.state { job.message.clone() } else { String::new() },
                },
            );
        };
        let before = lock(&self.shared).jobs.remove(&id);
        let (before, since) = before.unwrap_or((None, now));
        if has_ended && job.start_time > 0 && before != Some(JobState::Running) {
            // It has run between two looks. Its record counts whole seconds.
            let started = self.recorder.at_unix_ms(job.start_time.saturating_mul(1000));
            tell(started.clamp(since, now), JobState::Running);
        }
        tell(now, job.state);
        if !has_ended {
            lock(&self.shared).jobs.insert(id, (Some(job.state), now));
        }
        let (key, job) = (self.key(id), Box::new(job));
        let news = if has_ended {
            self.meshes.remove(&id);
            News::Ended(key, job, mesh.map(Box::new))
        } else {
            News::Changed(key, job)
        };
        // Nobody listens any more when the run is over.
        let _ = self.to.send(news);
        Ok(())
    }

    /// What the coordinator says of an ended job's network, when it says the same twice: the nodes' last
    /// reports arrive when the job has ended.
    async fn mesh_in_the_end(&self, id: u64) -> Result<Option<JobMesh>, ClientError> {
        let asked = Instant::now();
        let mut before = None;
        loop {
            let mesh = match self.client.mesh(id).await {
                Ok(mesh) => Some(mesh),
                // It has never been launched.
                Err(error) if error.status() == Some(404) => return Ok(None),
                Err(error) => return Err(error),
            };
            if mesh == before || asked.elapsed() > LAST_REPORTS {
                return Ok(mesh);
            }
            before = mesh;
            tokio::time::sleep(MESHES_EVERY).await;
        }
    }

    async fn look_at_networks(&mut self) -> Result<(), ClientError> {
        let at_work = |state: JobState| matches!(state, JobState::Launching | JobState::Running);
        let at_work: Vec<u64> = lock(&self.shared)
            .jobs
            .iter()
            .filter(|(_, (state, _))| state.is_some_and(at_work))
            .map(|(id, _)| *id)
            .collect();
        for id in at_work {
            // Only jobs with a network have one.
            match self.client.mesh(id).await {
                Ok(mesh) => self.log_mesh(&mesh),
                Err(error) if error.status().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        for resource in self.client.resources().await? {
            let node = self.machines.machine(&self.coordinator, &resource.network_address);
            let state = format!("{:?}", resource.state);
            if self.nodes.insert(node.clone(), state.clone()).as_ref() != Some(&state) {
                self.recorder.record(What::NodeState { node, state });
            }
        }
        Ok(())
    }

    /// A job as logs name it.
    fn key(&self, id: u64) -> JobKey {
        JobKey::new(&self.coordinator, id)
    }

    fn log_mesh(&mut self, mesh: &JobMesh) {
        let key = self.key(mesh.job);
        let machine = |host: &str| self.machines.machine(&self.coordinator, host);
        let members: Vec<String> = mesh.members.iter().map(|m| machine(&m.name)).collect();
        for (from, to) in self.pairs.among(&members) {
            let expected = self.machines.between(&from, &to);
            self.recorder.record(netsim_virtual::predicted(from, to, expected));
        }
        let seen = self.meshes.entry(mesh.job).or_default();
        if let Some(opened) = seen.look(&key, mesh, &machine) {
            // The coordinator knows the moment.
            let now = self.recorder.now();
            let t = mesh.open_ms.map_or(now, |ms| self.recorder.at_unix_ms(ms).min(now));
            self.recorder.record_at(t, opened);
        }
    }
}

/// As OAR writes it.
fn state_text(state: JobState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(text)) => text,
        _ => format!("{state:?}"),
    }
}
