//! The one place where the cluster changes.
//!
//! A task takes decisions one after the other: decide on a draft, commit its rows, and only then show the
//! new cluster to readers. Who waits for an answer may go away at any moment without stopping a
//! transaction halfway.

use std::sync::Arc;

use coordinator_api::resource::ResourceState;
use coordinator_core::{Change, Cluster, Draft, Job, NodeNumber, Policy, UnixMillis};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::roster::Roster;
use crate::store::rows::{Writer, use_token, write_changes, write_enrolled};
use crate::store::{EnrolRefusal, EnrolRow, NodeRow, StoreError};

/// Decisions that may wait for their turn. Chosen: more than the agents' reports of a big job at once.
const QUEUE: usize = 4_096;

/// A decision was not taken, through no fault of who asked: try again.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The rows could not be stored; nothing has changed.
    #[error("the change could not be stored")]
    Store(#[source] Arc<StoreError>),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
}

/// Decides, and returns whether the draft stands and what to do once it is stored (or was not).
type Decision = Box<
    dyn FnOnce(&mut Draft<'_>) -> (bool, Box<dyn FnOnce(Result<(), LedgerError>) + Send>) + Send,
>;

type EnrolAnswer = Result<Result<NodeNumber, EnrolRefusal>, LedgerError>;

enum Order {
    Decide(Decision),
    Enrol { asked: EnrolRow, cores: u16, answer: oneshot::Sender<EnrolAnswer> },
}

/// A handle on the cluster: readers see the last committed state, writers queue up.
#[derive(Clone)]
pub struct Ledger {
    orders: mpsc::Sender<Order>,
    current: watch::Receiver<Arc<Cluster>>,
}

impl Ledger {
    /// The last committed state.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.current.borrow().clone()
    }

    /// Wakes up when the state changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Cluster>> {
        self.current.clone()
    }

    /// Takes a decision: commits what `decision` did to the draft, unless it refuses.
    ///
    /// # Errors
    ///
    /// See [`LedgerError`]; the inner result is the decision's own.
    pub async fn decide<T, E, F>(&self, decision: F) -> Result<Result<T, E>, LedgerError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&mut Draft<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let decision: Decision = Box::new(move |draft| {
            let outcome = decision(draft);
            let stands = outcome.is_ok();
            let tell = move |stored: Result<(), LedgerError>| {
                let _gone = reply.send(stored.map(|()| outcome));
            };
            (stands, Box::new(tell))
        });
        let sent = self.orders.send(Order::Decide(decision)).await;
        sent.map_err(|_| LedgerError::Stopped)?;
        answer.await.map_err(|_| LedgerError::Stopped)?
    }

    /// Takes a decision that cannot be refused.
    ///
    /// # Errors
    ///
    /// See [`LedgerError`].
    pub async fn apply<F>(&self, decision: F) -> Result<(), LedgerError>
    where
        F: FnOnce(&mut Draft<'_>) + Send + 'static,
    {
        let done = self.decide(|draft| {
            decision(draft);
            Ok::<(), std::convert::Infallible>(())
        });
        done.await.map(|_| ())
    }

    /// Uses a join token up and makes a node, or finds the node that its key already is.
    ///
    /// # Errors
    ///
    /// See [`LedgerError`] and [`EnrolRefusal`].
    pub async fn enrol(&self, asked: EnrolRow, cores: u16) -> EnrolAnswer {
        let (answer, reply) = oneshot::channel();
        let sent = self.orders.send(Order::Enrol { asked, cores, answer }).await;
        sent.map_err(|_| LedgerError::Stopped)?;
        reply.await.map_err(|_| LedgerError::Stopped)?
    }
}

/// Starts the task. When `stopping` is cancelled it takes the decisions that wait, and ends.
pub(crate) fn start(
    task: Task,
    cluster: Cluster,
    tasks: &TaskTracker,
    stopping: CancellationToken,
) -> Ledger {
    let (orders, inbox) = mpsc::channel(QUEUE);
    let (shown, current) = watch::channel(Arc::new(cluster));
    tasks.spawn(task.run(inbox, shown, stopping));
    Ledger { orders, current }
}

