//! A coordinator of the test's own, its user, and its agents.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use coordinator::args::{Arguments, Command, Serve};
use coordinator::clock::Clock;
use coordinator::role::Role;
use coordinator::secret::make_secret;
use coordinator::serve::Server;
use coordinator::store::TokenMakes;
use coordinator_api::enrolment::signed_text;
use coordinator_client::pinned_tls;
use coordinator_core::{Cluster, NodeNumber};
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Longer than any condition takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) clock: Arc<Clock>,
    pub(crate) alice: String,
    pub(crate) http: reqwest::Client,
    data: tempfile::TempDir,
}

/// An agent as the coordinator sees it.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) credential: String,
}

pub(crate) type Answer = (StatusCode, Value);

fn serve_arguments(data: &Path, more: &[&str]) -> Serve {
    let data = data.to_str().unwrap();
    let local = "127.0.0.1:0";
    let line = [
        "coordinator",
        "serve",
        "--data",
        data,
        "--listen",
        local,
        "--rendezvous",
        local,
        "--relay",
        local,
        "--public-address",
        "127.0.0.1",
    ];
    match Arguments::parse_from(line.iter().chain(more)).command {
        Command::Serve(serve) => serve,
        Command::Relay(_)
        | Command::Token(_)
        | Command::User(_)
        | Command::Node(_)
        | Command::Audit(_)
        | Command::Backup(_)
        | Command::Doctor(_)
        | Command::Openapi => unreachable!("the line says serve"),
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more options.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(Clock::default());
        let arguments = serve_arguments(data.path(), options);
        let server = Server::start(&arguments, clock.clone()).await.unwrap();
        let http = client(server.root);
        let mut site = Self { server, clock, alice: String::new(), http, data };
        site.alice = site.add_user("alice").await;
        site
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// A coordinator with agents on one-core machines.
    pub(crate) async fn with_agents(count: usize) -> (Self, Vec<Agent>) {
        let site = Self::start().await;
        let mut agents = Vec::new();
        for seed in 0..count {
            let token = site.add_token(Duration::from_secs(3600)).await;
            agents.push(site.enrol(&token, u8::try_from(seed).unwrap()).await);
        }
        (site, agents)
    }

    pub(crate) async fn add_user(&self, name: &str) -> String {
        self.add_user_as(name, Role::User).await
    }

    pub(crate) async fn add_user_as(&self, name: &str, role: Role) -> String {
        let (token, hash) = make_secret().unwrap();
        self.server.app.store.add_user(name, role, hash, self.clock.now()).await.unwrap();
        token
    }

    pub(crate) async fn add_token(&self, lifetime: Duration) -> String {
        let (token, hash) = make_secret().unwrap();
        self.server
            .app
            .store
            .add_token(hash, TokenMakes::Node, self.clock.now(), lifetime)
            .await
            .unwrap();
        token
    }

    pub(crate) async fn try_enrol(&self, token: &str, seed: u8) -> Answer {
        self.send(Method::POST, "/agents", None, Some(enrolment(token, seed))).await
    }

    pub(crate) async fn enrol(&self, token: &str, seed: u8) -> Agent {
        let (status, body) = self.try_enrol(token, seed).await;
        assert_eq!(status, 201, "{body}");
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        Agent { name: text("hostname"), credential: text("credential") }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
    ) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server.url));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let request = self.request(method, path, token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        let body =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        if status.as_u16() >= 400 {
            assert_eq!(body["code"], status.as_u16(), "{path}: {body}");
            assert!(body["title"].is_string() && body["message"].is_string(), "{path}: {body}");
        }
        (status, body)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, Some(&self.alice), None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn try_submit(&self, body: Value) -> Answer {
        self.send(Method::POST, "/jobs.json", Some(&self.alice), Some(body)).await
    }

    pub(crate) async fn submit(&self, nodes: usize, types: &[&str]) -> u64 {
        let resource = format!("nodes={nodes},walltime=1");
        let body = json!({ "command": "true", "resource": resource, "type": types });
        let (status, body) = self.try_submit(body).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_u64().unwrap()
    }

    pub(crate) async fn job(&self, id: u64) -> Value {
        self.get(&format!("/jobs/{id}.json")).await
    }

    pub(crate) async fn state(&self, id: u64) -> String {
        self.job(id).await["state"].as_str().unwrap().to_owned()
    }

    /// An agent's poll: (job, generation).
    pub(crate) async fn orders(&self, agent: &Agent, state: &str) -> Vec<(u64, u64)> {
        let path = format!("/resources/nodes/{}/jobs.json?state={state}", agent.name);
        let (status, body) = self.send(Method::GET, &path, Some(&agent.credential), None).await;
        assert_eq!(status, 200, "{body}");
        let pair =
            |item: &Value| (item["id"].as_u64().unwrap(), item["generation"].as_u64().unwrap());
        body["items"].as_array().unwrap().iter().map(pair).collect()
    }

    pub(crate) async fn report(&self, agent: &Agent, job: u64, body: Value) -> Answer {
        let path = format!("/jobs/{job}/state.json");
        self.send(Method::POST, &path, Some(&agent.credential), Some(body)).await
    }

    pub(crate) async fn acknowledge(&self, agent: &Agent, job: u64, generation: u64) {
        let body = json!({ "state": "running", "generation": generation });
        let (status, body) = self.report(agent, job, body).await;
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) async fn answer_kill(&self, agent: &Agent, job: u64, generation: u64) {
        let body = json!({ "state": "error", "generation": generation, "fault": "killed" });
        let (status, body) = self.report(agent, job, body).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Waits until the cluster is as it should be.
    pub(crate) async fn until(&self, what: &str, condition: impl FnMut(&Arc<Cluster>) -> bool) {
        let mut cluster = self.server.app.ledger.watch();
        let seen = tokio::time::timeout(PATIENCE, cluster.wait_for(condition)).await;
        assert!(seen.is_ok(), "waited in vain until {what}");
        seen.unwrap().unwrap();
    }

    pub(crate) fn number(agent: &Agent) -> NodeNumber {
        agent.name.parse().unwrap()
    }
}

pub(crate) fn client(root: coordinator_client::RootPin) -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(pinned_tls(root));
    builder.no_proxy().build().unwrap()
}

/// A request to join, signed by the key that is made from `seed`.
pub(crate) fn enrolment(token: &str, seed: u8) -> Value {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let node = HEXLOWER.encode(key.verifying_key().as_bytes());
    let signature = key.sign(signed_text(token, &node).as_bytes());
    json!({
        "token": token,
        "node": node,
        "signature": HEXLOWER.encode(&signature.to_bytes()),
        "cores": 2,
        "memory_mib": 1024,
        "software": "test 1",
    })
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A stage-out with one file.
pub(crate) fn archive(name: &str, text: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    let mut gzip = tar.into_inner().unwrap();
    gzip.flush().unwrap();
    gzip.finish().unwrap()
}
