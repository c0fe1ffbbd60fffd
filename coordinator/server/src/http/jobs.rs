//! Jobs: lists, one job, its parts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_api::List;
use coordinator_api::job::{
    Event, Job as JobObject, JobDetails, JobItem, JobNode, JobResource, JobRow, JobState,
};
use coordinator_api::mesh::JobMesh;
use coordinator_core::{Job, JobId, NodeNumber, UnixMillis};
use serde_json::Value;

use super::answer::ApiError;
use super::identity::Identity;
use super::objects;
use super::openapi::{Absent, Denied, JobFilters, Paging, Refused, Unknown};
use super::pages::Asked;
use crate::app::App;
use crate::networks;
use crate::store::JobFilter;

/// The states that a list shows when the client does not say: OAR's.
const ACTIVE: [JobState; 9] = [
    JobState::Finishing,
    JobState::Running,
    JobState::Resuming,
    JobState::Suspended,
    JobState::Launching,
    JobState::ToLaunch,
    JobState::Waiting,
    JobState::ToAckReservation,
    JobState::Hold,
];

/// The most numbers in `ids=`. Chosen: SQLite's limit for bound values is 32,766.
const MAX_IDS: usize = 1_000;

/// `GET /jobs`.
#[utoipa::path(
    get,
    path = "/jobs",
    tag = "Jobs",
    params(JobFilters, Paging),
    responses(
        (status = 200, description = "A page of jobs", body = List<JobItem>),
        Refused,
    ),
)]
pub(super) async fn list(
    State(app): State<App>,
    asked: Asked,
) -> Result<Json<List<JobItem>>, ApiError> {
    let now = app.clock.now();
    let (jobs, total) = find(&app, &asked).await?;
    let items = jobs.iter().map(|job| objects::job_item(job, now)).collect();
    Ok(asked.list(items, total, now))
}

/// `GET /jobs/details`: full objects with their nodes and resources.
#[utoipa::path(
    get,
    path = "/jobs/details",
    tag = "Jobs",
    params(JobFilters, Paging),
    responses(
        (status = 200, description = "A page of jobs", body = List<JobDetails>),
        Refused,
    ),
)]
pub(super) async fn details(
    State(app): State<App>,
    asked: Asked,
) -> Result<Json<List<JobDetails>>, ApiError> {
    let now = app.clock.now();
    let (jobs, total) = find(&app, &asked).await?;
    let items = jobs.iter().map(|job| {
        let mut details = full(&app, job);
        // As in OAR's lists.
        details.job.array_index = None;
        details.job.resubmit_job_id = None;
        details
    });
    Ok(asked.list(items.collect(), total, now))
}

/// A job's object with its nodes and resources.
fn full(app: &App, job: &Job) -> JobDetails {
    let now = app.clock.now();
    JobDetails {
        job: objects::job(job, now),
        nodes: objects::job_nodes(job, now),
        resources: resources_of(app, job),
    }
}

/// `GET /jobs/ID/details`, for any user.
#[utoipa::path(
    get,
    path = "/jobs/{id}/details",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The job", body = JobDetails),
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn show_full(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<JobDetails>, ApiError> {
    identity.user("looking at jobs")?;
    Ok(Json(full(&app, &app.find_job(&id).await?)))
}

/// `GET /jobs/table`: the columns of OAR's own table.
#[utoipa::path(
    get,
    path = "/jobs/table",
    tag = "Jobs",
    params(JobFilters, Paging),
    responses(
        (status = 200, description = "A page of jobs", body = List<JobRow>),
        Refused,
    ),
)]
pub(super) async fn table(
    State(app): State<App>,
    asked: Asked,
) -> Result<Json<List<JobRow>>, ApiError> {
    let now = app.clock.now();
    let (jobs, total) = find(&app, &asked).await?;
    let items = jobs.iter().map(|job| objects::job_row(job, now)).collect();
    Ok(asked.list(items, total, now))
}

/// `GET /jobs/ID`, for any user; a node sees the jobs that it has a part in.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The job", body = JobObject),
        Unknown,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<JobObject>, ApiError> {
    if identity == Identity::Anonymous {
        return Err(ApiError::anonymous("looking at jobs"));
    }
    let job = app.find_job(&id).await?;
    let mut object = objects::job(&job, app.clock.now());
    if let Identity::Node(node) = identity {
        let assignment = objects::assignment(&job, node);
        object.assignment = Some(assignment.ok_or_else(ApiError::no_job)?);
    }
    Ok(Json(object))
}

/// `GET /jobs/ID/nodes`. Unknown job: an empty list, as OAR has it.
#[utoipa::path(
    get,
    path = "/jobs/{id}/nodes",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The nodes", body = List<JobNode>),
        Refused,
    ),
)]
pub(super) async fn nodes(
    State(app): State<App>,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Json<List<JobNode>>, ApiError> {
    let now = app.clock.now();
    let items = app.look_up_job(&id).await?.map(|job| objects::job_nodes(&job, now));
    Ok(asked.whole(items.unwrap_or_default(), now))
}

/// `GET /jobs/ID/resources`. Unknown job: an empty list, as OAR has it.
#[utoipa::path(
    get,
    path = "/jobs/{id}/resources",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The resources", body = List<JobResource>),
        Refused,
    ),
)]
pub(super) async fn resources(
    State(app): State<App>,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Json<List<JobResource>>, ApiError> {
    let items = app.look_up_job(&id).await?.map(|job| resources_of(&app, &job));
    Ok(asked.whole(items.unwrap_or_default(), app.clock.now()))
}

/// `GET /jobs/ID/events`.
#[utoipa::path(
    get,
    path = "/jobs/{id}/events",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The events", body = List<Event>),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn events(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Json<List<Event>>, ApiError> {
    identity.user("looking at jobs")?;
    let job = app.find_job(&id).await?;
    Ok(asked.whole(objects::events(&job), app.clock.now()))
}

