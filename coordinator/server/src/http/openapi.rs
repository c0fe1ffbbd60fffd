//! The API's description (OpenAPI 3.1), made from the handlers: `GET /openapi`, and docs/openapi.json.
//!
//! A route that is added with `routes!` is described by that; its handler says what is its own. What all routes
//! share is added here: formats, refusals that come before any handler, who may ask, names of operations.

mod finish;
mod output;
mod page;
mod parameters;
mod refusals;

use std::sync::LazyLock;

use axum::Json;
use axum::extract::Extension;
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

pub(super) use self::parameters::{
    JobFilters, JobsOn, Launch, Paging, Period, Poll, Results, Sql, Tail, Upload,
};
pub(super) use self::refusals::{
    Absent, Conflict, Denied, Disabled, Full, Refused, TooLarge, Unknown, WrongHash,
};
use super::answer::ApiError;
use super::format::{Format, Negotiated};

/// What stands at the head of the description.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Clouds@home coordinator",
        description = "OAR's REST API (2.5.9) for a cluster of volunteers' machines.\n\n\
            Every path may end in `.json`, `.yaml` or `.html`, which chooses the answer's format; otherwise \
            `Accept` does. Bodies are JSON, YAML or an HTML form, as their `Content-Type` says. A wrong method is \
            answered like an unknown path, with 404: that is OAR's habit.\n\n\
            The same routes are at `/oarapi-priv`, which asks for a name and a password, and at `/oarapi-public`, \
            where everybody is nobody."
    ),
    servers((url = "/oarapi")),
    paths(output::output, output::put_output),
    tags(
        (name = "Information", description = "The API about itself"),
        (name = "Jobs", description = "Submission, lists, one job, orders"),
        (name = "Results", description = "Archives in and out of jobs"),
        (name = "Files", description = "Users' files beside the coordinator"),
        (name = "Resources", description = "Cores of the machines"),
        (name = "Accounting", description = "What users asked for and used"),
        (name = "Agents", description = "What volunteers' machines ask and say"),
        (name = "Administration", description = "Rules and options"),
    ),
)]
struct Head;

/// The description to which routes are added.
pub(super) fn head() -> OpenApi {
    Head::openapi()
}

/// The whole description.
static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    let described = super::described().into_openapi();
    finish::finish(serde_json::to_value(described).unwrap_or_default())
});

/// The API's description, as docs/openapi.json has it.
pub fn description() -> &'static Value {
    &DESCRIPTION
}

/// `GET /openapi`: this description; `/openapi.html` is a page to read. Ours, not OAR's.
#[utoipa::path(
    get,
    path = "/openapi",
    tag = "Information",
    responses((status = 200, description = "The description", body = Value)),
)]
pub(super) async fn openapi(
    Extension(negotiated): Extension<Negotiated>,
) -> Result<Response, ApiError> {
    Ok(match negotiated.format()? {
        Format::Html => Html(page::page(description()).into_string()).into_response(),
        Format::Json | Format::Yaml => Json(description()).into_response(),
    })
}
