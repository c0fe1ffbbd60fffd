//! Jobs, as scientists (and partly agents) see them.

use coordinator_api::List;
use coordinator_api::agent::{OUTPUT_COMPLETE, OUTPUT_LAUNCH, OUTPUT_OFFSET};
use coordinator_api::job::{Deleted, Event, Job, JobItem, JobState, SubmitJob, Submitted, Why};
use coordinator_api::mesh::JobMesh;
use serde::{Deserialize, Serialize};

use super::{Client, ClientError, answer};

/// The longest output that is read at once, bytes: as much as the coordinator shows of one, 64 MiB.
const MAX_OUTPUT: usize = 64 << 20;

/// Which jobs to list. With no state and no ids: the active ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states.
    pub states: Vec<JobState>,
    /// Of this user.
    pub user: Option<String>,
    /// With one of these numbers.
    pub ids: Vec<u64>,
    /// Of this array, whatever their states.
    pub array: Option<u64>,
    /// At most this many in a page (the server's default: 500).
    pub limit: Option<usize>,
    /// Beginning with this one, from 0.
    pub offset: Option<usize>,
}

/// A node of a job: `GET /jobs/ID/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNode {
    /// The OAR host name.
    pub network_address: String,
    /// `assigned`, `scheduled` or `reserved`.
    #[serde(default)]
    pub status: String,
}

/// What a job has written after some offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutput {
    /// The bytes; none when there are no new ones.
    pub content: Vec<u8>,
    /// Where the next ones begin.
    pub next: u64,
    /// The launch that wrote them: another one has begun anew.
    pub launch: u64,
    /// Nothing more will come.
    pub is_complete: bool,
}

#[derive(Deserialize)]
struct WhoAmI {
    authenticated_user: String,
}

#[derive(Deserialize)]
struct Done {
    cmd_output: String,
}

impl Client {
    /// `GET /whoami`: the user's name, empty when anonymous.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; so for every method here.
    pub async fn whoami(&self) -> Result<String, ClientError> {
        let answer: WhoAmI = self.json(self.get(self.at(&["whoami.json"]))).await?;
        Ok(answer.authenticated_user)
    }

