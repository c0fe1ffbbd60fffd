//! The API about itself.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use coordinator_api::server::{Start, StressFactor, Timezone, Versions, Whoami};

use super::answer::{self, ApiError};
use super::format::{Format, Negotiated};
use super::identity::Identity;
use super::openapi::Unknown;
use super::suffix::AskedPath;
use super::{links, render};
use crate::app::App;

/// Whose API this is: clients look at OAR's version, not at ours.
const OAR_VERSION: &str = "2.5.9 (Canicule)";

/// The version of the REST API that this follows.
const API_VERSION: &str = "1.0.2";

/// All times are seconds since the epoch; the zone is for people.
const TIMEZONE: &str = "UTC";

/// `GET /`.
#[utoipa::path(
    get,
    path = "/",
    tag = "Information",
    responses(
        (status = 200, description = "Versions and links", body = Start),
    ),
)]
pub(super) async fn links(State(app): State<App>) -> Json<Start> {
    let links = vec![
        links::itself("/./"),
        links::collection("/resources", "resources"),
        links::collection("/resources/details", "full_resources"),
        links::collection("/jobs", "jobs"),
        links::collection("/jobs/details", "detailed_jobs"),
        links::collection("/jobs/table", "jobs_table"),
        links::collection("/config", "config"),
        links::collection("/admission_rules", "admission_rules"),
    ];
    Json(Start { versions: versions(&app), links })
}

/// `GET /index.html`: a page to begin with. There is no other format of it.
pub(super) async fn index(
    Extension(negotiated): Extension<Negotiated>,
    Extension(path): Extension<AskedPath>,
) -> Result<Response, ApiError> {
    match negotiated.format()? {
        Format::Html => Ok(render::page("Welcome on the oar API")),
        Format::Json | Format::Yaml => Err(answer::no_route_to(&path)),
    }
}

/// `GET /version`.
#[utoipa::path(
    get,
    path = "/version",
    tag = "Information",
    responses(
        (status = 200, description = "Versions", body = Versions),
    ),
)]
pub(super) async fn version(State(app): State<App>) -> Json<Versions> {
    Json(versions(&app))
}

fn versions(app: &App) -> Versions {
    Versions {
        oar_version: OAR_VERSION.to_owned(),
        api_version: API_VERSION.to_owned(),
        apilib_version: API_VERSION.to_owned(),
        api_timezone: TIMEZONE.to_owned(),
        api_timestamp: app.clock.now().seconds(),
    }
}

/// `GET /whoami`: the user's or node's name, empty for nobody.
#[utoipa::path(
    get,
    path = "/whoami",
    tag = "Information",
    responses(
        (status = 200, description = "Who asks", body = Whoami),
        Unknown,
    ),
)]
pub(super) async fn whoami(State(app): State<App>, identity: Identity) -> Json<Whoami> {
    let name = match identity {
        Identity::Anonymous => String::new(),
        Identity::User(user) => user.name,
        Identity::Node(node) => node.to_string(),
    };
    Json(Whoami { authenticated_user: name, api_timestamp: app.clock.now().seconds() })
}

/// `GET /timezone`.
#[utoipa::path(
    get,
    path = "/timezone",
    tag = "Information",
    responses(
        (status = 200, description = "The zone", body = Timezone),
    ),
)]
pub(super) async fn timezone(State(app): State<App>) -> Json<Timezone> {
    Json(Timezone { timezone: TIMEZONE.to_owned(), api_timestamp: app.clock.now().seconds() })
}

/// `GET /stress_factor`: the machine's load over a minute, as OAR's own script has it. 0 where there is no
/// such figure.
#[utoipa::path(
    get,
    path = "/stress_factor",
    tag = "Information",
    responses(
        (status = 200, description = "The load", body = StressFactor),
    ),
)]
pub(super) async fn stress_factor(State(app): State<App>) -> Json<StressFactor> {
    let loads = tokio::fs::read_to_string("/proc/loadavg").await.unwrap_or_default();
    let load = loads.split_whitespace().next().unwrap_or("0");
    Json(StressFactor {
        global_stress: load.to_owned(),
        links: vec![links::itself("/stress_factor")],
        api_timestamp: app.clock.now().seconds(),
    })
}
