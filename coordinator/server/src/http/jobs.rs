//! Jobs: submission, lists, one job, deletion.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use coordinator_api::List;
use coordinator_api::job::{
    Deleted, Event, Job as JobObject, JobItem, JobState, SubmitJob, Submitted,
};
use coordinator_api::mesh::JobMesh;
use coordinator_core::{Array, DeleteRefusal, Draft, Job, JobId, NodeNumber, Request, UnixMillis};
use serde::Serialize;
use serde_json::{Value, json};

use super::actions::registered;
use super::answer::ApiError;
use super::body::Sent;
use super::identity::Identity;
use super::pages::Asked;
use super::{PREFIX, links, notes, objects};
use crate::app::App;
use crate::networks;
use crate::role::ADMINISTRATOR;
use crate::stage::{ContentHash, StageinState};
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

/// `POST /jobs`: 201 with the job's number; 400 when the request is refused; 401 for nobody.
pub(super) async fn submit(
    State(app): State<App>,
    identity: Identity,
    Sent(submission): Sent<SubmitJob>,
) -> Result<impl IntoResponse, ApiError> {
    let owner = identity.user("posting jobs")?.name;
    if owner == ADMINISTRATOR {
        return Err(ApiError::forbidden("root and oar users are not allowed to submit jobs."));
    }
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

/// `GET /jobs`.
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
pub(super) async fn details(
    State(app): State<App>,
    asked: Asked,
) -> Result<Json<List<Value>>, ApiError> {
    let now = app.clock.now();
    let (jobs, total) = find(&app, &asked).await?;
    let items = jobs.iter().map(|job| {
        let mut object = full(&app, job);
        // As in OAR's lists.
        object["array_index"] = Value::Null;
        object["resubmit_job_id"] = Value::Null;
        object
    });
    Ok(asked.list(items.collect(), total, now))
}

/// A job's object with its nodes and resources.
fn full(app: &App, job: &Job) -> Value {
    let now = app.clock.now();
    let mut object = json!(objects::job(job, now));
    object["nodes"] = json!(objects::job_nodes(job, now));
    object["resources"] = json!(resources_of(app, job));
    object
}

/// `GET /jobs/ID/details`, for any user.
pub(super) async fn show_full(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    identity.user("looking at jobs")?;
    Ok(Json(full(&app, &app.find_job(&id).await?)))
}

/// `GET /jobs/table`: the columns of OAR's own table.
pub(super) async fn table(
    State(app): State<App>,
    asked: Asked,
) -> Result<Json<List<Value>>, ApiError> {
    let now = app.clock.now();
    let (jobs, total) = find(&app, &asked).await?;
    let items = jobs.iter().map(|job| objects::job_row(job, now)).collect();
    Ok(asked.list(items, total, now))
}

/// `POST /jobs/ID/resubmissions/new`: 201 with the new job's number; 400 for a job that has not ended, or is
/// another user's.
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
    let body = json!({
        "id": id.0,
        "status": "submitted",
        "cmd_output": format!("Resubmitting job {parent}...DONE\nOAR_JOB_ID={id}\n"),
        "links": [links::itself(format!("/jobs/{id}")), links::parent(parent)],
        "api_timestamp": app.clock.now().seconds(),
    });
    Ok(created(id, body))
}

/// `GET /jobs/ID`, for any user; a node sees the jobs that it has a part in.
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
pub(super) async fn nodes(
    State(app): State<App>,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Json<List<Value>>, ApiError> {
    let now = app.clock.now();
    let items = app.look_up_job(&id).await?.map(|job| objects::job_nodes(&job, now));
    Ok(asked.whole(items.unwrap_or_default(), now))
}

/// `GET /jobs/ID/resources`. Unknown job: an empty list, as OAR has it.
pub(super) async fn resources(
    State(app): State<App>,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Json<List<Value>>, ApiError> {
    let items = app.look_up_job(&id).await?.map(|job| resources_of(&app, &job));
    Ok(asked.whole(items.unwrap_or_default(), app.clock.now()))
}

/// `GET /jobs/ID/events`.
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

/// `DELETE /jobs/ID`: 202; 400 when there is nothing to delete, as OAR has it.
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
pub(super) async fn delete_by_post(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let (id, output) = order_deletion(&app, identity, &id).await?;
    Ok(registered(&app, id, "Delete", &output))
}

/// `POST /jobs/array/ID/deletions/new`: all jobs of the array that have not ended; 400 when there is none.
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
    let bad = |_| ApiError::bad_query("array must be the number of an array");
    let array = asked.parameter("array").map(|id| id.parse().map_err(bad)).transpose()?;
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
fn resources_of(app: &App, job: &Job) -> Vec<Value> {
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
