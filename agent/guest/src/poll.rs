//! The agent's main loop: asks for the lists, and does what [`reconcile`] decides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator_api::agent::{Fault, NodeJobItem, ReportedState, SetState};
use coordinator_client::ClientError;
use coordinator_client::client::Wanted;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::job::directory::JobDirectory;
use crate::job::{Context, Order, live};
use crate::reconcile::{Action, Desired, LaunchId, Local, reconcile};
use crate::shim::client::ShimClient;
use crate::state_dir::{read_json, write_private};

/// The launches whose end is remembered. Chosen: only lists that are older than a launch's end could name
/// it again, so a few would do.
const MAX_FINISHED: usize = 1024;

/// The most items of a list that are looked at. A node has at most a few jobs.
const MAX_ITEMS: usize = 1024;

/// The most launches at once, whatever the coordinator asks for. Chosen: far above what whole nodes need,
/// far below what a machine cannot bear.
const MAX_LAUNCHES: usize = 32;

/// The longest that the coordinator may let a poll wait for orders: two intervals, and at most this. Chosen: a third of
/// the time after which a silent node counts as gone, which is six intervals.
const ORDER_WAIT: Duration = Duration::from_secs(20);

/// The pause after orders were taken: until they are out of the lists.
const AFTER_ORDERS: Duration = Duration::from_millis(250);

/// The shortest and the longest poll interval that a coordinator can ask for.
const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(300)];

/// Why the loop could not begin.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The folders of earlier launches cannot be read.
    #[error("{path} cannot be used")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The launches of this node.
pub struct Launches {
    context: Arc<Context>,
    jobs: PathBuf,
    finished_file: PathBuf,
    finished: BTreeSet<LaunchId>,
    orders: BTreeMap<LaunchId, watch::Sender<Order>>,
    tasks: JoinSet<io::Result<()>>,
    names: HashMap<Id, LaunchId>,
}

impl Launches {
    /// Takes up the launches that have a folder under `state`.
    ///
    /// # Errors
    /// [`PollError`].
    pub fn take_up(context: Arc<Context>, state: &Path) -> Result<Self, PollError> {
        let jobs = state.join("jobs");
        let failed = |path: &Path, source| PollError::Folder { path: path.to_owned(), source };
        let found = JobDirectory::all(&jobs).map_err(|error| failed(&jobs, error))?;
        if let Err(error) = JobDirectory::remove_leftovers(&jobs) {
            tracing::warn!(%error, "removing what is left of ended launches failed");
        }
        let finished_file = state.join("finished.json");
        let finished: Vec<(u64, u32)> = read_json(&finished_file)
            .map_err(|error| failed(&finished_file, error))?
            .unwrap_or_default();
        let mut launches = Self {
            context,
            jobs,
            finished_file,
            finished: finished
                .into_iter()
                .map(|(job, generation)| LaunchId { job, generation })
                .collect(),
            orders: BTreeMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
        };
        for id in found {
            launches.begin(id);
        }
        Ok(launches)
    }

    /// Ends what is left of commands that have ended: nobody has anything to ask there any more. What runs goes on.
    pub async fn release_ended(self) {
        let Self { jobs, orders, tasks, .. } = self;
        // They would start what is ended here.
        drop(tasks);
        for id in orders.into_keys() {
            let directory = JobDirectory::at(&jobs, id);
            if matches!(directory.exit(), Ok(Some(_))) {
                ShimClient::at(directory.path()).release_and_wait().await;
            }
        }
    }

    /// Polls for ever, and at once when a launch has ended: about every `interval`, unless the coordinator lets its
    /// answers wait for orders.
    pub async fn poll(&mut self, interval: Duration) {
        let interval = interval.clamp(INTERVALS[0], INTERVALS[1]);
        // An order that stays in the list, as for a job that waits for cores, would be answered at once.
        let longest = (2 * interval).clamp(Duration::from_secs(1), ORDER_WAIT);
        let mut wait = longest;
        loop {
            let context = self.context.clone();
            let asked = Instant::now();
            let desired = tokio::select! {
                desired = context.reach.insist(|| lists(&context, wait)) => desired,
                ended = next_ended(&mut self.tasks) => { self.on_end(ended); continue; }
            };
            let mut pause = interval.mul_f64(rand::random_range(0.8..1.2));
            match desired {
                Ok(desired) if desired == Desired::default() => {
                    // What was waited for orders needs no pause.
                    pause = pause.saturating_sub(asked.elapsed());
                    wait = longest;
                }
                Ok(desired) => {
                    if self.apply(&desired) {
                        pause = pause.min(AFTER_ORDERS);
                    }
                    wait = Duration::ZERO;
                }
                Err(error) => tracing::error!(%error, "the server refuses this node's poll"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                ended = next_ended(&mut self.tasks) => self.on_end(ended),
            }
        }
    }

    /// False when there was nothing to do.
    fn apply(&mut self, desired: &Desired) -> bool {
        let mut has_acted = false;
        for action in reconcile(desired, &self.local(), &self.finished) {
            match action {
                // The others stay in the list.
                Action::Start(_) if self.orders.len() >= MAX_LAUNCHES => {}
                Action::Start(_) if !self.context.owner.will().takes_jobs() => {}
                action @ (Action::Start(_)
                | Action::Kill(_)
                | Action::Abandon(_)
                | Action::ReportUnknown(_)) => {
                    has_acted = true;
                    self.act(action);
                }
            }
        }
        has_acted
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(id) => self.begin(id),
            Action::Kill(id) => self.order(id, Order::Kill),
            Action::Abandon(id) => self.order(id, Order::Abandon),
            Action::ReportUnknown(id) => self.report_unknown(id),
        }
    }

