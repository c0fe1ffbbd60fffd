//! Hold, resume and what else clients order by name; and why a job waits.

use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use coordinator_api::action::Registered;
use coordinator_api::job::{JobState, Why};
use coordinator_core::{Depth, Draft, HoldRefusal, JobId, ResumeRefusal, UnixMillis, Wait, plan};
use serde::Deserialize;

use super::answer::ApiError;
use super::body::Sent;
use super::deletion::order_deletion;
use super::identity::Identity;
use super::jobs::parse_id;
use super::openapi::{Absent, Denied, Disabled, Refused, TooLarge, Unknown};
use super::without::disabled;
use super::{links, notes};
use crate::app::App;

/// The most of a client's word that an error repeats, characters.
const MAX_SHOWN: usize = 200;

/// `POST /jobs/ID/holds/new`: 202; 400 for a job that does not wait, or is another user's, as in OAR.
#[utoipa::path(
    post,
    path = "/jobs/{id}/holds/new",
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
pub(super) async fn hold(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let actor = identity.user("holding jobs")?.actor();
    let id = parse_id(&id).ok_or_else(ApiError::no_job)?;
    let by = actor.clone();
    app.ledger.decide(move |draft: &mut Draft<'_>| draft.hold(&by, id)).await??;
    notes::of_job(&app, &actor, "job held", id).await?;
    Ok(registered(&app, id, "Hold", &sent(id, "Hold")))
}

/// `POST /jobs/ID/resumptions/new`: 202; 400 for a job that is not held, or is another user's.
#[utoipa::path(
    post,
    path = "/jobs/{id}/resumptions/new",
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
pub(super) async fn resume(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let actor = identity.user("resuming jobs")?.actor();
    let id = parse_id(&id).ok_or_else(ApiError::no_job)?;
    let by = actor.clone();
    app.ledger.decide(move |draft: &mut Draft<'_>| draft.resume(&by, id)).await??;
    notes::of_job(&app, &actor, "job resumed", id).await?;
    Ok(registered(&app, id, "Resume", &sent(id, "Resume")))
}

/// `POST /jobs/array/ID/holds/new`: 202 when a job of the array is held now; else 400.
#[utoipa::path(
    post,
    path = "/jobs/array/{id}/holds/new",
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
pub(super) async fn hold_array(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let actor = identity.user("holding jobs")?.actor();
    let id = parse_id(&id).ok_or_else(ApiError::no_job)?;
    let by = actor.clone();
    let decision = move |draft: &mut Draft<'_>| draft.hold_array(&by, id);
    let outcomes = app.ledger.decide(decision).await??;
    notes::of_array(&app, &actor, "job held", &outcomes).await?;
    Ok(registered(&app, id, "Hold", &each("Hold", &outcomes)))
}

/// `POST /jobs/array/ID/resumptions/new`: 202 when a job of the array goes on; else 400.
#[utoipa::path(
    post,
    path = "/jobs/array/{id}/resumptions/new",
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
pub(super) async fn resume_array(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let actor = identity.user("resuming jobs")?.actor();
    let id = parse_id(&id).ok_or_else(ApiError::no_job)?;
    let by = actor.clone();
    let decision = move |draft: &mut Draft<'_>| draft.resume_array(&by, id);
    let outcomes = app.ledger.decide(decision).await??;
    notes::of_array(&app, &actor, "job resumed", &outcomes).await?;
    Ok(registered(&app, id, "Resume", &each("Resume", &outcomes)))
}

/// What a client wants of a job, in the words of OAR's `POST /jobs/ID`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Update {
    #[schema(value_type = String)]
    method: Option<String>,
}

/// `POST` or `PUT /jobs/ID`: the actions once more, by name. 405 for those that OAR has and this server has not.
#[utoipa::path(
    method(post, put),
    path = "/jobs/{id}",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    request_body = Update,
    responses(
        (status = 202, description = "The order was taken", body = Registered),
        Refused,
        Unknown,
        Denied,
        Absent,
        Disabled,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn update(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    Sent(update): Sent<Update>,
) -> Result<Response, ApiError> {
    let Some(method) = update.method else {
        return Err(ApiError::missing_field("A job update must have a \"method\" field!"));
    };
    match method.as_str() {
        "delete" => {
            let (id, output) = order_deletion(&app, identity, &id).await?;
            Ok(registered(&app, id, "Delete", &output))
        }
        "hold" => hold(State(app), identity, Path(id)).await,
        "resume" => resume(State(app), identity, Path(id)).await,
        "checkpoint" | "rhold" | "signal" | "walltime-change" => Err(disabled()),
        other => {
            let shown: String = other.chars().take(MAX_SHOWN).collect();
            Err(ApiError::bad_query(format!("Could not understand {shown} method")))
        }
    }
}

/// `GET /jobs/ID/why`: what keeps a job from starting, in words. Ours, not OAR's.
#[utoipa::path(
    get,
    path = "/jobs/{id}/why",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The reason", body = Why),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn why(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Why>, ApiError> {
    identity.user("looking at jobs")?;
    let job = app.find_job(&id).await?;
    let waits = matches!(job.state, JobState::Waiting | JobState::Hold);
    let (mut scheduled_start, mut reason) = (None, format!("the job is {:?}", job.state));
    if waits {
        let (cluster, now, policy) = (app.ledger.cluster(), app.clock.now(), app.policy.clone());
        // A pass through the whole queue takes its time: not on a thread that answers polls.
        let pass = move || plan(&cluster, now, &policy, Depth::Everything);
        let planned = tokio::task::spawn_blocking(pass).await;
        let mut planned = planned.map_err(|_| ApiError::bad_query("the plan could not be made"))?;
        reason = "it is its turn: it starts now".to_owned();
        if let Some(wait) = planned.waits.remove(&job.id) {
            (scheduled_start, reason) = words(&wait);
        }
    }
    Ok(Json(Why { id: job.id.0, state: job.state, scheduled_start, reason }))
}

fn words(wait: &Wait) -> (Option<u64>, String) {
    match wait {
        Wait::Held => (None, "it is held: `oarresume` lets it go on".to_owned()),
        Wait::Dependency(other) => (None, format!("it waits for the end of job {other}")),
        Wait::NotBefore(start) => {
            (Some(start.seconds()), format!("it was asked to start on {}", date(*start)))
        }
        Wait::Quota(quota) => (None, format!("the quota {quota} is used up")),
        Wait::TooFew { alive, silent } => (
            None,
            format!(
                "it does not fit on what is alive ({alive} resources of its kind); {silent} more are on machines \
                 that are silent"
            ),
        ),
        Wait::Leaving => (None, "its resources are being freed for it".to_owned()),
        Wait::Planned { start, behind } => (
            Some(start.seconds()),
            format!(
                "its resources are busy or promised; it is planned for {} at the latest, behind {behind} waiting \
                 jobs",
                date(*start)
            ),
        ),
        Wait::NothingLeft => (None, "no resources are left over for best-effort jobs".to_owned()),
    }
}

fn date(time: UnixMillis) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(time.seconds());
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
}

fn sent(id: JobId, what: &str) -> String {
    format!("[{id}] {what} request was sent to the OAR server.\n")
}

fn each<R: Display>(what: &str, outcomes: &[(JobId, Option<R>)]) -> String {
    let line = |(id, refusal): &(JobId, Option<R>)| match refusal {
        None => sent(*id, what),
        Some(refusal) => format!("{refusal}\n"),
    };
    outcomes.iter().map(line).collect()
}

/// 202: the order was taken. `output` is what OAR's command would have printed.
pub(super) fn registered(app: &App, id: JobId, what: &str, output: &str) -> Response {
    let body = Registered {
        id: id.to_string(),
        status: format!("{what} request registered"),
        cmd_output: output.to_owned(),
        links: vec![links::itself(format!("/jobs/{id}"))],
        api_timestamp: app.clock.now().seconds(),
    };
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

impl From<HoldRefusal> for ApiError {
    fn from(refusal: HoldRefusal) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Oar error", refusal.to_string())
    }
}

impl From<ResumeRefusal> for ApiError {
    fn from(refusal: ResumeRefusal) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Oar error", refusal.to_string())
    }
}
