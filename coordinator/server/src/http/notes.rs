//! What operators do of other users' jobs, in the audit log.

use coordinator_core::{Actor, JobId};

use super::answer::ApiError;
use crate::app::App;

/// Notes that something was done of a job, where it is not the actor's own.
pub(super) async fn of_job(
    app: &App,
    actor: &Actor,
    action: &str,
    id: JobId,
) -> Result<(), ApiError> {
    if !actor.is_operator {
        return Ok(());
    }
    match app.look_up(id).await? {
        Some(job) if job.owner != actor.name => {
            let subject = format!("job {id} of {}", job.owner);
            Ok(app.store.audit(app.clock.now(), &actor.name, action, &subject).await?)
        }
        Some(_) | None => Ok(()),
    }
}

/// The same of the jobs of an array of which it was done.
pub(super) async fn of_array<R>(
    app: &App,
    actor: &Actor,
    action: &str,
    outcomes: &[(JobId, Option<R>)],
) -> Result<(), ApiError> {
    for (id, _) in outcomes.iter().filter(|(_, refusal)| refusal.is_none()) {
        of_job(app, actor, action, *id).await?;
    }
    Ok(())
}
