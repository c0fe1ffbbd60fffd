//! Hold and resume, and why a job waits.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coordinator_api::job::{JobState, Why};
use coordinator_core::{Depth, Draft, HoldRefusal, JobId, ResumeRefusal, UnixMillis, Wait, plan};
use serde_json::json;

use super::answer::ApiError;
use super::identity::Identity;
use super::links;
use crate::app::App;

/// `POST /jobs/ID/holds/new`: 202; 400 for a job that does not wait, or is another user's, as in OAR.
pub(super) async fn hold(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let user = identity.user("holding jobs")?;
    let id = parse(&id)?;
    app.ledger.decide(move |draft: &mut Draft<'_>| draft.hold(&user, false, id)).await??;
    Ok(registered(&app, id, "Hold"))
}

/// `POST /jobs/ID/resumptions/new`: 202; 400 for a job that is not held, or is another user's.
pub(super) async fn resume(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let user = identity.user("resuming jobs")?;
    let id = parse(&id)?;
    app.ledger.decide(move |draft: &mut Draft<'_>| draft.resume(&user, false, id)).await??;
    Ok(registered(&app, id, "Resume"))
}

/// `GET /jobs/ID/why`: what keeps a job from starting, in words. Ours, not OAR's.
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

fn parse(id: &str) -> Result<JobId, ApiError> {
    id.parse().map(JobId).map_err(|_| ApiError::no_job())
}

fn registered(app: &App, id: JobId, what: &str) -> impl IntoResponse + use<> {
    let body = json!({
        "id": id.to_string(),
        "status": format!("{what} request registered"),
        "cmd_output": format!("[{id}] {what} request was sent to the OAR server.\n"),
        "links": [links::itself(format!("/jobs/{id}"))],
        "api_timestamp": app.clock.now().seconds(),
    });
    (StatusCode::ACCEPTED, Json(body))
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
