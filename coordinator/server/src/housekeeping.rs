//! Removes archives that nobody needs any more.

use std::time::{Duration, SystemTime};

use coordinator_core::Cluster;

use crate::app::App;
use crate::causes::Causes;
use crate::stage::{ContentHash, Needed, Removed, Retention};

/// How often. Chosen: archives are kept for days.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// Runs until the app stops; the first time at once.
pub(crate) fn spawn(app: &App, retention: Retention) {
    let keeper = app.clone();
    app.tasks.spawn(async move {
        let mut rounds = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let needed = needed(&keeper.ledger.cluster());
            match keeper.stage.clean(SystemTime::now(), retention, &needed).await {
                Ok(removed) if removed == Removed::default() => {}
                Ok(Removed { stageins, results }) => {
                    tracing::info!(stageins, results, "old archives removed");
                }
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "old archives cannot be removed");
                }
            }
        }
    });
}

fn needed(cluster: &Cluster) -> Needed {
    let hash = |text: &String| text.parse::<ContentHash>().ok().map(|hash| hash.0);
    let jobs = cluster.jobs();
    let stageins = jobs.filter_map(|job| job.request.stagein_sha256.as_ref().and_then(hash));
    Needed { stageins: stageins.collect(), jobs: cluster.jobs().map(|job| job.id.0).collect() }
}
