//! What users asked for and used, by project: OAR's accounting.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use coordinator_api::List;
use coordinator_api::accounting::{Consumptions, ProjectUse};
use coordinator_core::{UnixMillis, UsageKey};

use super::answer::ApiError;
use super::openapi::{Period, Refused};
use super::pages::Asked;
use crate::app::App;

/// `GET /accounting?from=S&to=S`: resource-seconds of all users. The days that the times lie in count whole.
#[utoipa::path(
    get,
    path = "/accounting",
    tag = "Accounting",
    params(Period),
    responses(
        (status = 200, description = "By project", body = List<ProjectUse>),
        Refused,
    ),
)]
pub(super) async fn all(
    State(app): State<App>,
    asked: Asked,
) -> Result<Json<List<ProjectUse>>, ApiError> {
    consumptions(&app, &asked, None).await
}

/// `GET /accounting/USER`: of one user; an unknown one has used nothing.
#[utoipa::path(
    get,
    path = "/accounting/{user}",
    tag = "Accounting",
    params(("user" = String, Path, description = "A user's name"), Period),
    responses(
        (status = 200, description = "By project", body = List<ProjectUse>),
        Refused,
    ),
)]
pub(super) async fn of_user(
    State(app): State<App>,
    asked: Asked,
    Path(user): Path<String>,
) -> Result<Json<List<ProjectUse>>, ApiError> {
    consumptions(&app, &asked, Some(&user)).await
}

/// Resource-seconds by user.
type ByUser = BTreeMap<String, u64>;

async fn consumptions(
    app: &App,
    asked: &Asked,
    user: Option<&str>,
) -> Result<Json<List<ProjectUse>>, ApiError> {
    let (first, last) = (day(asked, "from")?.unwrap_or(0), day(asked, "to")?.unwrap_or(u64::MAX));
    let mut projects: BTreeMap<String, (ByUser, ByUser)> = BTreeMap::new();
    for (key, work) in app.store.accounting(first, last).await? {
        if user.is_some_and(|user| user != key.user) {
            continue;
        }
        let (asked, used) = projects.entry(key.project).or_default();
        *asked.entry(key.user.clone()).or_default() += work.asked;
        *used.entry(key.user).or_default() += work.used;
    }
    // Numbers are strings here, as in OAR.
    let texts = |sums: ByUser| sums.into_iter().map(|(user, s)| (user, s.to_string())).collect();
    let project = |(project, (asked, used))| {
        let consumptions = Consumptions { asked: texts(asked), used: texts(used) };
        ProjectUse { project, consumptions }
    };
    Ok(asked.filtered(projects.into_iter().map(project).collect(), app.clock.now()))
}

/// The day that a time in a query lies in, seconds since the Unix epoch.
fn day(asked: &Asked, name: &str) -> Result<Option<u64>, ApiError> {
    let seconds = asked.number(name)?;
    let time = |seconds: usize| UnixMillis((seconds as u64).saturating_mul(1_000));
    Ok(seconds.map(|seconds| UsageKey::day_of(time(seconds))))
}
