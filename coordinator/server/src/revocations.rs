//! Nodes that the administrator has turned out, by a command beside the running server.

use std::time::Duration;

use coordinator_api::resource::ResourceState;

use crate::app::App;
use crate::causes::Causes;
use crate::ledger::LedgerError;
use crate::store::StoreError;

/// How often the database is asked. Chosen: an administrator waits no longer.
const INTERVAL: Duration = Duration::from_secs(2);

/// Runs until the app stops.
pub(crate) fn spawn(app: &App) {
    let follower = app.clone();
    app.tasks.spawn(async move {
        let mut rounds = tokio::time::interval(INTERVAL);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = follower.stopping.cancelled() => return,
                _ = rounds.tick() => {}
            }
            if let Err(error) = turn_out(&follower).await {
                tracing::warn!(error = %Causes(&error), "cannot ask for revoked nodes");
            }
        }
    });
}

/// The node's credential opens nothing any more, its control connection ends, and its jobs go elsewhere.
async fn turn_out(app: &App) -> Result<(), StoreError> {
    for number in app.store.revoked_nodes().await? {
        // In this order: a connection that is just coming in asks the roster once more when it is there.
        let key = app.roster.remove(number);
        if let (Some(key), Some(rendezvous)) = (key, &app.rendezvous) {
            rendezvous.revoke(key);
        }
        let dead = Some(ResourceState::Dead);
        let cluster = app.ledger.cluster();
        if cluster.node(number).is_none_or(|node| node.taken_away == dead) {
            continue;
        }
        tracing::info!(node = %number, "node was revoked");
        let decision = move |draft: &mut coordinator_core::Draft<'_>| {
            draft.set_node_state(number, ResourceState::Dead)
        };
        match app.ledger.decide(decision).await {
            // Nobody takes nodes out of the cluster: it is there.
            Ok(_decided) => {}
            // Stored errors are logged by the ledger; the next round tries again.
            Err(LedgerError::Stopped | LedgerError::Store(_)) => return Ok(()),
        }
    }
    Ok(())
}
