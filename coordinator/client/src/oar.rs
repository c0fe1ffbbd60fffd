//! A plain OAR server as an agent's server: how it is asked, and how its known faults are met.
//!
//! OAR 2.5.9 is the last release that serves desktop agents. It differs from a coordinator in this:
//!
//! | there | here |
//! |---|---|
//! | http or https; a user's password, or a name that the web server in front of it trusts | [`OarLogin`] |
//! | one answer in 51 is a 500: the worker that should have given it has ended | small requests are made again at once |
//! | a job has no assignment | made of its resources; its first node runs it, the others leave it alone |
//! | a report is answered with 200 also when it was not taken | the job's state is read afterwards |
//! | nothing but a HEAD tells whether there is a stage-in | asked together with the job |
//! | a stage-out is added to what was sent before, and its end stays in a worker's memory | zeros follow it |
//!
//! It has no launches (their generation is 0), keeps no exit codes, and gives no job a network.

mod stageout;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coordinator_api::List;
use coordinator_api::agent::{AssignedNode, Assignment, NodeJobItem, ReportedState, SetState};
use coordinator_api::job::{Job, JobState};
use data_encoding::BASE64;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, ClientError, Wanted, answer};

/// How often a small request is made before its 500 counts. Measured: one answer in 51 is a 500 for no reason,
/// so three in a row are one in 130,000.
const ATTEMPTS: u32 = 3;

/// The most items of a list that are looked at: each costs a request, once.
const MAX_LISTED: usize = 256;

/// The most jobs of which is remembered whether they are this node's.
const MAX_KNOWN: usize = 1024;

/// The walltime of a job for which the server names none, as OAR's default rules have it: 2 h.
const DEFAULT_WALLTIME_S: u64 = 7200;

/// How an agent shows itself to a plain OAR server. There is no `Debug`.
pub enum OarLogin {
    /// HTTP Basic authentication: the location `/oarapi-priv` of OAR's own configuration of Apache.
    Password {
        /// The user's login.
        user: String,
        /// The password.
        password: String,
    },
    /// The header `X-REMOTE-IDENT`: for servers behind something that has already checked who asks.
    Trusted {
        /// The user's login.
        user: String,
    },
}

impl OarLogin {
    pub(crate) fn header(&self) -> Result<(HeaderName, HeaderValue), ClientError> {
        let bad = |_| ClientError::BadCredential;
        match self {
            // RFC 7617, section 2: the first colon ends the name.
            Self::Password { user, .. } if user.contains(':') => Err(ClientError::BadCredential),
            Self::Password { user, password } => {
                let both = BASE64.encode(format!("{user}:{password}").as_bytes());
                let mut value = HeaderValue::from_str(&format!("Basic {both}")).map_err(bad)?;
                value.set_sensitive(true);
                Ok((reqwest::header::AUTHORIZATION, value))
            }
            Self::Trusted { user } => {
                let value = HeaderValue::from_str(user).map_err(bad)?;
                Ok((HeaderName::from_static("x-remote-ident"), value))
            }
        }
    }
}

/// What a client of a plain OAR server keeps in mind.
#[derive(Clone)]
pub(crate) struct Plain {
    node: Arc<str>,
    /// Whether this node is the first one of a job.
    own: Arc<Mutex<BTreeMap<u64, bool>>>,
}

impl Plain {
    pub(crate) fn of(node: &str) -> Self {
        Self { node: node.into(), own: Arc::default() }
    }

    fn known(&self, job: u64) -> Option<bool> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).get(&job).copied()
    }

    fn remember(&self, job: u64, is_own: bool) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.insert(job, is_own);
        while own.len() > MAX_KNOWN {
            own.pop_first();
        }
    }
}

