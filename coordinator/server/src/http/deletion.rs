//! Jobs that are ended by order.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coordinator_api::action::Registered;
use coordinator_api::job::Deleted;
use coordinator_core::{DeleteRefusal, Draft, JobId};

use super::actions::registered;
use super::answer::ApiError;
use super::identity::Identity;
use super::jobs::parse_id;
use super::notes;
use super::openapi::{Absent, Denied, Refused, Unknown};
use crate::app::App;

/// `DELETE /jobs/ID`: 202; 400 when there is nothing to delete, as OAR has it.
#[utoipa::path(
    delete,
    path = "/jobs/{id}",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 202, description = "The order was taken", body = Deleted),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn delete(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let (id, output) = order_deletion(&app, identity, &id).await?;
    let deleted = Deleted {
        id: id.to_string(),
        status: "Delete request registered".to_owned(),
        oardel_output: output,
        api_timestamp: app.clock.now().seconds(),
    };
    Ok((StatusCode::ACCEPTED, Json(deleted)))
}

/// `POST /jobs/ID/deletions/new`: the same with other names in the answer.
#[utoipa::path(
    post,
    path = "/jobs/{id}/deletions/new",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 202, description = "The order was taken", body = Registered),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn delete_by_post(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let (id, output) = order_deletion(&app, identity, &id).await?;
    Ok(registered(&app, id, "Delete", &output))
}

/// `POST /jobs/array/ID/deletions/new`: all jobs of the array that have not ended; 400 when there is none.
#[utoipa::path(
    post,
    path = "/jobs/array/{id}/deletions/new",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The array's number: its first job's")),
    responses(
        (status = 202, description = "The order was taken", body = Registered),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn delete_array(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let actor = identity.user("deleting jobs")?.actor();
    let array = parse_id(&id).ok_or_else(ApiError::no_job)?;
    let by = actor.clone();
    let decision = move |draft: &mut Draft<'_>| draft.delete_array(&by, array);
    let decided = app.ledger.decide(decision).await??;
    notes::of_array(&app, &actor, "job deleted", &decided).await?;
    let (mut output, mut deleted) = (String::new(), Vec::new());
    for (job, refusal) in decided {
        match refusal {
            None => {
                output += &format!("Deleting the job = {job} ...REGISTERED.\n");
                deleted.push(job.to_string());
            }
            Some(refusal) => output += &format!("Deleting the job = {job} ...ERROR.\n{refusal}\n"),
        }
    }
    output +=
        &format!("The job(s) [ {} ] will be deleted in the near future.\n", deleted.join(" "));
    Ok(registered(&app, array, "Delete", &output))
}

pub(super) async fn order_deletion(
    app: &App,
    identity: Identity,
    id: &str,
) -> Result<(JobId, String), ApiError> {
    let actor = identity.user("deleting jobs")?.actor();
    let id = parse_id(id).ok_or_else(ApiError::no_job)?;
    if app.ledger.cluster().job(id).is_none() {
        let ended = app.store.job(id).await?;
        return Err(match ended.filter(|job| actor.may(&job.owner)) {
            Some(_) => DeleteRefusal::AlreadyKilled(id).into(),
            None => DeleteRefusal::NotYours(id).into(),
        });
    }
    let by = actor.clone();
    app.ledger.decide(move |draft| draft.delete(&by, id)).await??;
    notes::of_job(app, &actor, "job deleted", id).await?;
    let output = format!(
        "Deleting the job = {id} ...REGISTERED.\nThe job(s) [ {id} ] will be deleted in the near future.\n"
    );
    Ok((id, output))
}
