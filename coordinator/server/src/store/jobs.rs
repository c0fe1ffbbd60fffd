//! Jobs that have ended, and lists that hold them.

use coordinator_api::job::JobState;
use coordinator_api::mesh::JobMesh;
use coordinator_core::{Job, JobId, UnixMillis};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Store, StoreError, to_sql};

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Only these states; none given means all.
    pub states: Option<Vec<JobState>>,
    /// Only this user's.
    pub owner: Option<String>,
    /// Only these.
    pub ids: Option<Vec<u64>>,
    /// Only those of this array.
    pub array: Option<u64>,
    /// Only those that have not ended before.
    pub from: Option<UnixMillis>,
    /// Only those that have started by then, or could have.
    pub to: Option<UnixMillis>,
}

impl JobFilter {
    /// The job is one of those asked for.
    pub fn accepts(&self, job: &Job) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&job.state))
            && self.owner.as_ref().is_none_or(|owner| *owner == job.owner)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&job.id.0))
            && self.array.is_none_or(|array| array == job.array_id().0)
            && self.from.is_none_or(|from| job.stopped.is_none_or(|stopped| stopped >= from))
            && self.to.is_none_or(|to| {
                job.started.or(job.request.reservation).unwrap_or(job.submitted) <= to
            })
    }

    fn push_where(&self, query: &mut QueryBuilder<Sqlite>) {
        query.push(" WHERE true");
        if let Some(states) = &self.states {
            let names = states.iter().map(|state| state_name(*state));
            push_in(query, "state", names);
        }
        if let Some(ids) = &self.ids {
            push_in(query, "id", ids.iter().map(|id| to_sql(*id)));
        }
        if let Some(array) = self.array {
            query.push(" AND array_id = ").push_bind(to_sql(array));
        }
        if let Some(owner) = &self.owner {
            query.push(" AND owner = ").push_bind(owner.clone());
        }
        if let Some(from) = self.from {
            query.push(" AND ifnull(body ->> '$.stopped', 9223372036854775807) >= ");
            query.push_bind(to_sql(from.0));
        }
        if let Some(to) = self.to {
            let start =
                "coalesce(body ->> '$.started', body ->> '$.request.reservation', submitted)";
            query.push(format!(" AND {start} <= ")).push_bind(to_sql(to.0));
        }
    }
}

fn push_in<T>(query: &mut QueryBuilder<Sqlite>, column: &str, values: impl Iterator<Item = T>)
where
    T: sqlx::Encode<'static, Sqlite> + sqlx::Type<Sqlite> + Send + 'static,
{
    query.push(" AND ").push(column).push(" IN (");
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    query.push(")");
}

/// A state as it stands in the table.
pub(super) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Waiting => "Waiting",
        JobState::Hold => "Hold",
        JobState::ToLaunch => "toLaunch",
        JobState::ToError => "toError",
        JobState::ToAckReservation => "toAckReservation",
        JobState::Launching => "Launching",
        JobState::Running => "Running",
        JobState::Suspended => "Suspended",
        JobState::Resuming => "Resuming",
        JobState::Finishing => "Finishing",
        JobState::Terminated => "Terminated",
        JobState::Error => "Error",
    }
}

impl Store {
    /// One job, whatever its state.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM job WHERE id = ?").bind(to_sql(id.0));
        let body: Option<String> = query.fetch_optional(&self.pool).await?;
        Ok(body.as_deref().map(serde_json::from_str).transpose()?)
    }

    /// A page of the jobs that the filter accepts, by number, and how many there are in all.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<Job>, usize), StoreError> {
        let mut count = QueryBuilder::new("SELECT count(*) AS total FROM job");
        filter.push_where(&mut count);
        let total: i64 = count.build().fetch_one(&self.pool).await?.try_get("total")?;
        let mut page = QueryBuilder::new("SELECT body FROM job");
        filter.push_where(&mut page);
        page.push(" ORDER BY id LIMIT ").push_bind(to_sql(limit as u64));
        page.push(" OFFSET ").push_bind(to_sql(offset as u64));
        let rows = page.build().fetch_all(&self.pool).await?;
        let jobs = rows.iter().map(|row| Ok(serde_json::from_str(row.try_get("body")?)?));
        let jobs = jobs.collect::<Result<_, StoreError>>()?;
        Ok((jobs, usize::try_from(total).unwrap_or(0)))
    }

    /// Keeps the pair table of a job's network.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn keep_mesh(&self, mesh: &JobMesh) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO job_mesh (job, body) VALUES (?, ?)")
            .bind(to_sql(mesh.job))
            .bind(serde_json::to_string(mesh)?)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The pair table of a job's last network that was closed.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn kept_mesh(&self, id: JobId) -> Result<Option<JobMesh>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM job_mesh WHERE job = ?");
        let body: Option<String> = query.bind(to_sql(id.0)).fetch_optional(&self.pool).await?;
        Ok(body.as_deref().map(serde_json::from_str).transpose()?)
    }
}