/// Trusts servers whose certificate descends from one of `roots`.
pub(crate) fn tls(roots: &[CertificateDer<'static>]) -> ClientConfig {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(store)
        .with_no_client_auth()
}

/// What matters here of `GET /jobs/ID/details`. OAR sends null where nothing was said.
#[derive(Deserialize)]
struct Details {
    id: u64,
    name: Option<String>,
    state: JobState,
    owner: String,
    project: Option<String>,
    queue: Option<String>,
    #[serde(default)]
    types: Vec<String>,
    command: Option<String>,
    #[serde(default)]
    stdout_file: String,
    #[serde(default)]
    stderr_file: String,
    walltime: Option<u64>,
    #[serde(default)]
    submission_time: u64,
    #[serde(default)]
    start_time: u64,
    array_id: Option<u64>,
    array_index: Option<u64>,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    id: u64,
    network_address: String,
}

impl Details {
    /// The nodes and how many cores of each, in the order of their resources: the same on every node.
    fn nodes(&self) -> Vec<AssignedNode> {
        let mut resources: Vec<_> = self.resources.iter().collect();
        resources.sort_by_key(|resource| resource.id);
        let mut nodes: Vec<AssignedNode> = Vec::new();
        for Resource { network_address: name, .. } in resources {
            match nodes.iter_mut().find(|node| node.name == *name) {
                Some(node) => node.cores = node.cores.saturating_add(1),
                None => nodes.push(AssignedNode { name: name.clone(), cores: 1 }),
            }
        }
        nodes
    }

    /// It wants what only a coordinator of Clouds@home can give.
    fn wants_network(&self) -> bool {
        let name = |kind: &String| kind.split('=').next().map(str::to_owned).unwrap_or_default();
        self.types.iter().map(name).any(|name| name == "mesh" || name == "spmd")
    }

    fn into_job(self, stagein: bool) -> Job {
        let walltime = self.walltime.unwrap_or(DEFAULT_WALLTIME_S);
        let assignment = Assignment {
            generation: 0,
            rank: 0,
            nodes: self.nodes(),
            mesh: self.wants_network(),
            spmd: false,
            stagein,
            stagein_sha256: None,
            walltime,
        };
        Job {
            id: self.id,
            name: self.name,
            state: self.state,
            owner: self.owner,
            project: self.project.unwrap_or_default(),
            queue: self.queue.unwrap_or_default(),
            kind: "PASSIVE".to_owned(),
            types: self.types,
            command: self.command.unwrap_or_default(),
            initial_request: String::new(),
            launching_directory: String::new(),
            stdout_file: self.stdout_file,
            stderr_file: self.stderr_file,
            properties: String::new(),
            wanted_resources: String::new(),
            walltime: Some(walltime),
            submission_time: self.submission_time,
            scheduled_start: None,
            start_time: self.start_time,
            stop_time: 0,
            exit_code: None,
            message: String::new(),
            reservation: "None".to_owned(),
            array_id: self.array_id.unwrap_or(self.id),
            array_index: self.array_index,
            dependencies: Vec::new(),
            resubmit_job_id: None,
            cpuset_name: None,
            events: Vec::new(),
            links: Vec::new(),
            api_timestamp: 0,
            assignment: Some(assignment),
        }
    }
}

impl Client {
    /// Sends a request, and again when its 500 may mean nothing. One with a body that cannot be repeated is sent
    /// once.
    pub(crate) async fn insist_briefly(
        &self,
        mut request: RequestBuilder,
    ) -> Result<Response, reqwest::Error> {
        for _ in 1..ATTEMPTS {
            let Some(again) = request.try_clone() else { break };
            let response = request.send().await?;
            if response.status() != StatusCode::INTERNAL_SERVER_ERROR {
                return Ok(response);
            }
            tracing::debug!("asked again after a 500");
            request = again;
        }
        request.send().await
    }

    async fn details(&self, id: u64) -> Result<Details, ClientError> {
        self.json(self.get(self.at(&["jobs", &id.to_string(), "details.json"]))).await
    }

    /// Those of the node's jobs in that state whose first node it is.
    pub(crate) async fn oar_orders(
        &self,
        plain: &Plain,
        node: &str,
        wanted: Wanted,
    ) -> Result<Vec<NodeJobItem>, ClientError> {
        let mut url = self.at(&["resources", "nodes", node, "jobs.json"]);
        url.query_pairs_mut().append_pair("state", wanted.name());
        let list: List<NodeJobItem> = self.json(self.get(url)).await?;
        let mut own = Vec::new();
        for item in list.items.into_iter().take(MAX_LISTED) {
            let is_own = match plain.known(item.id) {
                Some(known) => known,
                None => match self.details(item.id).await {
                    Ok(details) => {
                        let nodes = details.nodes();
                        let is_own = nodes.first().is_some_and(|node| *node.name == *plain.node);
                        plain.remember(item.id, is_own);
                        is_own
                    }
                    Err(error) if error.status() == Some(404) => false,
                    Err(error) => return Err(error),
                },
            };
            if is_own {
                own.push(NodeJobItem { generation: 0, ..item });
            }
        }
        Ok(own)
    }

    /// The job, with the assignment that a coordinator would send.
    pub(crate) async fn oar_job(&self, id: u64) -> Result<Job, ClientError> {
        let details = self.details(id).await?;
        let url = self.at(&["jobs", &id.to_string(), "stageinhead.tgz"]);
        let asked = self.request(Method::HEAD, url).timeout(crate::client::REQUEST_TIMEOUT);
        let response = self.send(asked).await?;
        let stagein = match response.status() {
            StatusCode::NOT_FOUND => false,
            _ => answer::success(self.base(), response).await.map(|_| true)?,
        };
        Ok(details.into_job(stagein))
    }

    /// Reports, and makes sure of it.
    pub(crate) async fn oar_report(&self, id: u64, said: &SetState) -> Result<(), ClientError> {
        let url = self.at(&["jobs", &id.to_string(), "state.json"]);
        let body = json!({ "state": said.state });
        let response = self.send(self.post(url).json(&body)).await?;
        answer::success(self.base(), response).await?;
        let state = self.details(id).await?.state;
        match (said.state, state) {
            (ReportedState::Terminated | ReportedState::Error, state) if state.is_final() => Ok(()),
            (ReportedState::Running, JobState::Running | JobState::Suspended) => Ok(()),
            (ReportedState::Running, state) if state.is_final() => Err(ClientError::Refused {
                status: 409,
                title: "The job is over".to_owned(),
                message: String::new(),
            }),
            (said, state) => Err(self.unusable(format!(
                "job {id} was reported {said:?}, and is {state:?} all the same"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
