//! OAR's routes that make and remove resources. Here resources are the cores of machines that join and leave.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_api::resource::ResourceState;
use serde::Deserialize;
use serde_json::Value;

use super::answer::ApiError;
use super::body::Sent;
use super::identity::Identity;
use super::openapi::{Absent, Denied, Disabled, Refused, TooLarge, Unknown};
use super::without::disabled;
use crate::app::App;

/// Properties that OAR lets nobody set.
const SYSTEM: [&str; 10] = [
    "resource_id",
    "state",
    "state_num",
    "next_state",
    "finaud_decision",
    "next_finaud_decision",
    "last_job_date",
    "suspended_jobs",
    "expiry_date",
    "scheduler_priority",
];

/// `POST /resources`: 400 and 403 as in OAR; what OAR would make is refused, too.
#[utoipa::path(
    post,
    path = "/resources",
    tag = "Resources",
    request_body = Value,
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
    sent: Result<Sent<Value>, ApiError>,
) -> Result<Json<Value>, ApiError> {
    identity.operator("creating new resources", "create new resources")?;
    let Sent(new) = sent.map_err(|refusal| refusal.of_format("resources", "Resources"))?;
    let rows = new.as_array().map_or(std::slice::from_ref(&new), Vec::as_slice);
    for row in rows {
        let named = |key: &str| row.get(key).is_some_and(Value::is_string);
        if !named("hostname") && !named("network_address") {
            // OAR's spelling.
            let message = "A resource must have a hosname field or a network_address property!";
            return Err(ApiError::missing_field(message));
        }
        let system = row.as_object().into_iter().flatten();
        if let Some((name, _)) = system.into_iter().find(|(name, _)| SYSTEM.contains(&&***name)) {
            let message = format!(
                "The property \"{name}\" is a system one and can't be assigned by the admin"
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message));
        }
    }
    let message = "Resources are the cores of machines that join: make a token (`coordinator token add`), and \
                   set properties with `oarnodesetting`";
    Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message))
}

/// `DELETE /resources/ID`: 403, 404 as in OAR; a machine that is Dead stays known, too.
#[utoipa::path(
    delete,
    path = "/resources/{id}",
    tag = "Resources",
    params(("id" = u64, Path, description = "The resource's number")),
    responses(
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn delete(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    identity.operator("deleting resources", "delete resources")?;
    let cluster = app.ledger.cluster();
    let number = id.parse::<u64>().ok();
    let node = number.and_then(|id| cluster.nodes().find(|node| node.resources().contains(&id)));
    let Some(node) = node else {
        let shown: String = id.chars().take(40).collect();
        let message = format!("Corresponding resource could not be found ({shown},,)");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "Not found", message));
    };
    let message = if node.state == ResourceState::Dead {
        format!(
            "The resource {id} is a core of {}, which is kept with the jobs that it has run; no job goes there",
            node.number
        )
    } else {
        format!("The resource {id} must be in the Dead status")
    };
    Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message))
}

/// What OAR makes a list of resources from.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Generate {
    #[schema(value_type = String, min_length = 1)]
    resources: Option<String>,
}

/// `POST /resources/generate`: 400 as in OAR, and 405 as where it has no command for that.
#[utoipa::path(
    post,
    path = "/resources/generate",
    tag = "Resources",
    request_body = Generate,
    responses(
        Refused,
        Unknown,
        Denied,
        Disabled,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn generate(
    identity: Identity,
    sent: Result<Sent<Generate>, ApiError>,
) -> Result<Json<Value>, ApiError> {
    identity.operator("generating resources", "generate resources")?;
    let Sent(asked) = sent.map_err(|refusal| refusal.of_format("resources", "Resources"))?;
    if asked.resources.is_none() {
        let message = "Resources generation description must have a resources field";
        return Err(ApiError::missing_field(message));
    }
    Err(disabled())
}
