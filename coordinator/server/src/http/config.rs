//! `/config`: what the server was started with, for operators. No secret is among it.
//!
//! OAR shows its whole configuration with the database's password, and changes it in the memory of one of its
//! processes. Here the options of `coordinator serve` are all there is, and they stay as they are.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_api::server::{ConfigFile, Variable};
use serde_json::Value;

use super::answer::ApiError;
use super::identity::Identity;
use super::links;
use super::openapi::{Absent, Denied, Unknown};
use super::pages::DEFAULT_LIMIT;
use crate::app::App;

/// Names are OAR's where it has the same thing.
fn variables(app: &App) -> Vec<(&'static str, String)> {
    let seconds = |time: std::time::Duration| time.as_secs().to_string();
    let policy = &app.policy;
    vec![
        ("API_DEFAULT_MAX_ITEMS_NUMBER", DEFAULT_LIMIT.to_string()),
        ("DB_TYPE", "sqlite".to_owned()),
        ("DEAD_SWITCH_TIME", seconds(policy.dead_after)),
        ("DESKTOP_COMPUTING_ALLOW_CREATE_NODE", "0".to_owned()),
        ("DESKTOP_COMPUTING_EXPIRY", seconds(policy.node_timeout)),
        ("KILL_GRACE", seconds(policy.kill_grace)),
        ("LAUNCH_DEADLINE", seconds(policy.launch_deadline)),
        ("NODE_ABSENT_AFTER", seconds(policy.absent_after)),
        ("POLL_INTERVAL", seconds(app.announced.poll_interval)),
        ("WALLTIME_CHANGE_ENABLED", "no".to_owned()),
    ]
}

fn shown((id, value): &(&'static str, String)) -> Variable {
    let links = links::itself(format_args!("/config/{id}"));
    Variable { id: (*id).to_owned(), value: value.clone(), links }
}

fn operator(identity: Identity, what: &str) -> Result<(), ApiError> {
    // OAR's sentence here has no "before".
    if identity == Identity::Anonymous {
        let message = format!("A suitable authentication must be done to get {what}");
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "Permission denied", message));
    }
    identity.operator("getting parameters", "get configuration parameters").map(drop)
}

/// `GET /config`.
#[utoipa::path(
    get,
    path = "/config",
    tag = "Administration",
    responses(
        (status = 200, description = "The options", body = Vec<Variable>),
        Unknown,
        Denied,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
) -> Result<Json<Vec<Variable>>, ApiError> {
    operator(identity, "configuration variables")?;
    Ok(Json(variables(&app).iter().map(shown).collect()))
}

/// `GET /config/VARIABLE`: a list of one, as in OAR.
#[utoipa::path(
    get,
    path = "/config/{name}",
    tag = "Administration",
    params(("name" = String, Path, description = "The option's name")),
    responses(
        (status = 200, description = "The option alone", body = Vec<Variable>),
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(name): Path<String>,
) -> Result<Json<Vec<Variable>>, ApiError> {
    operator(identity, "configuration variables")?;
    let all = variables(&app);
    let found = all.iter().find(|(id, _)| *id == name).ok_or_else(|| {
        let shown: String = name.chars().take(100).collect();
        let message = format!("There is no configuration variable {shown}");
        ApiError::new(StatusCode::NOT_FOUND, "Not found", message)
    })?;
    Ok(Json(vec![shown(found)]))
}

/// `GET /config/file`: all of them as lines.
#[utoipa::path(
    get,
    path = "/config/file",
    tag = "Administration",
    responses(
        (status = 200, description = "The options as lines", body = ConfigFile),
        Unknown,
        Denied,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn file(
    State(app): State<App>,
    identity: Identity,
) -> Result<Json<ConfigFile>, ApiError> {
    operator(identity, "configuration file")?;
    let lines = variables(&app).iter().map(|(id, value)| format!("{id}=\"{value}\"\n")).collect();
    Ok(Json(ConfigFile { path: "coordinator serve".to_owned(), file: lines }))
}

/// `POST /config/VARIABLE`: 403.
#[utoipa::path(
    post,
    path = "/config/{name}",
    tag = "Administration",
    params(("name" = String, Path, description = "The option's name")),
    responses(
        Unknown,
        Denied,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn set(identity: Identity) -> Result<Json<Value>, ApiError> {
    identity.operator("setting parameters", "set configuration parameters")?;
    let message = "The configuration is the command line of `coordinator serve`: start it anew with other \
                   options";
    Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message))
}
