//! OAR's REST API and the routes of the agents.
//!
//! Handlers convert, make one call and map its error; decisions are made in `coordinator-core`.

mod accounting;
mod actions;
mod agents;
mod answer;
mod archives;
mod body;
mod compat;
mod config;
mod doors;
mod format;
mod identity;
mod jobs;
mod links;
mod machines;
mod media;
mod nodes;
mod notes;
mod objects;
mod output;
mod pages;
mod render;
mod resources;
mod root;
mod rules;
mod suffix;
mod without;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, head, post};

use crate::app::App;
use crate::files::MAX_FILE;

pub use self::answer::ApiError;

/// The path before every route.
pub const PREFIX: &str = "/oarapi";

/// The longest JSON body, bytes. Chosen: the longest command (64 KiB) with every character escaped.
const MAX_BODY: usize = 512 * 1024;

/// The longest that a request other than a transfer may take. Chosen: the database's own patience (10 s)
/// three times.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole API.
pub fn router(app: App) -> Router {
    let api = Router::new()
        .route("/", get(root::links))
        .route("/index", get(root::index))
        .route("/version", get(root::version))
        .route("/whoami", get(root::whoami))
        .route("/timezone", get(root::timezone))
        .route("/stress_factor", get(root::stress_factor))
        .route("/jobs", get(jobs::list).post(jobs::submit))
        .route("/jobs/details", get(jobs::details))
        .route("/jobs/table", get(jobs::table))
        .route(
            "/jobs/{id}",
            get(jobs::show).post(actions::update).put(actions::update).delete(jobs::delete),
        )
        .route("/jobs/{id}/details", get(jobs::show_full))
        .route("/jobs/{id}/nodes", get(jobs::nodes))
        .route("/jobs/{id}/resources", get(jobs::resources))
        .route("/jobs/{id}/events", get(jobs::events))
        .route("/jobs/{id}/mesh", get(jobs::mesh))
        .route("/jobs/{id}/deletions/new", post(jobs::delete_by_post))
        .route("/jobs/{id}/holds/new", post(actions::hold))
        .route("/jobs/{id}/resumptions/new", post(actions::resume))
        .route("/jobs/{id}/resubmissions/new", post(jobs::resubmit))
        .route("/jobs/{id}/why", get(actions::why))
        .route("/jobs/{id}/output", get(output::output).put(output::put_output))
        .route("/jobs/{id}/checkpoints/new", post(without::checkpoint))
        .route("/jobs/{id}/rholds/new", post(without::suspend))
        .route("/jobs/{id}/signals/{signal}", post(without::signal))
        .route("/jobs/array/{id}/checkpoints/new", post(without::checkpoint_array))
        .route("/jobs/array/{id}/deletions/new", post(jobs::delete_array))
        .route("/jobs/array/{id}/holds/new", post(actions::hold_array))
        .route("/jobs/array/{id}/resumptions/new", post(actions::resume_array))
        .route("/accounting", get(accounting::all))
        .route("/accounting/{user}", get(accounting::of_user))
        .route("/jobs/{id}/state", post(agents::report))
        .route("/admission_rules", get(rules::list).post(rules::create))
        .route("/admission_rules/{id}", get(rules::show).post(rules::update).delete(rules::delete))
        .route("/config", get(config::list))
        .route("/config/file", get(config::file))
        .route("/config/{name}", get(config::show).post(config::set))
        .route("/select_all", get(without::select_all))
        .route("/colmet/job/{id}", get(without::colmet))
        .route("/desktop/agents", get(compat::sign_in))
        .route("/media/ls/{*path}", get(media::list))
        .route("/media/chmod/{*path}", post(media::chmod))
        .route("/resources", get(resources::list).post(machines::create))
        .route("/resources/generate", post(machines::generate))
        .route("/resources/details", get(resources::details))
        .route("/resources/full", get(resources::details))
        .route("/resources/{id}", get(resources::show).delete(machines::delete))
        .route("/resources/{id}/jobs", get(resources::jobs))
        .route("/resources/{id}/state", post(nodes::set_state))
        .route("/resources/nodes/{node}", get(resources::of_node))
        .route("/resources/nodes/{node}/jobs", get(agents::jobs_of_node))
        .route("/resources/nodes/{node}/properties", post(nodes::set_properties))
        .route("/agents", get(agents::control_channel).post(agents::enrol))
        .layer(axum::middleware::from_fn(answer::time_limit))
        .layer(axum::middleware::from_fn(format::require))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let files = Router::new()
        .route("/media/force/{*path}", post(media::upload_forced))
        .route("/media/{*path}", get(media::read).post(media::upload).delete(media::delete))
        .layer(axum::middleware::from_fn(format::require))
        .layer(DefaultBodyLimit::max(MAX_FILE));
    // Archives take as long as they take; the stage store bounds their size and cuts off who stalls.
    let archives = Router::new()
        .route("/jobs/{id}/stagein", get(archives::stagein))
        // OAR's own route for the question whether there is one.
        .route("/jobs/{id}/stageinhead", head(archives::stagein))
        .route("/jobs/{id}/stageout", get(archives::result).post(archives::put_stageout))
        .route("/stagein/{hash}", head(archives::stagein_state).put(archives::put_stagein))
        .layer(DefaultBodyLimit::disable());
    let all = api
        .merge(files)
        .merge(archives)
        .fallback(answer::no_route)
        .method_not_allowed_fallback(answer::no_route);
    // A nested "/" is the bare prefix; clients ask with the slash.
    let start = Router::new()
        .route(&format!("{PREFIX}/"), get(root::links))
        .layer(axum::middleware::from_fn(format::require))
        .with_state(app.clone());
    let guard = axum::middleware::from_fn_with_state(app.clone(), doors::guard);
    let limit = axum::middleware::from_fn_with_state(app.clone(), doors::limit);
    let rooted = start
        .nest(PREFIX, all.with_state(app))
        .fallback(answer::no_route)
        .method_not_allowed_fallback(answer::no_route);
    // The suffix goes before anything is matched: matching happens inside this outer router's fallback.
    Router::new()
        .fallback_service(rooted)
        .layer(guard)
        .layer(limit)
        .layer(axum::middleware::from_fn(answer::dress))
        .layer(axum::middleware::from_fn(suffix::strip))
        .layer(axum::middleware::from_fn(format::negotiate))
        .layer(axum::middleware::from_fn(doors::lead))
        .layer(tower_http::trace::TraceLayer::new_for_http())
}
