//! What every handler shares.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Job, JobId, NodeNumber, Policy};
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::files::FileStore;
use crate::housekeeping;
use crate::ledger::{self, Ledger, LedgerError};
use crate::limits::Limits;
use crate::networks;
use crate::password::PasswordDesk;
use crate::rendezvous::{RendezvousEvent, RendezvousHandle};
use crate::revocations;
use crate::roster::Roster;
use crate::stage::{Retention, StageStore};
use crate::store::{Store, StoreError};
use crate::ticker;

/// The running coordinator without its sockets.
#[derive(Clone)]
pub struct App {
    /// What the operator has set.
    pub policy: Arc<Policy>,
    /// The database.
    pub store: Store,
    /// The cluster.
    pub ledger: Ledger,
    /// Who is who.
    pub roster: Arc<Roster>,
    /// The time.
    pub clock: Arc<Clock>,
    /// Who asks with a password.
    pub passwords: Arc<PasswordDesk>,
    /// Who may speak for users: proxies that have asked them who they are.
    pub proxies: Arc<[IpNet]>,
    /// How often users may ask.
    pub limits: Arc<Limits>,
    /// Stage-in and stage-out archives.
    pub stage: StageStore,
    /// Users' own files.
    pub files: FileStore,
    /// Where jobs' networks are made; none where no job has one, as in tests of the API alone.
    pub rendezvous: Option<RendezvousHandle>,
    /// What agents are told when they enrol.
    pub announced: Arc<Announced>,
    /// The agents of OAR 2.5.2 are served: they sign in without a token.
    pub ruby_agents: bool,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

/// What an [`App`] is started with.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Archives.
    pub stage: StageStore,
    /// Users' own files.
    pub files: FileStore,
    /// How often users may ask.
    pub limits: Limits,
    /// The time.
    pub clock: Arc<Clock>,
    /// Time limits.
    pub policy: Policy,
    /// Who asks with a password.
    pub passwords: PasswordDesk,
    /// Proxies that may speak for users.
    pub proxies: Vec<IpNet>,
    /// How long archives are kept.
    pub retention: Retention,
    /// Who is who; filled at the start.
    pub roster: Arc<Roster>,
    /// Where jobs' networks are made, with its events.
    pub rendezvous: Option<(RendezvousHandle, mpsc::Receiver<RendezvousEvent>)>,
    /// What agents are told when they enrol.
    pub announced: Announced,
    /// The agents of OAR 2.5.2 are served.
    pub ruby_agents: bool,
}

/// What agents are told when they enrol.
#[derive(Clone, Debug)]
pub struct Announced {
    /// UDP endpoint of the control protocol, as in `:6443`.
    pub rendezvous: String,
    /// How often to poll.
    pub poll_interval: Duration,
}

impl App {
    /// Loads the cluster from the database and starts the ledger, the deadlines and the networks.
    ///
    /// # Errors
    ///
    /// The rows cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, StoreError> {
        let Parts { store, stage, files, limits, clock, policy, .. } = parts;
        let Parts { passwords, proxies, retention, ruby_agents, .. } = parts;
        let (roster, rendezvous, announced) = (parts.roster, parts.rendezvous, parts.announced);
        let (cluster, nodes) = store.load(clock.now(), &policy).await?;
        tracing::info!(nodes = nodes.len(), jobs = cluster.jobs().len(), "state loaded");
        nodes.into_iter().for_each(|row| roster.insert(row));
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let writer = store.writer().await?;
        let task = ledger::Task {
            writer,
            roster: roster.clone(),
            clock: clock.clone(),
            policy: policy.clone(),
            wakes: Arc::default(),
        };
        let ledger = ledger::start(task, cluster, &tasks, stopping.clone());
        let (handle, events) = rendezvous.unzip();
        let app = Self {
            policy: Arc::new(policy.clone()),
            store,
            ledger,
            roster,
            clock,
            passwords: Arc::new(passwords),
            proxies: proxies.into(),
            limits: Arc::new(limits),
            stage,
            files,
            rendezvous: handle.clone(),
            announced: Arc::new(announced),
            ruby_agents,
            tasks,
            stopping,
        };
        ticker::spawn(&app, policy);
        revocations::spawn(&app);
        housekeeping::spawn(&app, retention);
        if let (Some(handle), Some(events)) = (handle, events) {
            networks::follow(&app, handle, events);
        }
        Ok(app)
    }

    /// Ends the tasks and closes the database; decisions that were asked for are still taken.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }

    /// A job, whether it has ended or not.
    pub(crate) async fn look_up(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        if let Some(job) = self.ledger.cluster().job(id) {
            return Ok(Some((**job).clone()));
        }
        self.store.job(id).await
    }

    /// Notes that a node was heard, and takes it back if it was believed lost.
    ///
    /// # Errors
    ///
    /// Only for a node that was believed lost: its return could not be stored.
    pub async fn heard(&self, node: NodeNumber) -> Result<(), LedgerError> {
        self.roster.heard(node, self.clock.now());
        let cluster = self.ledger.cluster();
        let alive = coordinator_api::resource::ResourceState::Alive;
        let lost = |it: &coordinator_core::Node| it.state != alive && it.taken_away.is_none();
        if cluster.node(node).is_some_and(|it| lost(it)) {
            tracing::info!(%node, "node is heard again");
            self.ledger.apply(move |draft| draft.heard(node)).await?;
        }
        Ok(())
    }
}