/// What the ledger's task works with.
pub(crate) struct Task {
    pub(crate) writer: Writer,
    pub(crate) roster: Arc<Roster>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) policy: Policy,
}

type Shown = watch::Sender<Arc<Cluster>>;

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Order>,
        shown: Shown,
        stopping: CancellationToken,
    ) {
        loop {
            let order = tokio::select! {
                order = inbox.recv() => order,
                () = stopping.cancelled(), if !inbox.is_closed() => {
                    inbox.close();
                    continue;
                }
            };
            match order {
                None => break,
                Some(Order::Decide(decision)) => self.decide(&shown, decision).await,
                Some(Order::Enrol { asked, cores, answer }) => {
                    let outcome = self.enrol(&shown, asked, cores).await;
                    let _gone = answer.send(outcome.map_err(report_store_error));
                }
            }
        }
        if let Err(error) = self.writer.close().await {
            tracing::warn!(error = %Causes(&error), "database not closed cleanly");
        }
    }

    async fn decide(&mut self, shown: &Shown, decision: Decision) {
        let old = shown.borrow().clone();
        let mut draft = Draft::new(&old, self.clock.now(), &self.policy);
        let (stands, tell) = decision(&mut draft);
        if !stands {
            return tell(Ok(()));
        }
        let (cluster, changes) = draft.finish(&old);
        match self.writer.commit(&changes).await {
            Ok(()) => {
                log_changes(&old, &changes);
                shown.send_replace(Arc::new(cluster));
                tell(Ok(()));
            }
            Err(error) => tell(Err(report_store_error(error))),
        }
    }

    async fn enrol(
        &mut self,
        shown: &Shown,
        asked: EnrolRow,
        cores: u16,
    ) -> Result<Result<NodeNumber, EnrolRefusal>, StoreError> {
        let now: UnixMillis = self.clock.now();
        let old = shown.borrow().clone();
        let mut transaction = self.writer.begin().await?;
        let known = match use_token(&mut transaction, &asked, now).await? {
            Ok(known) => known,
            Err(refusal) => {
                transaction.rollback().await?;
                self.writer.settle();
                return Ok(Err(refusal));
            }
        };
        let mut draft = Draft::new(&old, now, &self.policy);
        let number = match known {
            Some(known) => known.number,
            None => draft.enrol(cores, asked.memory_mib),
        };
        if known.is_some_and(|known| known.was_revoked) {
            // It is there: a node's row is never taken away.
            let _let_in = draft.set_node_state(number, ResourceState::Alive);
        }
        let (cluster, changes) = draft.finish(&old);
        if let Some(node) = cluster.node(number) {
            write_enrolled(&mut transaction, &asked, node, now).await?;
        }
        write_changes(&mut transaction, &changes).await?;
        transaction.commit().await?;
        self.writer.settle();
        let row = NodeRow { number, key: asked.key, credential: asked.credential };
        self.roster.insert(row);
        shown.send_replace(Arc::new(cluster));
        tracing::info!(node = %number, cores, software = asked.software, "node enrolled");
        Ok(Ok(number))
    }
}

fn report_store_error(error: StoreError) -> LedgerError {
    let error = Arc::new(error);
    tracing::error!(error = %Causes(&*error), "a change could not be stored");
    LedgerError::Store(error)
}

fn log_changes(old: &Cluster, changes: &[Change]) {
    for change in changes {
        match change {
            // A job changes with each of its parts; who reads this wants its states and what happened.
            Change::Job(job) if old.job(job.id).is_some_and(|old| is_same(old, job)) => {}
            Change::Job(job) => {
                let (generation, what) = (job.generation, job.last_word());
                let what = what.map_or("", |event| event.description.as_str());
                tracing::info!(job = %job.id, state = ?job.state, generation, what, "job");
            }
            Change::Node(node) => {
                tracing::debug!(node = %node.number, state = ?node.state, shares = ?node.shares, "node");
            }
            Change::Counters(_) | Change::Usage(..) => {}
        }
    }
}

fn is_same(old: &Job, new: &Job) -> bool {
    let told = |job: &Job| (job.state, job.generation, job.last_word().map(|event| event.id));
    told(old) == told(new)
}
