//! What every handler shares.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{NodeNumber, Policy};

use crate::clock::Clock;
use crate::ledger::{Ledger, LedgerError};
use crate::roster::Roster;
use crate::store::{Store, StoreError};
use crate::ticker;

/// The running coordinator without its sockets.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The cluster.
    pub ledger: Ledger,
    /// Who is who.
    pub roster: Arc<Roster>,
    /// The time.
    pub clock: Arc<Clock>,
    /// What agents are told when they enrol.
    pub announced: Arc<Announced>,
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
    /// Loads the cluster from the database and starts the ledger and the deadlines.
    ///
    /// # Errors
    ///
    /// The rows cannot be read.
    pub async fn start(
        store: Store,
        clock: Arc<Clock>,
        policy: Policy,
        announced: Announced,
    ) -> Result<Self, StoreError> {
        let (cluster, nodes) = store.load(clock.now(), &policy).await?;
        tracing::info!(nodes = nodes.len(), jobs = cluster.jobs().len(), "state loaded");
        let roster = Arc::new(Roster::default());
        nodes.into_iter().for_each(|row| roster.insert(row));
        let ledger = Ledger::start(&store, cluster, roster.clone(), clock.clone(), policy).await?;
        let app = Self { store, ledger, roster, clock, announced: Arc::new(announced) };
        ticker::spawn(&app, policy);
        Ok(app)
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
        if cluster.node(node).is_some_and(|it| it.state != alive) {
            tracing::info!(%node, "node is heard again");
            self.ledger.apply(move |draft| draft.heard(node)).await?;
        }
        Ok(())
    }
}
