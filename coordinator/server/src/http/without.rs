//! Routes of OAR that are answered, and do nothing here: each says why, and what to use instead.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_core::{Actor, Job};
use serde_json::Value;

use super::answer::ApiError;
use super::identity::Identity;
use super::openapi::{Absent, Denied, Disabled, Refused, Sql, Unknown};
use super::pages::Asked;
use crate::app::App;

/// `GET /select_all?query=`: no SQL of clients reaches the database.
#[utoipa::path(
    get,
    path = "/select_all",
    tag = "Administration",
    params(Sql),
    responses(
        Refused,
        Unknown,
        Denied,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn select_all(identity: Identity, asked: Asked) -> Result<Json<Value>, ApiError> {
    identity.user("looking at jobs")?;
    if asked.parameter("query").is_none() {
        return Err(ApiError::bad_query("The 'query' parameter is mandatory"));
    }
    let message = "No SQL is taken from clients: /jobs, /resources and /accounting have filters";
    Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message))
}

/// `GET /colmet/job/ID`: nobody measures for it.
#[utoipa::path(
    get,
    path = "/colmet/job/{id}",
    tag = "Administration",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn colmet(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    identity.user("looking at jobs")?;
    app.find_job(&id).await?;
    let message = "Colmet measures nothing on volunteers' machines";
    Err(ApiError::new(StatusCode::NOT_FOUND, "File not found", message))
}

/// `POST /jobs/ID/checkpoints/new`.
#[utoipa::path(
    post,
    path = "/jobs/{id}/checkpoints/new",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        Refused,
        Unknown,
        Denied,
        Absent,
        Disabled,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn checkpoint(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (actor, job) = ordered(&app, identity, "checkpointing jobs", &id).await?;
    let said = format!("Checkpointing the job {id} ...ERROR.\nCannot checkpoint {id} ; ");
    Err(refuse_signal(&actor, job.as_ref(), &said))
}

/// `POST /jobs/array/ID/checkpoints/new`.
#[utoipa::path(
    post,
    path = "/jobs/array/{id}/checkpoints/new",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The array's number: its first job's")),
    responses(
        Unknown,
        Denied,
        Disabled,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn checkpoint_array(identity: Identity) -> Result<Json<Value>, ApiError> {
    identity.user("checkpointing jobs")?;
    Err(disabled())
}

/// `POST /jobs/ID/signals/N`.
#[utoipa::path(
    post,
    path = "/jobs/{id}/signals/{signal}",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number"), ("signal" = String, Path, description = "A number, or a name as in TERM")),
    responses(
        Refused,
        Unknown,
        Denied,
        Absent,
        Disabled,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn signal(
    State(app): State<App>,
    identity: Identity,
    Path((id, signal)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let (actor, job) = ordered(&app, identity, "signaling jobs", &id).await?;
    let signal: String = signal.chars().take(20).collect();
    let said =
        format!("Signaling the job {id} with {signal} signal.\nERROR.\nCannot signal {id} ; ");
    Err(refuse_signal(&actor, job.as_ref(), &said))
}

/// `POST /jobs/ID/rholds/new`.
#[utoipa::path(
    post,
    path = "/jobs/{id}/rholds/new",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        Refused,
        Unknown,
        Denied,
        Absent,
        Disabled,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn suspend(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (actor, _) = ordered(&app, identity, "suspending jobs", &id).await?;
    if actor.is_operator {
        return Err(disabled());
    }
    let message = format!("/!\\ Cannot hold {id} : only oar or root users can use '-r' option.\n");
    Err(ApiError::new(StatusCode::BAD_REQUEST, "Oar error", message))
}

async fn ordered(
    app: &App,
    identity: Identity,
    before: &str,
    id: &str,
) -> Result<(Actor, Option<Job>), ApiError> {
    let actor = identity.user(before)?.actor();
    if id.parse::<u64>().is_err() {
        return Err(ApiError::no_job());
    }
    Ok((actor, app.look_up_job(id).await?))
}

/// A job that runs is not reached by signals: its machine is a volunteer's, behind an agent that knows none.
fn refuse_signal(actor: &Actor, job: Option<&Job>, said: &str) -> ApiError {
    let why = match job.filter(|job| actor.may(&job.owner)) {
        None => "You are not the right user.",
        Some(job) if job.started.is_none() || job.state.is_final() => "This job is not running.",
        Some(_) => return disabled(),
    };
    ApiError::new(StatusCode::BAD_REQUEST, "Oar error", format!("{said}{why}\n"))
}

/// OAR's answer for what its administrator has switched off.
pub(super) fn disabled() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Not available", "Functionality is disabled")
}