    fn local(&self) -> BTreeMap<LaunchId, Local> {
        let state = |orders: &watch::Sender<Order>| match *orders.borrow() {
            Order::Run => Local::Active,
            Order::Kill => Local::Killing,
            Order::Abandon => Local::Abandoning,
        };
        self.orders.iter().map(|(id, orders)| (*id, state(orders))).collect()
    }

    fn begin(&mut self, id: LaunchId) {
        let (orders, receiver) = watch::channel(Order::Run);
        let (context, jobs) = (self.context.clone(), self.jobs.clone());
        let task = self.tasks.spawn(async move {
            let directory = match JobDirectory::create(&jobs, id) {
                Ok(directory) => directory,
                Err(error) => {
                    give_back(&context, id, &error).await;
                    return Err(error);
                }
            };
            live(context, directory, receiver).await
        });
        self.names.insert(task.id(), id);
        self.orders.insert(id, orders);
    }

    fn order(&self, id: LaunchId, order: Order) {
        tracing::info!(job = %id, ?order, "ordered");
        if let Some(orders) = self.orders.get(&id) {
            orders.send_replace(order);
        }
    }

    fn report_unknown(&mut self, id: LaunchId) {
        let context = self.context.clone();
        tokio::spawn(async move {
            let state = error_of(id, Fault::Killed, "this node does not have that launch".into());
            if let Err(error) = context.client.set_state(id.job, &state).await {
                tracing::debug!(job = %id, %error, "the answer to a kill was not accepted");
            }
        });
    }

    fn on_end(&mut self, ended: Result<(Id, io::Result<()>), JoinError>) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = self.names.remove(&task) else { return };
        self.orders.remove(&id);
        match ended {
            Ok((_, Ok(()))) => {}
            Ok((_, Err(error))) => {
                tracing::error!(job = %id, %error, "the launch's folder is left behind");
            }
            Err(error) => {
                tracing::error!(job = %id, %error, "the launch failed");
                let context = self.context.clone();
                let error = io::Error::other(error);
                tokio::spawn(async move { give_back(&context, id, &error).await });
            }
        }
        self.finished.insert(id);
        while self.finished.len() > MAX_FINISHED {
            self.finished.pop_first();
        }
        let list: Vec<_> = self.finished.iter().map(|id| (id.job, id.generation)).collect();
        let written = serde_json::to_vec(&list)
            .map_err(io::Error::from)
            .and_then(|text| write_private(&self.finished_file, &text));
        if let Err(error) = written {
            tracing::warn!(%error, "remembering the ended launches failed");
        }
    }
}

/// Waits for ever when there are none.
async fn next_ended(
    tasks: &mut JoinSet<io::Result<()>>,
) -> Result<(Id, io::Result<()>), JoinError> {
    match tasks.join_next_with_id().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// Both lists; a coordinator that can waits so long until one of them has something. A plain OAR server is asked for
/// one after the other: a request that is given up costs it a worker.
async fn lists(context: &Context, wait: Duration) -> Result<Desired, ClientError> {
    let ask = |wanted, wait| context.client.node_jobs_within(&context.hostname, wanted, wait);
    let ids = |items: Vec<NodeJobItem>| {
        let id = |item: &NodeJobItem| LaunchId { job: item.id, generation: item.generation };
        items.iter().take(MAX_ITEMS).map(id).collect()
    };
    if context.client.is_plain_oar() {
        let to_launch = ask(Wanted::ToLaunch, Duration::ZERO).await?;
        let to_kill = ask(Wanted::ToKill, Duration::ZERO).await?;
        return Ok(Desired { to_launch: ids(to_launch), to_kill: ids(to_kill) });
    }
    let (to_launch, to_kill) = tokio::select! {
        to_launch = ask(Wanted::ToLaunch, wait) => {
            (to_launch?, ask(Wanted::ToKill, Duration::ZERO).await?)
        }
        to_kill = ask(Wanted::ToKill, wait) => {
            (ask(Wanted::ToLaunch, Duration::ZERO).await?, to_kill?)
        }
    };
    Ok(Desired { to_launch: ids(to_launch), to_kill: ids(to_kill) })
}

/// There is not even a folder for the launch, or nobody minds it any more: says so at once.
async fn give_back(context: &Context, id: LaunchId, error: &io::Error) {
    let state = error_of(id, Fault::Node, format!("the node could not run the job: {error}"));
    let _ = context.reach.insist(|| context.client.set_state(id.job, &state)).await;
}

fn error_of(id: LaunchId, fault: Fault, message: String) -> SetState {
    SetState {
        state: ReportedState::Error,
        generation: id.generation,
        exit_code: None,
        fault: Some(fault),
        message: Some(message),
    }
}
