//! Fires the cluster's deadlines.

use std::time::Duration;

use coordinator_core::{MeshBlock, Policy};

use crate::app::App;
use crate::ledger::LedgerError;

/// The longest sleep between two looks. Chosen: liveness reaches the cluster at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The shortest sleep, so that a deadline that cannot be stored does not spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

/// Runs until the ledger stops.
pub(crate) fn spawn(app: &App, policy: Policy) {
    let mut changes = app.ledger.watch();
    let (ledger, roster, clock) = (app.ledger.clone(), app.roster.clone(), app.clock.clone());
    tokio::spawn(async move {
        loop {
            let now = clock.now();
            let next = changes.borrow_and_update().next_deadline(&policy);
            let next = next.unwrap_or(now + LONGEST_SLEEP).min(now + LONGEST_SLEEP);
            tokio::select! {
                () = clock.sleep_until(next) => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
            }
            let heard = roster.take_heard();
            let blocks: Vec<MeshBlock> = Vec::new();
            match ledger.apply(move |draft| draft.tick(&heard, &blocks)).await {
                Ok(()) => {}
                Err(LedgerError::Stopped) => return,
                Err(LedgerError::Store(_)) => {}
            }
            tokio::time::sleep(SHORTEST_SLEEP).await;
        }
    });
}
