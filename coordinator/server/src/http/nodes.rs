//! What operators order about nodes: OAR's `oarnodesetting`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_api::action::{PropertiesSet, StateSet};
use coordinator_api::resource::{NewState, ResourceState};
use coordinator_core::{Draft, NodeNumber, SetNodeRefusal};
use serde_json::Value;
use std::collections::BTreeMap;

use super::answer::ApiError;
use super::body::Sent;
use super::identity::Identity;
use super::openapi::{Absent, Denied, Refused, TooLarge, Unknown};
use crate::app::App;

/// The most properties in one request. Chosen: the most that a node has.
const MAX_PROPERTIES: usize = 100;

/// `POST /resources/ID/state`: 200. All resources of the node go with it: they are cores of one machine.
#[utoipa::path(
    post,
    path = "/resources/{id}/state",
    tag = "Resources",
    params(("id" = u64, Path, description = "The resource's number")),
    request_body = NewState,
    responses(
        (status = 200, description = "Set", body = StateSet),
        Refused,
        Unknown,
        Denied,
        Absent,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn set_state(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    Sent(new): Sent<NewState>,
) -> Result<Json<StateSet>, ApiError> {
    // OAR's own words, which it copied from another route.
    let operator = identity.operator("creating new resources", "create new resources")?;
    let Some(name) = new.state else {
        let message = "A state change request must have a \"state\" field!";
        return Err(ApiError::missing_field(message));
    };
    let bad = || {
        ApiError::new(StatusCode::BAD_REQUEST, "Bad state", "State mut be Alive, Absent or Dead!")
    };
    let state: ResourceState = serde_json::from_value(Value::from(name)).map_err(|_| bad())?;
    if state == ResourceState::Suspected {
        return Err(bad());
    }
    let node = node_of_resource(&app, &id).ok_or_else(super::resources::no_resource)?;
    app.ledger.decide(move |draft: &mut Draft<'_>| draft.set_node_state(node, state)).await??;
    let (now, subject) = (app.clock.now(), format!("{node} to {state:?}"));
    app.store.audit(now, &operator.name, "node's state set", &subject).await?;
    Ok(Json(StateSet {
        status: "Change state request registered".to_owned(),
        uri: super::links::href(format_args!("/resources/{id}")),
        id,
        api_timestamp: now.seconds(),
    }))
}

/// `POST /resources/nodes/NAME/properties` with an object: each is set, and taken away by an empty text. Ours:
/// OAR has a command on the server only.
#[utoipa::path(
    post,
    path = "/resources/nodes/{node}/properties",
    tag = "Resources",
    params(("node" = String, Path, description = "The node's name")),
    request_body = BTreeMap<String, String>,
    responses(
        (status = 200, description = "Set", body = PropertiesSet),
        Refused,
        Unknown,
        Denied,
        Absent,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn set_properties(
    State(app): State<App>,
    identity: Identity,
    Path(name): Path<String>,
    Sent(properties): Sent<BTreeMap<String, String>>,
) -> Result<Json<PropertiesSet>, ApiError> {
    let operator = identity.operator("setting properties", "set properties")?;
    let node: NodeNumber = name.parse().map_err(|_| super::resources::no_resource())?;
    if properties.len() > MAX_PROPERTIES {
        return Err(SetNodeRefusal::TooMuch.into());
    }
    let list: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let set = move |draft: &mut Draft<'_>| {
        let mut all = properties.iter();
        all.try_for_each(|(name, value)| draft.set_node_property(node, name, value))
    };
    app.ledger.decide(set).await??;
    let (now, subject) = (app.clock.now(), format!("{node}: {}", list.join(", ")));
    app.store.audit(now, &operator.name, "node's properties set", &subject).await?;
    Ok(Json(PropertiesSet { status: "Properties set".to_owned(), api_timestamp: now.seconds() }))
}

fn node_of_resource(app: &App, id: &str) -> Option<NodeNumber> {
    let id: u64 = id.parse().ok()?;
    let cluster = app.ledger.cluster();
    cluster.nodes().find(|node| node.resources().contains(&id)).map(|node| node.number)
}

impl From<SetNodeRefusal> for ApiError {
    fn from(refusal: SetNodeRefusal) -> Self {
        match refusal {
            SetNodeRefusal::NoNode(_) => super::resources::no_resource(),
            SetNodeRefusal::System(_) => Self::forbidden(refusal.to_string()),
            SetNodeRefusal::State | SetNodeRefusal::Name(_) | SetNodeRefusal::TooMuch => {
                Self::bad_query(refusal.to_string())
            }
        }
    }
}
