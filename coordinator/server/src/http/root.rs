//! The API about itself.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{self, ApiError};
use super::format::{Format, Negotiated};
use super::identity::Identity;
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
pub(super) async fn links(State(app): State<App>) -> Json<Value> {
    let links = [
        links::itself("/./"),
        links::collection("/resources", "resources"),
        links::collection("/resources/details", "full_resources"),
        links::collection("/jobs", "jobs"),
        links::collection("/jobs/details", "detailed_jobs"),
        links::collection("/jobs/table", "jobs_table"),
        links::collection("/config", "config"),
        links::collection("/admission_rules", "admission_rules"),
    ];
    let mut body = versions(&app);
    body["links"] = json!(links);
    Json(body)
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
pub(super) async fn version(State(app): State<App>) -> Json<Value> {
    Json(versions(&app))
}

fn versions(app: &App) -> Value {
    json!({
        "oar_version": OAR_VERSION,
        "api_version": API_VERSION,
        "apilib_version": API_VERSION,
        "api_timezone": TIMEZONE,
        "api_timestamp": app.clock.now().seconds(),
    })
}

/// `GET /whoami`: the user's or node's name, empty for nobody.
pub(super) async fn whoami(State(app): State<App>, identity: Identity) -> Json<Value> {
    let name = match identity {
        Identity::Anonymous => String::new(),
        Identity::User(user) => user.name,
        Identity::Node(node) => node.to_string(),
    };
    Json(json!({ "authenticated_user": name, "api_timestamp": app.clock.now().seconds() }))
}

/// `GET /timezone`.
pub(super) async fn timezone(State(app): State<App>) -> Json<Value> {
    Json(json!({ "timezone": TIMEZONE, "api_timestamp": app.clock.now().seconds() }))
}

/// `GET /stress_factor`: the machine's load over a minute, as OAR's own script has it. 0 where there is no
/// such figure.
pub(super) async fn stress_factor(State(app): State<App>) -> Json<Value> {
    let loads = tokio::fs::read_to_string("/proc/loadavg").await.unwrap_or_default();
    let load = loads.split_whitespace().next().unwrap_or("0");
    Json(json!({
        "GLOBAL_STRESS": load,
        "links": [links::itself("/stress_factor")],
        "api_timestamp": app.clock.now().seconds(),
    }))
}