    /// `GET /jobs`.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<List<JobItem>, ClientError> {
        self.json(self.get(self.filtered(&["jobs.json"], filter))).await
    }

    /// `GET /jobs/details`: the same with the full objects.
    pub async fn job_details(&self, filter: &JobFilter) -> Result<List<Job>, ClientError> {
        self.json(self.get(self.filtered(&["jobs", "details.json"], filter))).await
    }

    /// `GET /jobs/ID`. For an agent that the job is assigned to it holds the assignment.
    pub async fn job(&self, id: u64) -> Result<Job, ClientError> {
        if self.plain.is_some() {
            return self.oar_job(id).await;
        }
        self.json(self.get(self.at(&["jobs", &format!("{id}.json")]))).await
    }

    /// `GET /jobs/ID/nodes`.
    pub async fn job_nodes(&self, id: u64) -> Result<List<JobNode>, ClientError> {
        self.json(self.get(self.at(&["jobs", &id.to_string(), "nodes.json"]))).await
    }

    /// `GET /jobs/ID/events`.
    pub async fn job_events(&self, id: u64) -> Result<List<Event>, ClientError> {
        self.json(self.get(self.at(&["jobs", &id.to_string(), "events.json"]))).await
    }

    /// `GET /jobs/ID/mesh`.
    pub async fn mesh(&self, id: u64) -> Result<JobMesh, ClientError> {
        self.json(self.get(self.at(&["jobs", &id.to_string(), "mesh.json"]))).await
    }

    /// `GET /jobs/ID/output`: what that rank has written to `stream` (`stdout` or `stderr`) after its first `offset`
    /// bytes, also while it runs. None of a coordinator that cannot say so.
    pub async fn output(
        &self,
        id: u64,
        rank: u16,
        stream: &str,
        offset: u64,
    ) -> Result<Option<JobOutput>, ClientError> {
        let mut url = self.at(&["jobs", &id.to_string(), "output"]);
        url.query_pairs_mut()
            .append_pair("stream", stream)
            .append_pair("rank", &rank.to_string())
            .append_pair("offset", &offset.to_string());
        let response = answer::success(&self.base, self.send(self.get(url)).await?).await?;
        let numbers = [OUTPUT_OFFSET, OUTPUT_LAUNCH].map(|name| answer::number(&response, name));
        let [Some(next), Some(launch)] = numbers else { return Ok(None) };
        let complete = response.headers().get(OUTPUT_COMPLETE);
        let is_complete = complete.is_some_and(|value| value == "yes");
        let content = answer::read(&self.base, response, MAX_OUTPUT).await?.to_vec();
        Ok(Some(JobOutput { content, next, launch, is_complete }))
    }

    /// `POST /jobs`. A stage-in archive that it names must have been uploaded.
    pub async fn submit(&self, job: &SubmitJob) -> Result<Submitted, ClientError> {
        self.json(self.post(self.at(&["jobs.json"])).json(job)).await
    }

    /// `DELETE /jobs/ID`.
    pub async fn delete(&self, id: u64) -> Result<Deleted, ClientError> {
        let url = self.at(&["jobs", &format!("{id}.json")]);
        let request = self.request(reqwest::Method::DELETE, url).timeout(super::REQUEST_TIMEOUT);
        self.json(request).await
    }

    /// `GET /jobs/ID/why`.
    pub async fn why(&self, id: u64) -> Result<Why, ClientError> {
        self.json(self.get(self.at(&["jobs", &id.to_string(), "why.json"]))).await
    }

    /// `POST /jobs/ID/holds/new`: what oarhold prints.
    pub async fn hold(&self, id: u64) -> Result<String, ClientError> {
        self.order(&["jobs", &id.to_string(), "holds", "new.json"]).await
    }

    /// `POST /jobs/ID/resumptions/new`: what oarresume prints.
    pub async fn resume(&self, id: u64) -> Result<String, ClientError> {
        self.order(&["jobs", &id.to_string(), "resumptions", "new.json"]).await
    }

    /// `POST /jobs/array/ID/deletions/new`: what oardel prints.
    pub async fn delete_array(&self, id: u64) -> Result<String, ClientError> {
        self.order(&["jobs", "array", &id.to_string(), "deletions", "new.json"]).await
    }

    /// `POST /jobs/array/ID/holds/new`: what oarhold prints.
    pub async fn hold_array(&self, id: u64) -> Result<String, ClientError> {
        self.order(&["jobs", "array", &id.to_string(), "holds", "new.json"]).await
    }

    /// `POST /jobs/array/ID/resumptions/new`: what oarresume prints.
    pub async fn resume_array(&self, id: u64) -> Result<String, ClientError> {
        self.order(&["jobs", "array", &id.to_string(), "resumptions", "new.json"]).await
    }

    /// `POST /jobs/ID/resubmissions/new`: what oarsub prints.
    pub async fn resubmit(&self, id: u64) -> Result<Submitted, ClientError> {
        let url = self.at(&["jobs", &id.to_string(), "resubmissions", "new.json"]);
        self.json(self.post(url)).await
    }

    async fn order(&self, segments: &[&str]) -> Result<String, ClientError> {
        let done: Done = self.json(self.post(self.at(segments))).await?;
        Ok(done.cmd_output)
    }

    fn filtered(&self, segments: &[&str], filter: &JobFilter) -> reqwest::Url {
        let mut pairs = Vec::new();
        if !filter.states.is_empty() {
            pairs
                .push(("state", joined(filter.states.iter().map(|state| state_text(*state)), ",")));
        }
        if let Some(user) = &filter.user {
            pairs.push(("user", user.clone()));
        }
        if !filter.ids.is_empty() {
            pairs.push(("ids", joined(filter.ids.iter().map(u64::to_string), ":")));
        }
        pairs.extend(filter.array.map(|array| ("array", array.to_string())));
        pairs.extend(filter.limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend(filter.offset.map(|offset| ("offset", offset.to_string())));

        let mut url = self.at(segments);
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        url
    }
}

fn joined(texts: impl Iterator<Item = String>, separator: &str) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

/// The state's name as OAR writes it.
fn state_text(state: JobState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{state:?}"),
    }
}
