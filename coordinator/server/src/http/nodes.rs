//! What operators order about nodes: OAR's `oarnodesetting`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use coordinator_api::resource::ResourceState;
use coordinator_core::{Draft, NodeNumber, SetNodeRefusal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::answer::ApiError;
use super::body::Sent;
use super::identity::Identity;
use crate::app::App;

/// The most properties in one request. Chosen: the most that a node has.
const MAX_PROPERTIES: usize = 100;

/// What to make of a resource.
#[derive(Debug, Deserialize)]
pub(super) struct NewState {
    state: Option<String>,
}

/// `POST /resources/ID/state`: 200. All resources of the node go with it: they are cores of one machine.
pub(super) async fn set_state(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    Sent(new): Sent<NewState>,
) -> Result<Json<Value>, ApiError> {
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
    Ok(Json(json!({
        "id": id,
        "status": "Change state request registered",
        "uri": super::links::href(format_args!("/resources/{id}")),
        "api_timestamp": now.seconds(),
    })))
}

/// `POST /resources/nodes/NAME/properties` with an object: each is set, and taken away by an empty text. Ours:
/// OAR has a command on the server only.
pub(super) async fn set_properties(
    State(app): State<App>,
    identity: Identity,
    Path(name): Path<String>,
    Sent(properties): Sent<BTreeMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
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
    Ok(Json(json!({ "status": "Properties set", "api_timestamp": now.seconds() })))
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
