//! What agents ask and say.

use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coordinator_api::List;
use coordinator_api::agent::{Fault, NodeJobItem, ReportedState, SetState};
use coordinator_api::enrolment::{ControlChannel, Enrol, Enrolled, signed_text};
use coordinator_api::job::JobState;
use coordinator_core::{JobId, NodeNumber, Report, ReportRefusal, judge_late_report};
use data_encoding::HEXLOWER_PERMISSIVE;
use ed25519_dalek::{Signature, VerifyingKey};
use overlay_core::ids::NodeId;

use super::answer::ApiError;
use super::body::Sent;
use super::compat::{self, Speaker};
use super::identity::Identity;
use super::links;
use super::openapi::{Absent, Conflict, Denied, Poll, Refused, TooLarge, Unknown};
use super::pages::Asked;
use crate::app::App;
use crate::secret::{SecretHash, make_secret};
use crate::store::EnrolRow;

/// The most cores of a node. Chosen: more than any machine has.
const MAX_CORES: u16 = 4_096;

/// The longest program name that is kept, bytes.
const MAX_SOFTWARE: usize = 200;

/// The longest that a poll may wait for orders, seconds. Chosen: less than the time limit of a request.
const MAX_WAIT_S: usize = 25;

/// `GET /resources/nodes/NAME/jobs?state=`: the poll. Its jobs in that state; `toLaunch` and `toKill` are
/// the node's orders. Answered from memory; with the node's own credential it renews its liveness, and
/// `wait=SECONDS` holds the answer back until there is an order.
#[utoipa::path(
    get,
    path = "/resources/nodes/{node}/jobs",
    tag = "Agents",
    params(("node" = String, Path, description = "The node's name"), Poll),
    responses(
        (status = 200, description = "Its jobs", body = List<NodeJobItem>),
        Refused,
        Unknown,
    ),
)]
pub(super) async fn jobs_of_node(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
    Path(name): Path<String>,
) -> Result<Json<List<NodeJobItem>>, ApiError> {
    let now = app.clock.now();
    let wait = asked.number("wait")?.unwrap_or_default().min(MAX_WAIT_S);
    let jobs = match NodeNumber::from_str(&name) {
        Ok(node) => {
            compat::heard(&app, &identity, node).await?;
            let may_wait = identity == Identity::Node(node);
            let wait = Duration::from_secs(if may_wait { wait as u64 } else { 0 });
            orders_within(&app, node, asked.parameter("state"), wait).await
        }
        Err(_) => Vec::new(),
    };
    let item = |(job, generation): (JobId, u32)| NodeJobItem {
        id: job.0,
        generation,
        links: links::of_job(job),
        api_timestamp: now.seconds(),
    };
    Ok(asked.whole(jobs.into_iter().map(item).collect(), now))
}

async fn orders_within(
    app: &App,
    node: NodeNumber,
    state: Option<&str>,
    wait: Duration,
) -> Vec<(JobId, u32)> {
    let found = orders(app, node, state);
    if !found.is_empty() || wait.is_zero() {
        return found;
    }
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    let bell = app.ledger.wakes().of(node);
    loop {
        let rung = bell.notified();
        tokio::pin!(rung);
        // From here on nothing is missed; what came before is looked for.
        rung.as_mut().enable();
        let found = orders(app, node, state);
        if !found.is_empty() {
            return found;
        }
        tokio::select! {
            () = rung => {}
            () = &mut over => return Vec::new(),
            () = app.stopping.cancelled() => return Vec::new(),
        }
    }
}

fn orders(app: &App, node: NodeNumber, state: Option<&str>) -> Vec<(JobId, u32)> {
    let cluster = app.ledger.cluster();
    match state {
        Some("toLaunch") => cluster.to_launch(node),
        Some("toKill") => cluster.to_kill(node),
        state => {
            let shares = cluster.node(node).into_iter().flat_map(|node| &node.shares);
            let jobs = shares.filter_map(|share| cluster.job(share.job));
            // OAR does not filter by the states of jobs that have left the node.
            let mut names = state.into_iter().flat_map(|names| names.split(',')).peekable();
            let unfiltered = names.peek().is_none();
            let named = names.map(|name| serde_json::from_value::<JobState>(name.into()));
            let wanted: Vec<_> = named.collect();
            let is_final = |it: &Result<JobState, _>| it.as_ref().is_ok_and(|it| it.is_final());
            let all = unfiltered || wanted.iter().all(is_final);
            let is_wanted =
                |found| wanted.iter().any(|it| it.as_ref().is_ok_and(|it| *it == found));
            jobs.filter(|job| all || is_wanted(job.state))
                .map(|job| (job.id, job.generation))
                .collect()
        }
    }
}

