//! The one place where the cluster changes.
//!
//! A task takes decisions one after the other: decide on a draft, commit its rows, and only then show the
//! new cluster to readers. What has come in while the disk was busy is decided on one draft and committed
//! together: a hundred submissions at once cost one plan and one sync. Who waits for an answer may go away at any moment without stopping a
//! transaction halfway.

use std::sync::Arc;

use coordinator_api::resource::ResourceState;
use coordinator_core::{Change, Cluster, Draft, Job, NodeNumber, Policy, UnixMillis};
use sqlx::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::roster::Roster;
use crate::store::rows::{Writer, use_token, write_changes, write_enrolled};
use crate::store::{EnrolRefusal, EnrolRow, NodeRow, StoreError};
use crate::wakes::Wakes;

/// Decisions that may wait for their turn. Chosen: more than the agents' reports of a big job at once.
const QUEUE: usize = 4_096;

/// The most decisions that share a transaction. Chosen: who comes first waits for no more than these.
const BATCH: usize = 256;

/// A decision was not taken, through no fault of who asked: try again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// The rows could not be stored; nothing has changed.
    #[error("the change could not be stored")]
    Store(#[source] Arc<StoreError>),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
}

/// Decides, and returns whether the draft stands and what to do once it is stored (or was not).
type Decision = Box<dyn FnOnce(&mut Draft<'_>) -> (bool, Tell) + Send>;

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
    wakes: Arc<Wakes>,
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

    /// Wakes agents that wait for orders.
    pub(crate) fn wakes(&self) -> &Wakes {
        &self.wakes
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
            let outcome = draft.attempt(decision);
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
    let wakes = task.wakes.clone();
    tasks.spawn(task.run(inbox, shown, stopping));
    Ledger { orders, current, wakes }
}

/// What the ledger's task works with.
pub(crate) struct Task {
    pub(crate) writer: Writer,
    pub(crate) roster: Arc<Roster>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) policy: Policy,
    pub(crate) wakes: Arc<Wakes>,
}

type Shown = watch::Sender<Arc<Cluster>>;

/// Tells who waits for it whether a decision is stored.
type Tell = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;

/// What one transaction comes to.
struct Taken {
    answers: Vec<Tell>,
    joined: Vec<NodeRow>,
    /// A decision was taken, even if no row says so.
    stands: bool,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Order>,
        shown: Shown,
        stopping: CancellationToken,
    ) {
        let mut orders = Vec::with_capacity(BATCH);
        loop {
            let count = tokio::select! {
                count = inbox.recv_many(&mut orders, BATCH) => count,
                () = stopping.cancelled(), if !inbox.is_closed() => {
                    inbox.close();
                    continue;
                }
            };
            if count == 0 {
                break;
            }
            self.take(&shown, std::mem::take(&mut orders)).await;
        }
        if let Err(error) = self.writer.close().await {
            tracing::warn!(error = %Causes(&error), "database not closed cleanly");
        }
    }

    /// Takes what has come in meanwhile: one decision after the other, one plan, one transaction.
    async fn take(&mut self, shown: &Shown, orders: Vec<Order>) {
        let old = shown.borrow().clone();
        let mut taken = Taken { answers: Vec::new(), joined: Vec::new(), stands: false };
        let outcome = match self.store(&old, orders, &mut taken).await {
            Ok((cluster, changes)) => {
                log_changes(&old, &changes);
                taken.joined.into_iter().for_each(|row| self.roster.insert(row));
                if taken.stands {
                    shown.send_replace(Arc::new(cluster));
                    self.wakes.wake(&changes);
                }
                Ok(())
            }
            Err(error) => Err(report_store_error(error)),
        };
        taken.answers.into_iter().for_each(|tell| tell(outcome.clone()));
    }

    async fn store(
        &mut self,
        old: &Cluster,
        orders: Vec<Order>,
        taken: &mut Taken,
    ) -> Result<(Cluster, Vec<Change>), StoreError> {
        let now = self.clock.now();
        let mut draft = Draft::new(old, now, &self.policy);
        if !orders.iter().any(|order| matches!(order, Order::Enrol { .. })) {
            decide_all(orders, &mut draft, None, taken, now).await?;
            let (cluster, changes) = draft.finish(old);
            self.writer.commit(&changes).await?;
            return Ok((cluster, changes));
        }
        // Whether a join token is good is asked in the transaction that uses it up.
        let mut transaction = self.writer.begin().await?;
        decide_all(orders, &mut draft, Some(&mut transaction), taken, now).await?;
        let (cluster, changes) = draft.finish(old);
        write_changes(&mut transaction, &changes).await?;
        transaction.commit().await?;
        self.writer.settle();
        Ok((cluster, changes))
    }
}

/// Takes the decisions; machines join over the connection.
async fn decide_all(
    orders: Vec<Order>,
    draft: &mut Draft<'_>,
    mut connection: Option<&mut SqliteConnection>,
    taken: &mut Taken,
    now: UnixMillis,
) -> Result<(), StoreError> {
    for order in orders {
        match (order, connection.as_deref_mut()) {
            (Order::Decide(decision), _) => {
                let (stands, tell) = decision(draft);
                taken.stands |= stands;
                taken.answers.push(tell);
            }
            (Order::Enrol { asked, cores, answer }, Some(connection)) => {
                let outcome = enrol(connection, draft, &asked, cores, now).await?;
                if let Ok(number) = outcome {
                    let (key, credential) = (asked.key, asked.credential);
                    taken.joined.push(NodeRow { number, key, credential });
                    taken.stands = true;
                }
                taken.answers.push(Box::new(move |stored| {
                    let _gone = answer.send(stored.map(|()| outcome));
                }));
            }
            // Not reached: who asks for one brings the connection along. Its answer is that nothing was done.
            (Order::Enrol { .. }, None) => {}
        }
    }
    Ok(())
}

/// Uses a join token up: a new node, or the one that its key already is.
async fn enrol(
    connection: &mut SqliteConnection,
    draft: &mut Draft<'_>,
    asked: &EnrolRow,
    cores: u16,
    now: UnixMillis,
) -> Result<Result<NodeNumber, EnrolRefusal>, StoreError> {
    let known = match use_token(connection, asked, now).await? {
        Ok(known) => known,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let number = match known {
        Some(known) => known.number,
        None => draft.enrol(cores, asked.memory_mib),
    };
    if known.is_some_and(|known| known.was_revoked) {
        // It is there: a node's row is never taken away.
        let _let_in = draft.set_node_state(number, ResourceState::Alive);
    }
    if let Some(node) = draft.node(number) {
        write_enrolled(connection, asked, node, now).await?;
    }
    tracing::info!(node = %number, cores, software = asked.software, "node enrolled");
    Ok(Ok(number))
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
