//! Fires the cluster's deadlines.

use std::time::Duration;

use coordinator_core::Policy;

use crate::app::App;
use crate::ledger::LedgerError;
use crate::networks;

/// The longest sleep between two looks. Chosen: liveness reaches the cluster at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The shortest time between two looks, so that deadlines close together are fired together, and a look at
/// all nodes does not follow each change.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

/// Wait after a deadline that could not be stored: a full disk does not empty in a moment.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Runs until the app stops.
pub(crate) fn spawn(app: &App, policy: Policy) {
    let app_tasks = app.tasks.clone();
    let app = app.clone();
    app_tasks.spawn(async move {
        let stopping = app.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = run(&app, policy) => {}
        }
    });
}

async fn run(app: &App, policy: Policy) {
    let mut changes = app.ledger.watch();
    loop {
        let cluster = changes.borrow_and_update().clone();
        let longest = app.clock.now() + LONGEST_SLEEP;
        let next = cluster.next_deadline(&policy).map_or(longest, |next| next.min(longest));
        tokio::select! {
            () = app.clock.sleep_until(next) => {}
            changed = changes.changed() => match changed {
                Ok(()) => {
                    tokio::time::sleep(SHORTEST_SLEEP).await;
                    continue;
                }
                Err(_) => return,
            },
        }
        let heard = app.roster.take_heard();
        let blocks = networks::blocks(app, &cluster);
        match app.ledger.apply(move |draft| draft.tick(&heard, &blocks)).await {
            Ok(()) => {}
            Err(LedgerError::Stopped) => return,
            Err(LedgerError::Store(_)) => tokio::time::sleep(STORE_PAUSE).await,
        }
        tokio::time::sleep(SHORTEST_SLEEP).await;
    }
}
