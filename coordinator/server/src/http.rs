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
mod deletion;
mod doors;
mod format;
mod forms;
mod identity;
mod jobs;
mod leftover;
mod links;
mod machines;
mod media;
mod nodes;
mod notes;
mod objects;
mod openapi;
mod output;
mod pages;
mod render;
mod resources;
mod root;
mod rules;
mod submission;
mod suffix;
mod without;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, head};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::files::MAX_FILE;

pub use self::answer::ApiError;
pub use self::openapi::description;

/// The path before every route.
pub const PREFIX: &str = "/oarapi";

/// The longest JSON body, bytes. Chosen: the longest command (64 KiB) with every character escaped.
const MAX_BODY: usize = 512 * 1024;

/// The longest that a request other than a transfer may take. Chosen: the database's own patience (10 s)
/// three times.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole API.
pub fn router(app: App) -> Router {
    let (all, _) = described().split_for_parts();
    let all = all.fallback(answer::no_route).method_not_allowed_fallback(answer::no_route);
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
        .layer(axum::middleware::from_fn(leftover::throw_away))
        .layer(axum::middleware::from_fn(suffix::strip))
        .layer(axum::middleware::from_fn(format::negotiate))
        .layer(axum::middleware::from_fn(doors::lead))
        .layer(tower_http::trace::TraceLayer::new_for_http())
}

/// All routes under the prefix, with what is said of them.
fn described() -> OpenApiRouter<App> {
    let api = information().merge(of_jobs()).merge(of_resources()).merge(of_administration());
    let api = api
        .layer(axum::middleware::from_fn(answer::time_limit))
        .layer(axum::middleware::from_fn(format::require))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let files = OpenApiRouter::default()
        .routes(routes!(media::upload_forced))
        .routes(routes!(media::read, media::upload, media::delete))
        .layer(axum::middleware::from_fn(format::require))
        .layer(DefaultBodyLimit::max(MAX_FILE));
    // Archives take as long as they take; the stage store bounds their size and cuts off who stalls.
    let archives = OpenApiRouter::default()
        .routes(routes!(archives::stagein))
        // OAR's own route for the question whether there is one.
        .route("/jobs/{id}/stageinhead", head(archives::stagein))
        .routes(routes!(archives::result, archives::put_stageout))
        .routes(routes!(archives::stagein_state, archives::put_stagein))
        .layer(DefaultBodyLimit::disable());
    OpenApiRouter::with_openapi(openapi::head()).merge(api).merge(files).merge(archives)
}

fn information() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(root::links))
        .route("/index", get(root::index))
        .route("/form", get(forms::job))
        .routes(routes!(openapi::openapi))
        .routes(routes!(root::version))
        .routes(routes!(root::whoami))
        .routes(routes!(root::timezone))
        .routes(routes!(root::stress_factor))
        .routes(routes!(accounting::all))
        .routes(routes!(accounting::of_user))
}

fn of_jobs() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(jobs::list, submission::submit))
        .routes(routes!(jobs::details))
        .routes(routes!(jobs::table))
        .routes(routes!(jobs::show, actions::update, deletion::delete))
        .routes(routes!(jobs::show_full))
        .routes(routes!(jobs::nodes))
        .routes(routes!(jobs::resources))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::mesh))
        .routes(routes!(deletion::delete_by_post))
        .routes(routes!(actions::hold))
        .routes(routes!(actions::resume))
        .routes(routes!(submission::resubmit))
        .routes(routes!(actions::why))
        // Described in `openapi::output`.
        .route("/jobs/{id}/output", get(output::output).put(output::put_output))
        .routes(routes!(without::checkpoint))
        .routes(routes!(without::suspend))
        .routes(routes!(without::signal))
        .routes(routes!(without::checkpoint_array))
        .routes(routes!(deletion::delete_array))
        .routes(routes!(actions::hold_array))
        .routes(routes!(actions::resume_array))
        .routes(routes!(agents::report))
}

fn of_resources() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(resources::list, machines::create))
        .routes(routes!(machines::generate))
        .routes(routes!(resources::details))
        // OAR's other name for it.
        .route("/resources/full", get(resources::details))
        .routes(routes!(resources::show, machines::delete))
        .routes(routes!(resources::jobs))
        .routes(routes!(nodes::set_state))
        .routes(routes!(resources::of_node))
        .routes(routes!(agents::jobs_of_node))
        .routes(routes!(nodes::set_properties))
        .routes(routes!(agents::control_channel, agents::enrol))
        .routes(routes!(compat::sign_in))
}

fn of_administration() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(rules::list, rules::create))
        .routes(routes!(rules::show, rules::update, rules::delete))
        .routes(routes!(config::list))
        .routes(routes!(config::file))
        .routes(routes!(config::show, config::set))
        .routes(routes!(without::select_all))
        .routes(routes!(without::colmet))
        .routes(routes!(media::list))
        .routes(routes!(media::chmod))
}
