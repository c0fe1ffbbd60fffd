//! `/admission_rules`: what is done with every submission before it is a job.
//!
//! OAR's rules are Perl that its administrator writes and the API stores. Here they are the server's own, as
//! `coordinator-core` has them: they can be read, by operators, and not be changed by anybody.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_api::List;
use coordinator_api::server::Rule;
use serde::Deserialize;
use serde_json::Value;

use super::answer::ApiError;
use super::body::Sent;
use super::identity::Identity;
use super::links;
use super::openapi::{Absent, Denied, Paging, Refused, TooLarge, Unknown};
use super::pages::Asked;
use crate::app::App;

/// The rules in the order in which they apply, in words. The texts of the refusals are OAR's.
const RULES: [&str; 10] = [
    "# Without a queue: default\n",
    "# The user oar submits no jobs\n",
    "# Only known job types; best effort: of the type and of the queue, each adds the other\n",
    "# mesh and spmd imply desktop_computing\n",
    "# Without a resource request: one core (/resource_id=1)\n",
    "# Without a walltime: 2 hours (7200)\n",
    "# All resources are volunteers': desktop_computing = 'YES'\n",
    "# Properties and the request are expressions that name known properties only\n",
    "# A best-effort job reserves nothing in advance\n",
    "# What can never fit on the machines that are enrolled is refused\n",
];

fn rule(index: usize, text: &str) -> Rule {
    let id = index as u64 + 1;
    Rule {
        id,
        priority: id,
        enabled: "YES".to_owned(),
        rule: text.to_owned(),
        links: links::itself(format_args!("/admission_rules/{id}")),
    }
}

fn numbered(id: &str) -> Option<Rule> {
    let index = id.parse::<usize>().ok()?.checked_sub(1)?;
    RULES.get(index).map(|text| rule(index, text))
}

fn operator(identity: Identity) -> Result<(), ApiError> {
    // OAR's sentence here has no "before".
    if identity == Identity::Anonymous {
        let message = "A suitable authentication must be done to get admission rules";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "Permission denied", message));
    }
    identity.operator("getting admission rules", "get admission rules").map(drop)
}

/// `GET /admission_rules`, for operators.
#[utoipa::path(
    get,
    path = "/admission_rules",
    tag = "Administration",
    params(Paging),
    responses(
        (status = 200, description = "The rules", body = List<Rule>),
        Refused,
        Unknown,
        Denied,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
) -> Result<Json<List<Rule>>, ApiError> {
    operator(identity)?;
    let rules = RULES.iter().enumerate().map(|(index, text)| rule(index, text)).collect();
    Ok(asked.page(rules, app.clock.now()))
}

/// `GET /admission_rules/ID`: a list of one, as in OAR.
#[utoipa::path(
    get,
    path = "/admission_rules/{id}",
    tag = "Administration",
    params(("id" = u64, Path, description = "The rule's number")),
    responses(
        (status = 200, description = "The rule alone", body = Vec<Rule>),
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn show(
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Vec<Rule>>, ApiError> {
    operator(identity)?;
    numbered(&id).map(|rule| Json(vec![rule])).ok_or_else(|| no_rule(&id))
}

/// What makes a rule.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct NewRule {
    method: Option<String>,
    rule: Option<String>,
    priority: Option<Value>,
    enabled: Option<Value>,
}

/// `POST /admission_rules`: 400 for what is no rule, 403 for what is one.
#[utoipa::path(
    post,
    path = "/admission_rules",
    tag = "Administration",
    request_body = NewRule,
    responses(
        Refused,
        Unknown,
        Denied,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn create(
    identity: Identity,
    Sent(new): Sent<NewRule>,
) -> Result<Json<Value>, ApiError> {
    operator(identity)?;
    if new.rule.is_none() {
        return Err(ApiError::missing_field("An admission rule must have a rule field"));
    }
    if new.priority.is_none() {
        return Err(ApiError::missing_field("An admission priority must have a priority field"));
    }
    Err(fixed())
}

/// `POST /admission_rules/ID`: 400 for what is no order, 404 for no rule, 403 for one.
#[utoipa::path(
    post,
    path = "/admission_rules/{id}",
    tag = "Administration",
    params(("id" = u64, Path, description = "The rule's number")),
    request_body = NewRule,
    responses(
        Refused,
        Unknown,
        Denied,
        Absent,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn update(
    identity: Identity,
    Path(id): Path<String>,
    Sent(new): Sent<NewRule>,
) -> Result<Json<Value>, ApiError> {
    operator(identity)?;
    let is_whole = new.rule.is_some() && new.priority.is_some() && new.enabled.is_some();
    if new.method.as_deref() != Some("delete") && !is_whole {
        let message = "An admission rule update must have either a \"method=delete\" or \
                       \"priority\"=<priority> and \"enabled\"=<enabled> and \"rule\"=<rule> fields!";
        return Err(ApiError::missing_field(message));
    }
    Err(numbered(&id).map_or_else(|| no_rule(&id), |_| fixed()))
}

/// `DELETE /admission_rules/ID`: 404 for no rule, 403 for one.
#[utoipa::path(
    delete,
    path = "/admission_rules/{id}",
    tag = "Administration",
    params(("id" = u64, Path, description = "The rule's number")),
    responses(
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn delete(
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    operator(identity)?;
    Err(numbered(&id).map_or_else(|| no_rule(&id), |_| fixed()))
}

fn no_rule(id: &str) -> ApiError {
    let shown: String = id.chars().take(40).collect();
    let message = format!("No admission rule corresponding to id={shown}");
    ApiError::new(StatusCode::NOT_FOUND, "Admission rule not found", message)
}

fn fixed() -> ApiError {
    let message = "The admission rules are the server's own: they come with its version, and no request \
                   changes them";
    ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)
}