/// `GET /jobs/ID/mesh`: the pair table, for the job's owner and operators, since it holds the volunteers'
/// addresses; 404 for a job without a network, or not launched yet.
#[utoipa::path(
    get,
    path = "/jobs/{id}/mesh",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number")),
    responses(
        (status = 200, description = "The network", body = JobMesh),
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn mesh(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<JobMesh>, ApiError> {
    let actor = identity.user("looking at jobs")?.actor();
    let job = app.find_job(&id).await?;
    if !actor.may(&job.owner) {
        return Err(ApiError::forbidden("The job is another user's: its network is theirs to see"));
    }
    let current = app.rendezvous.as_ref().and_then(|it| networks::current(it, &job));
    let kept = match current {
        Some(mesh) => Some(mesh),
        None => app.store.kept_mesh(job.id).await?,
    };
    let missing =
        || ApiError::new(StatusCode::NOT_FOUND, "Not found", "The job has had no network");
    kept.map(Json).ok_or_else(missing)
}

/// The page of jobs that was asked for, and how many there are in all.
async fn find(app: &App, asked: &Asked) -> Result<(Vec<Arc<Job>>, usize), ApiError> {
    let filter = filter(asked)?;
    let active =
        filter.states.as_ref().is_some_and(|states| states.iter().all(|state| !state.is_final()));
    if !active {
        let (jobs, total) = app.store.jobs(&filter, asked.limit, asked.offset).await?;
        return Ok((jobs.into_iter().map(Arc::new).collect(), total));
    }
    let cluster = app.ledger.cluster();
    let accepted: Vec<&Arc<Job>> = cluster.jobs().filter(|job| filter.accepts(job)).collect();
    let page = accepted.iter().skip(asked.offset).take(asked.limit);
    Ok((page.map(|&job| job.clone()).collect(), accepted.len()))
}

fn filter(asked: &Asked) -> Result<JobFilter, ApiError> {
    let ids = asked.parameter("ids").map(parse_ids).transpose()?;
    let array = asked.number("array")?.map(|id| id as u64);
    let second = |name| -> Result<_, ApiError> {
        Ok(asked.number(name)?.map(|at| UnixMillis((at as u64).saturating_mul(1_000))))
    };
    let (from, to): (Option<UnixMillis>, Option<UnixMillis>) = (second("from")?, second("to")?);
    let in_time = from.is_some() || to.is_some();
    let states = match asked.parameter("state") {
        // A state that does not exist is no job's, as OAR has it.
        Some(names) => Some(names.split(',').filter_map(parse_state).collect()),
        None if ids.is_none() && array.is_none() && !in_time => Some(ACTIVE.to_vec()),
        None => None,
    };
    let owner = asked.parameter("user").map(str::to_owned);
    Ok(JobFilter { states, owner, ids, array, from, to })
}

fn parse_ids(text: &str) -> Result<Vec<u64>, ApiError> {
    let bad = || ApiError::bad_query("ids must be job numbers with colons between, at most 1000");
    let ids: Vec<u64> =
        text.split(':').map(|id| id.parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
    if ids.len() <= MAX_IDS { Ok(ids) } else { Err(bad()) }
}

fn parse_state(name: &str) -> Option<JobState> {
    serde_json::from_value(Value::from(name)).ok()
}

pub(super) fn parse_id(text: &str) -> Option<JobId> {
    text.parse().ok().map(JobId)
}

/// What the job runs on, or has run on; of a reservation what is kept for it.
fn resources_of(app: &App, job: &Job) -> Vec<JobResource> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let (status, shares): (_, Vec<(NodeNumber, &[u16])>) = match (&job.launch, &job.reserved) {
        (Some(launch), _) => {
            let parts = launch.parts.iter().map(|part| (part.node, &*part.cores));
            ("assigned", parts.collect())
        }
        (None, Some(shares)) => {
            ("reserved", shares.iter().map(|share| (share.node, &*share.cores)).collect())
        }
        (None, None) => ("assigned", Vec::new()),
    };
    let rows = shares.iter().filter_map(|(node, cores)| Some((cores, cluster.node(*node)?)));
    let rows = rows.flat_map(|(cores, node)| {
        let own = |(core, row)| cores.contains(&core).then_some(row);
        (0u16..).zip(objects::resource_rows(node, now)).filter_map(own)
    });
    objects::job_resources(rows, status)
}

impl App {
    /// A job, whether it has ended or not.
    pub(super) async fn look_up_job(&self, id: &str) -> Result<Option<Job>, ApiError> {
        let Some(id) = parse_id(id) else { return Ok(None) };
        Ok(self.look_up(id).await?)
    }

    /// A job that must be there.
    pub(super) async fn find_job(&self, id: &str) -> Result<Job, ApiError> {
        self.look_up_job(id).await?.ok_or_else(ApiError::no_job)
    }
}
