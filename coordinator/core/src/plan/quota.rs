//! Limits on what runs at the same time, as OAR's administrators write them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::job::Job;

/// One limit: `QUEUE,PROJECT,TYPE,USER = RESOURCES,JOBS,RESOURCE-HOURS`.
///
/// `*` means all together, `/` each one by itself, a name that one alone; -1 is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quota {
    scope: [String; 4],
    resources: Option<u64>,
    jobs: Option<u64>,
    resource_hours: Option<u64>,
}

/// The text is no quota.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read the quota {0:?}: write QUEUE,PROJECT,TYPE,USER = RESOURCES,JOBS,HOURS, with * for all, / for \
     each and -1 for no limit"
)]
pub struct ParseQuotaError(String);

impl FromStr for Quota {
    type Err = ParseQuotaError;

    fn from_str(text: &str) -> Result<Self, ParseQuotaError> {
        let bad = || ParseQuotaError(text.chars().take(100).collect());
        let (scope, limits) = text.split_once('=').ok_or_else(bad)?;
        let scope: Vec<String> = scope.split(',').map(|part| part.trim().to_owned()).collect();
        let limit = |text: &str| match text.trim() {
            "-1" => Ok(None),
            number => number.parse().map(Some).map_err(|_| bad()),
        };
        let limits: Vec<Option<u64>> = limits.split(',').map(limit).collect::<Result<_, _>>()?;
        let scope: [String; 4] = scope.try_into().map_err(|_| bad())?;
        let (true, [resources, jobs, resource_hours]) =
            (scope.iter().all(|part| !part.is_empty()), limits.as_slice())
        else {
            return Err(bad());
        };
        Ok(Self { scope, resources: *resources, jobs: *jobs, resource_hours: *resource_hours })
    }
}

impl TryFrom<String> for Quota {
    type Error = ParseQuotaError;

    fn try_from(text: String) -> Result<Self, ParseQuotaError> {
        text.parse()
    }
}

impl From<Quota> for String {
    fn from(quota: Quota) -> Self {
        quota.to_string()
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
        let (resources, jobs) = (limit(self.resources), limit(self.jobs));
        write!(f, "{} = {resources},{jobs},{}", self.scope.join(","), limit(self.resource_hours))
    }
}

/// What runs, counted for each limit.
pub(super) struct Counted<'p> {
    quotas: &'p [Quota],
    running: Vec<BTreeMap<[String; 4], Load>>,
}

#[derive(Clone, Copy, Default)]
struct Load {
    resources: u64,
    jobs: u64,
    resource_seconds: u64,
}

impl<'p> Counted<'p> {
    pub(super) fn new(quotas: &'p [Quota]) -> Self {
        Self { quotas, running: quotas.iter().map(|_| BTreeMap::new()).collect() }
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.quotas.is_empty()
    }

    /// The job runs, or will at once.
    pub(super) fn add(&mut self, job: &Job, resources: u64, walltime_s: u64) {
        for (quota, running) in self.quotas.iter().zip(&mut self.running) {
            for key in quota.keys(job) {
                let load = running.entry(key).or_default();
                load.resources += resources;
                load.jobs += 1;
                load.resource_seconds += resources.saturating_mul(walltime_s);
            }
        }
    }

    /// The limit that keeps the job from running now.
    pub(super) fn refusal(&self, job: &Job, resources: u64, walltime_s: u64) -> Option<&'p Quota> {
        let limits = self.quotas.iter().zip(&self.running);
        limits.into_iter().find_map(|(quota, running)| {
            let exceeded = quota.keys(job).iter().any(|key| {
                let load = running.get(key).copied().unwrap_or_default();
                let seconds = load.resource_seconds + resources.saturating_mul(walltime_s);
                let over = |limit: Option<u64>, value: u64| limit.is_some_and(|it| value > it);
                over(quota.resources, load.resources + resources)
                    || over(quota.jobs, load.jobs + 1)
                    || over(quota.resource_hours.map(|hours| hours.saturating_mul(3_600)), seconds)
            });
            exceeded.then_some(quota)
        })
    }
}

impl Quota {
    /// Under which headings the limit counts the job: a job has several types.
    fn keys(&self, job: &Job) -> Vec<[String; 4]> {
        let [queue, project, kind, user] = &self.scope;
        let one = |rule: &str, value: &str| match rule {
            "*" => Some("*".to_owned()),
            "/" => Some(value.to_owned()),
            name => (name == value).then(|| value.to_owned()),
        };
        let (Some(queue), Some(project), Some(user)) = (
            one(queue, &job.request.queue),
            one(project, job.request.project()),
            one(user, &job.owner),
        ) else {
            return Vec::new();
        };
        let types: Vec<String> = match kind.as_str() {
            "*" => vec!["*".to_owned()],
            kind => job.request.types.names().iter().filter_map(|name| one(kind, name)).collect(),
        };
        let key = |kind| [queue.clone(), project.clone(), kind, user.clone()];
        types.into_iter().map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_and_written_back() {
        for text in ["*,*,*,/ = 10,-1,-1", "default,*,besteffort,alice = -1,2,100"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
        for text in
            ["", "*,*,*,*", "*,*,* = 1,1,1", "*,*,*,* = 1,1", "*,*,*,* = a,1,1", ",,, = 1,1,1"]
        {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
    }
}
