//! `serve --compat ruby-agent`: the desktop agents of OAR 2.5.2 are served as they are.
//!
//! Such an agent signs in without showing anything, polls without a name, and reports under the name and
//! password of the user in its configuration. Its node bears the property `anonymous`: polls without a name
//! keep only such nodes alive, and users speak for no others.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coordinator_api::resource::ResourceState;
use coordinator_api::server::SignedIn;
use coordinator_core::{Draft, Job, Node, NodeNumber};
use overlay_core::ids::NodeId;

use super::answer::ApiError;
use super::identity::Identity;
use super::openapi::Denied;
use crate::app::App;
use crate::ledger::LedgerError;
use crate::secret::make_secret;
use crate::store::{EnrolRow, TokenMakes};

/// What marks a node that signed in without a token; jobs can ask for it, and against it.
const MARK: &str = "anonymous";

/// The most nodes that signed in without a token and are not Dead: each start of such an agent makes one.
/// Chosen: ten times what OAR served.
const MAX_NODES: usize = 10_000;

/// The life of the token that a sign-in uses up at once.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Who speaks of a job.
pub(super) struct Speaker {
    /// The node.
    pub(super) node: NodeNumber,
    /// The launch that is meant, where an agent of old cannot name it.
    pub(super) launch: Option<u32>,
}

/// `GET /desktop/agents`: a node of one core for everybody who asks, with a name of its own.
#[utoipa::path(
    get,
    path = "/desktop/agents",
    tag = "Agents",
    responses(
        (status = 200, description = "The new node", body = SignedIn),
        Denied,
    ),
)]
pub(super) async fn sign_in(State(app): State<App>) -> Result<Json<SignedIn>, ApiError> {
    if !app.ruby_agents {
        let message = "A volunteer's machine joins with a token of `coordinator token add`, by POST /agents; \
                       agents of old that show none are let in by `coordinator serve --compat ruby-agent`";
        return Err(ApiError::forbidden(message));
    }
    let cluster = app.ledger.cluster();
    let there = |node: &&std::sync::Arc<Node>| {
        node.properties.contains_key(MARK) && node.state != ResourceState::Dead
    };
    if cluster.nodes().filter(there).count() >= MAX_NODES {
        let message =
            "There are as many machines without a token as there can be; try again tomorrow";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Oar server error", message));
    }
    let secret = || make_secret().map_err(|_| ApiError::retry());
    let ((_, token), (_, credential), (_, key)) = (secret()?, secret()?, secret()?);
    app.store.add_token(token, TokenMakes::Node, app.clock.now(), AT_ONCE).await?;
    // Nobody knows its credential, and nobody has its key: it takes part in no mesh.
    let row = EnrolRow {
        token,
        key: NodeId(key.0),
        credential,
        software: "agent without a token".to_owned(),
        memory_mib: 0,
    };
    let node = app.ledger.enrol(row, 1).await??;
    let mark = move |draft: &mut Draft<'_>| draft.set_node_property(node, MARK, "YES");
    app.ledger.decide(mark).await??;
    app.heard(node).await?;
    Ok(Json(SignedIn { hostname: node.to_string() }))
}

/// Somebody without a name polls: a node that signed in so is alive.
pub(super) async fn heard(
    app: &App,
    identity: &Identity,
    node: NodeNumber,
) -> Result<(), LedgerError> {
    if app.ruby_agents && *identity == Identity::Anonymous && is_anonymous(app, node) {
        app.heard(node).await?;
    }
    Ok(())
}

/// Which node speaks of the job: the one whose credential is shown; for a user's agent of old the node that
/// signed in without a token.
pub(super) async fn speaker(
    app: &App,
    identity: Identity,
    before: &str,
    id: &str,
) -> Result<Speaker, ApiError> {
    if !app.ruby_agents || !matches!(identity, Identity::User(_)) {
        return Ok(Speaker { node: identity.node(before)?, launch: None });
    }
    let job = app.find_job(id).await?;
    match part(app, &job) {
        Some((node, launch)) => Ok(Speaker { node, launch: Some(launch) }),
        None => Err(ApiError::forbidden("The job is not on a machine without a token")),
    }
}

/// A user may act for a node of the job.
pub(super) fn speaks_for(app: &App, job: &Job) -> bool {
    app.ruby_agents && part(app, job).is_some()
}

/// The node without a token that has a part in the job's last launch, the first that is at work.
fn part(app: &App, job: &Job) -> Option<(NodeNumber, u32)> {
    let launch = job.launch.as_ref()?;
    let mut parts: Vec<_> =
        launch.parts.iter().filter(|part| is_anonymous(app, part.node)).collect();
    parts.sort_by_key(|part| part.is_over());
    Some((parts.first()?.node, launch.generation))
}

fn is_anonymous(app: &App, node: NodeNumber) -> bool {
    app.ledger.cluster().node(node).is_some_and(|node| node.properties.contains_key(MARK))
}
