//! Jobs that begin: submission, and once more.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use coordinator_api::action::Resubmitted;
use coordinator_api::job::{SubmitJob, Submitted};
use coordinator_core::{Array, Draft, JobId, Request, read_directives};
use serde::Serialize;

use super::answer::ApiError;
use super::body::Sent;
use super::identity::Identity;
use super::openapi::{Denied, Refused, TooLarge, Unknown};
use super::{PREFIX, links};
use crate::app::App;
use crate::role::ADMINISTRATOR;
use crate::stage::{ContentHash, StageinState};

/// `POST /jobs`: 201 with the job's number; 400 when the request is refused; 401 for nobody.
#[utoipa::path(
    post,
    path = "/jobs",
    tag = "Jobs",
    request_body = SubmitJob,
    responses(
        (status = 201, description = "The job, or the first of the array", headers(("location" = String, description = "Where the job is")), body = Submitted),
        Refused,
        Unknown,
        Denied,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn submit(
    State(app): State<App>,
    identity: Identity,
    Sent(submission): Sent<SubmitJob>,
) -> Result<impl IntoResponse, ApiError> {
    let owner = identity.user("posting jobs")?.name;
    if owner == ADMINISTRATOR {
        return Err(ApiError::forbidden("root and oar users are not allowed to submit jobs."));
    }
    let submission = read_directives(submission)?;
    let (request, array) = (Request::admit(&submission)?, Array::admit(&submission)?);
    check_stagein(&app, &request).await?;
    let mut cmd_output = request.remarks(&submission);
    let is_array = array != Array::One;
    let decision = move |draft: &mut Draft<'_>| draft.submit_array(&owner, &request, &array);
    let ids = app.ledger.decide(decision).await??;
    // An array has a job at least.
    let id = *ids.first().ok_or_else(|| ApiError::bad_query("the array has no job"))?;
    tracing::info!(job = %id, jobs = ids.len(), "job submitted");
    for id in &ids {
        cmd_output += &format!("OAR_JOB_ID={id}\n");
    }
    if is_array {
        cmd_output += &format!("OAR_ARRAY_ID={id}\n");
    }
    let submitted = Submitted {
        id: id.0,
        cmd_output,
        links: vec![links::itself(format!("/jobs/{id}"))],
        api_timestamp: app.clock.now().seconds(),
    };
    Ok(created(id, submitted))
}

/// 201: a new job, and where it is.
fn created(id: JobId, body: impl Serialize) -> impl IntoResponse {
    let location = links::href(format_args!("/jobs/{id}"));
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(body))
}

/// `POST /jobs/ID/resubmissions/new`: 201 with the new job's number; 400 for a job that has not ended, or is
/// another user's.
#[utoipa::path(
    post,
    path = "/jobs/{id}/resubmissions/new",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 201, description = "The new job", headers(("location" = String, description = "Where the new job is")), body = Resubmitted),
        Refused,
        Unknown,
        Denied,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn resubmit(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let user = identity.user("resubmitting jobs")?.name;
    let refused = |why: &str| {
        let message = format!("Resubmitting job {id}...[ERROR] {why}\n");
        ApiError::new(StatusCode::BAD_REQUEST, "Oar error", message)
    };
    let old = app.look_up_job(&id).await?.ok_or_else(|| refused("There is no such job."))?;
    if old.owner != user {
        return Err(refused("You are not the right user."));
    }
    check_stagein(&app, &old.request).await?;
    let parent = old.id;
    let decided = app.ledger.decide(move |draft: &mut Draft<'_>| draft.resubmit(&old)).await?;
    let id = decided.map_err(|refusal| refused(&refusal.to_string()))?;
    tracing::info!(job = %id, %parent, "job resubmitted");
    let body = Resubmitted {
        id: id.0,
        status: "submitted".to_owned(),
        cmd_output: format!("Resubmitting job {parent}...DONE\nOAR_JOB_ID={id}\n"),
        links: vec![links::itself(format!("/jobs/{id}")), links::parent(parent)],
        api_timestamp: app.clock.now().seconds(),
    };
    Ok(created(id, body))
}

/// The stage-in must be there before the job.
async fn check_stagein(app: &App, request: &Request) -> Result<(), ApiError> {
    let Some(hash) = &request.stagein_sha256 else { return Ok(()) };
    let parsed = hash.parse::<ContentHash>();
    let parsed = parsed.map_err(|error| ApiError::bad_query(error.to_string()))?;
    match app.stage.stagein_state(parsed).await? {
        StageinState::Complete { .. } => Ok(app.stage.touch_stagein(parsed).await?),
        StageinState::Partial { .. } | StageinState::Absent => Err(ApiError::bad_query(format!(
            "the stage-in sha256:{hash} is not here: upload it first, PUT {PREFIX}/stagein/{hash}"
        ))),
    }
}
