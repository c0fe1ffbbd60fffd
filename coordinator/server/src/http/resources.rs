//! Resources: public, as in OAR.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use coordinator_api::List;
use coordinator_api::resource::{ResourceItem, ResourceJob, ResourceRow};
use coordinator_core::{Node, NodeNumber};
use serde_json::{Value, json};

use super::answer::ApiError;
use super::openapi::{Absent, JobsOn, Paging, Refused};
use super::pages::Asked;
use super::{links, objects};
use crate::app::App;

/// `GET /resources`.
#[utoipa::path(
    get,
    path = "/resources",
    tag = "Resources",
    params(Paging),
    responses(
        (status = 200, description = "A page of resources", body = List<ResourceItem>),
        Refused,
    ),
)]
pub(super) async fn list(State(app): State<App>, asked: Asked) -> Json<List<ResourceItem>> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let total = cluster.nodes().map(|node| usize::from(node.cores)).sum();
    let all = cluster.nodes().flat_map(|node| node.resources().map(move |id| (node, id)));
    let page = all.skip(asked.offset).take(asked.limit);
    let items = page.map(|(node, id)| objects::resource_item(node, id, now));
    asked.list(items.collect(), total, now)
}

/// `GET /resources/details`.
#[utoipa::path(
    get,
    path = "/resources/details",
    tag = "Resources",
    params(Paging),
    responses(
        (status = 200, description = "A page of resources", body = List<ResourceRow>),
        Refused,
    ),
)]
pub(super) async fn details(State(app): State<App>, asked: Asked) -> Json<List<ResourceRow>> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let items = cluster.nodes().flat_map(|node| objects::resource_rows(node, now));
    asked.page(items.collect(), now)
}

/// `GET /resources/ID`.
#[utoipa::path(
    get,
    path = "/resources/{id}",
    tag = "Resources",
    params(("id" = u64, Path, description = "The resource's number")),
    responses(
        (status = 200, description = "The resource", body = ResourceRow),
        Absent,
    ),
)]
pub(super) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<ResourceRow>, ApiError> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let (node, id) = find(cluster.nodes().map(|node| &**node), &id).ok_or_else(no_resource)?;
    let mut rows = objects::resource_rows(node, now);
    rows.find(|row| row.id == id).map(Json).ok_or_else(no_resource)
}

/// `GET /resources/ID/jobs`, or `/resources/PROPERTY/jobs`: names of properties are no numbers.
#[utoipa::path(
    get,
    path = "/resources/{id}/jobs",
    tag = "Resources",
    params(("id" = String, Path, description = "The resource's number, or the name of a property")),
    responses(
        (status = 200, description = "The jobs", body = JobsOn),
        Refused,
    ),
)]
pub(super) async fn jobs(State(app): State<App>, asked: Asked, Path(id): Path<String>) -> Response {
    match id.parse::<u64>() {
        Ok(_) => jobs_of_resource(&app, &asked, &id).into_response(),
        Err(_) => jobs_by_property(&app, &asked, &id).into_response(),
    }
}

/// The job that the resource works for.
fn jobs_of_resource(app: &App, asked: &Asked, id: &str) -> Json<List<ResourceJob>> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let found = find(cluster.nodes().map(|node| &**node), id);
    let job = found.and_then(|(node, resource)| node.job_of(resource));
    let item = |id: coordinator_core::JobId| ResourceJob {
        id: id.0,
        links: links::of_job(id),
        api_timestamp: now.seconds(),
    };
    asked.whole(job.map(item).into_iter().collect(), now)
}

/// For each value of the property the jobs on it, one a resource. A property
/// that nothing has: an empty list, as in OAR.
fn jobs_by_property(app: &App, asked: &Asked, name: &str) -> Json<Value> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let mut values: BTreeMap<String, (Value, Vec<u64>)> = BTreeMap::new();
    for node in cluster.nodes() {
        for (id, row) in node.resources().zip(objects::resource_rows(node, now)) {
            let row = json!(row);
            let Some(value) = row.get(name).filter(|value| !value.is_array()) else { continue };
            let (_, jobs) = values.entry(value.to_string()).or_insert((value.clone(), Vec::new()));
            jobs.extend(node.job_of(id).map(|job| job.0));
        }
    }
    let item = |(value, jobs): (Value, Vec<u64>)| json!({ name: value, "jobs": jobs });
    let items: Vec<Value> = values.into_values().map(item).collect();
    // Neither a total nor an offset, as in OAR.
    Json(json!({
        "items": items,
        "links": [asked.itself()],
        "api_timestamp": now.seconds(),
    }))
}

/// `GET /resources/nodes/NAME`. Unknown node: an empty list, where OAR breaks.
#[utoipa::path(
    get,
    path = "/resources/nodes/{node}",
    tag = "Resources",
    params(("node" = String, Path, description = "The node's name")),
    responses(
        (status = 200, description = "Its resources", body = List<ResourceItem>),
        Refused,
    ),
)]
pub(super) async fn of_node(
    State(app): State<App>,
    asked: Asked,
    Path(name): Path<String>,
) -> Json<List<ResourceItem>> {
    let (cluster, now) = (app.ledger.cluster(), app.clock.now());
    let node = name.parse::<NodeNumber>().ok().and_then(|number| cluster.node(number));
    let all = node.into_iter().flat_map(|node| node.resources().map(move |id| (node, id)));
    let items = all.map(|(node, id)| objects::resource_item(node, id, now));
    asked.whole(items.collect(), now)
}

fn find<'a>(mut nodes: impl Iterator<Item = &'a Node>, id: &str) -> Option<(&'a Node, u64)> {
    let id: u64 = id.parse().ok()?;
    nodes.find(|node| node.resources().contains(&id)).map(|node| (node, id))
}

pub(super) fn no_resource() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "Resource not found", "Resource not found")
}
