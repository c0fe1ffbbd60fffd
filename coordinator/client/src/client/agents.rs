//! What agents ask and say.

use std::time::Duration;

use coordinator_api::List;
use coordinator_api::agent::{NodeJobItem, OUTPUT_OFFSET, SetState};
use coordinator_api::enrolment::{ControlChannel, Enrol, Enrolled};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::{Client, ClientError, answer};
use crate::token::rendezvous_of;

/// Which of a node's jobs are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Jobs that the node shall take.
    ToLaunch,
    /// Jobs that the node shall end.
    ToKill,
}

impl Wanted {
    /// OAR's name of the list.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ToLaunch => "toLaunch",
            Self::ToKill => "toKill",
        }
    }
}

impl Client {
    /// `POST /agents`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; so for every method here.
    pub async fn enrol(&self, request: &Enrol) -> Result<Enrolled, ClientError> {
        self.json(self.post(self.at(&["agents.json"])).json(request)).await
    }

    /// `GET /agents`: host and port of the control channel.
    pub async fn control_channel(&self) -> Result<String, ClientError> {
        let told: ControlChannel = self.json(self.get(self.at(&["agents.json"]))).await?;
        Ok(rendezvous_of(self.url(), &told.rendezvous))
    }

    /// `GET /resources/nodes/NODE/jobs?state=toLaunch` or `toKill`: the poll, which also says that the node
    /// is alive.
    pub async fn node_jobs(
        &self,
        node: &str,
        wanted: Wanted,
    ) -> Result<Vec<NodeJobItem>, ClientError> {
        self.node_jobs_within(node, wanted, Duration::ZERO).await
    }

    /// The same; the coordinator may hold an empty answer back for so long, in whole seconds of at most 20. One that
    /// does not know how answers at once, and so does a plain OAR server.
    pub async fn node_jobs_within(
        &self,
        node: &str,
        wanted: Wanted,
        wait: Duration,
    ) -> Result<Vec<NodeJobItem>, ClientError> {
        if let Some(plain) = &self.plain {
            return self.oar_orders(plain, node, wanted).await;
        }
        let mut url = self.at(&["resources", "nodes", node, "jobs.json"]);
        url.query_pairs_mut().append_pair("state", wanted.name());
        // Less than the time limit of a request.
        let seconds = wait.as_secs().min(20);
        if seconds > 0 {
            url.query_pairs_mut().append_pair("wait", &seconds.to_string());
        }
        let list: List<NodeJobItem> = self.json(self.get(url)).await?;
        Ok(list.items)
    }

    /// `POST /jobs/ID/state`.
    pub async fn set_state(&self, job: u64, state: &SetState) -> Result<(), ClientError> {
        if self.plain.is_some() {
            return self.oar_report(job, state).await;
        }
        let url = self.at(&["jobs", &job.to_string(), "state.json"]);
        let response = self.send(self.post(url).json(state)).await?;
        answer::success(&self.base, response).await.map(|_| ())
    }

    /// `PUT /jobs/ID/output`: a piece of what the node's command has written to `stream` (`stdout` or `stderr`),
    /// beginning at `offset`. Answers where the next one begins; none when the coordinator keeps no more. A refusal
    /// with 404 is one that does not know of it.
    pub async fn send_output(
        &self,
        job: u64,
        generation: u32,
        stream: &str,
        offset: u64,
        piece: Vec<u8>,
    ) -> Result<Option<u64>, ClientError> {
        let mut url = self.at(&["jobs", &job.to_string(), "output"]);
        url.query_pairs_mut()
            .append_pair("stream", stream)
            .append_pair("generation", &generation.to_string())
            .append_pair("offset", &offset.to_string());
        let request = self.request(Method::PUT, url).timeout(super::REQUEST_TIMEOUT);
        let request = request.header(CONTENT_TYPE, "application/octet-stream").body(piece);
        let response = self.send(request).await?;
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(None);
        }
        let response = answer::success(&self.base, response).await?;
        let next = answer::number(&response, OUTPUT_OFFSET);
        next.map(Some).ok_or_else(|| self.unusable("a piece of output was taken to no place"))
    }
}