/// `POST /jobs/ID/state`: 200; 403 for a node without a part in the job; 409 when the launch is over or
/// the node has said something else before.
#[utoipa::path(
    post,
    path = "/jobs/{id}/state",
    tag = "Agents",
    params(("id" = u64, Path, description = "The job's number")),
    request_body = SetState,
    responses(
        (status = 200, description = "Taken"),
        Refused,
        Unknown,
        Denied,
        Absent,
        Conflict,
        TooLarge,
    ),
    security(("credential" = [])),
)]
pub(super) async fn report(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    Sent(said): Sent<SetState>,
) -> Result<StatusCode, ApiError> {
    let Speaker { node, launch } =
        compat::speaker(&app, identity, "changing the state of a job", &id).await?;
    let id = JobId(id.parse().map_err(|_| ApiError::no_job())?);
    let generation = launch.unwrap_or(said.generation);
    let report = to_report(said);
    let told = report.clone();
    let decided = app.ledger.decide(move |draft| draft.report(node, id, generation, told)).await?;
    if decided == Err(ReportRefusal::UnknownJob) {
        let job = app.store.job(id).await?.ok_or_else(ApiError::no_job)?;
        judge_late_report(&job, node, generation, &report)?;
        return Ok(StatusCode::OK);
    }
    decided?;
    Ok(StatusCode::OK)
}

fn to_report(said: SetState) -> Report {
    match said.state {
        ReportedState::Running => Report::Running,
        ReportedState::Terminated => Report::Terminated { exit_code: said.exit_code },
        ReportedState::Error => Report::Error {
            // An agent of plain OAR does not say; its `error` is a command that failed.
            fault: said.fault.unwrap_or(Fault::Job),
            message: said.message.unwrap_or_default(),
        },
    }
}

/// `POST /agents`: 201 with the node's name and credential; 400 for what is no key or signature; 403 for
/// another's, and for a join token that is unknown, expired or another node's.
#[utoipa::path(
    post,
    path = "/agents",
    tag = "Agents",
    request_body(content((Enrol = "application/json"), (Enrol = "text/yaml"))),
    responses(
        (status = 201, description = "The node", body = Enrolled),
        Refused,
        Denied,
        TooLarge,
    ),
)]
pub(super) async fn enrol(
    State(app): State<App>,
    Sent(asked): Sent<Enrol>,
) -> Result<impl IntoResponse, ApiError> {
    let key = check_signature(&asked)?;
    if !(1..=MAX_CORES).contains(&asked.cores) {
        return Err(ApiError::bad_query("cores must be a number from 1 to 4096"));
    }
    let token =
        SecretHash::of(&asked.token).ok_or_else(|| ApiError::forbidden("join token unknown"))?;
    let (text, credential) = make_secret().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "no randomness");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Oar server error", "try again")
    })?;
    let software = asked.software.chars().filter(|c| !c.is_control()).take(MAX_SOFTWARE).collect();
    let row = EnrolRow { token, key, credential, software, memory_mib: asked.memory_mib };
    let node = app.ledger.enrol(row, asked.cores).await??;
    app.heard(node).await?;
    let enrolled = Enrolled {
        hostname: node.to_string(),
        credential: text,
        rendezvous: app.announced.rendezvous.clone(),
        poll_interval_ms: u64::try_from(app.announced.poll_interval.as_millis())
            .unwrap_or(u64::MAX),
    };
    Ok((StatusCode::CREATED, Json(enrolled)))
}

/// `GET /agents`: 200 with the place of the control channel.
#[utoipa::path(
    get,
    path = "/agents",
    tag = "Agents",
    responses(
        (status = 200, description = "Where it is", body = ControlChannel),
    ),
)]
pub(super) async fn control_channel(State(app): State<App>) -> impl IntoResponse {
    Json(ControlChannel { rendezvous: app.announced.rendezvous.clone() })
}

/// The asker owns the key that it names.
fn check_signature(asked: &Enrol) -> Result<NodeId, ApiError> {
    let bad = |what: &str| ApiError::bad_query(format!("{what} is not what it should be"));
    let unproved = || ApiError::forbidden("the signature is not of this key and token");
    let node: NodeId = asked.node.parse().map_err(|_| bad("node"))?;
    let key = VerifyingKey::from_bytes(&node.0).map_err(|_| unproved())?;
    let signature = HEXLOWER_PERMISSIVE.decode(asked.signature.as_bytes());
    let signature = signature.map_err(|_| bad("signature"))?;
    let signature = Signature::from_slice(&signature).map_err(|_| bad("signature"))?;
    let text = signed_text(&asked.token, &asked.node);
    key.verify_strict(text.as_bytes(), &signature).map_err(|_| unproved())?;
    Ok(node)
}
