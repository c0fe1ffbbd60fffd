//! As much of a coordinator as an agent needs, and a record of what it was told.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum_server::tls_rustls::RustlsConfig;
use coordinator_api::agent::{AssignedNode, Assignment, NodeJobItem, SetState};
use coordinator_api::enrolment::{Enrol, Enrolled};
use coordinator_api::{ErrorBody, List};
use coordinator_client::{JoinToken, RootPin};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Something that the agent said about a job.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A report: the generation and all of it.
    State(u32, SetState),
    /// Results: the names and texts of the files.
    Stageout { generation: u32, files: Vec<(String, String)> },
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<u64, FakeJob>,
    to_launch: Vec<(u64, u32)>,
    to_kill: Vec<(u64, u32)>,
    said: BTreeMap<u64, Vec<Said>>,
    away: bool,
    refused: usize,
    polls: usize,
    enrolments: usize,
    refuse_tokens: bool,
    waits: bool,
    /// By job and stream; none when that is unheard of here.
    outputs: Option<BTreeMap<(u64, String), Vec<u8>>>,
    pieces: usize,
}

struct FakeJob {
    generation: u32,
    command: String,
    stagein: Option<Vec<u8>>,
    lie: fn(&mut Value),
}

type Shared = Arc<Mutex<Inner>>;

pub(crate) struct Fake {
    inner: Shared,
    token: JoinToken,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &root).unwrap();
        let chain = vec![leaf.der().to_vec(), root.der().to_vec()];
        let tls = RustlsConfig::from_der(chain, key.serialize_der()).await.unwrap();

        let inner = Shared::default();
        let routes = Router::new()
            .route("/oarapi/agents.json", post(enrol))
            .route("/oarapi/resources/nodes/vol-1/jobs.json", get(lists))
            .route("/oarapi/jobs/{name}", get(job))
            .route("/oarapi/jobs/{id}/state.json", post(state))
            .route("/oarapi/jobs/{id}/stagein.tgz", get(stagein))
            .route("/oarapi/jobs/{id}/stageout.tgz", post(stageout))
            .route("/oarapi/jobs/{id}/output", put(output))
            .layer(from_fn_with_state(inner.clone(), gate))
            .with_state(inner.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        tokio::spawn(server.serve(routes.into_make_service()));
        let token = JoinToken {
            url: format!("https://127.0.0.1:{port}/oarapi"),
            root: RootPin::of_certificate(root.der()),
            token: "once".into(),
        };
        Self { inner, token }
    }

    pub(crate) fn token(&self) -> String {
        self.token.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        let end = self.token.url.trim_end_matches("/oarapi").rsplit(':').next().unwrap();
        end.parse().unwrap()
    }

    pub(crate) fn submit(
        &self,
        job: u64,
        generation: u32,
        command: &str,
        stagein: Option<Vec<u8>>,
    ) {
        let mut inner = self.inner.lock().unwrap();
        inner
            .jobs
            .insert(job, FakeJob { generation, command: command.into(), stagein, lie: |_| {} });
        inner.to_launch.push((job, generation));
    }

    /// From now on the description of the job is changed before it goes out.
    pub(crate) fn lie(&self, job: u64, lie: fn(&mut Value)) {
        self.inner.lock().unwrap().jobs.get_mut(&job).unwrap().lie = lie;
    }

    pub(crate) fn list_again(&self, job: u64, generation: u32) {
        self.inner.lock().unwrap().to_launch.push((job, generation));
    }

    pub(crate) fn kill(&self, job: u64, generation: u32) {
        let mut inner = self.inner.lock().unwrap();
        inner.to_kill.push((job, generation));
    }

    pub(crate) fn said(&self, job: u64) -> Vec<Said> {
        self.inner.lock().unwrap().said.get(&job).cloned().unwrap_or_default()
    }

    pub(crate) fn go_away(&self, away: bool) {
        self.inner.lock().unwrap().away = away;
    }

    pub(crate) fn refused(&self) -> usize {
        self.inner.lock().unwrap().refused
    }

    pub(crate) fn polls(&self) -> usize {
        self.inner.lock().unwrap().polls
    }

    pub(crate) fn enrolments(&self) -> usize {
        self.inner.lock().unwrap().enrolments
    }

    /// From now on polls wait for orders, if they may.
    pub(crate) fn let_polls_wait(&self) {
        self.inner.lock().unwrap().waits = true;
    }

    /// From now on what jobs write is taken while they run.
    pub(crate) fn take_outputs(&self) {
        self.inner.lock().unwrap().outputs = Some(BTreeMap::new());
    }

    /// All of it has been lost.
    pub(crate) fn lose_outputs(&self) {
        self.take_outputs();
    }

    pub(crate) fn output(&self, job: u64, stream: &str) -> String {
        let inner = self.inner.lock().unwrap();
        let found = inner.outputs.as_ref().and_then(|all| all.get(&(job, stream.to_owned())));
        String::from_utf8(found.cloned().unwrap_or_default()).unwrap()
    }

    /// How often somebody has sent output, or tried to.
    pub(crate) fn pieces(&self) -> usize {
        self.inner.lock().unwrap().pieces
    }

    pub(crate) fn refuse_tokens(&self) {
        self.inner.lock().unwrap().refuse_tokens = true;
    }
}

pub(crate) fn archive_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn error(code: u16, message: &str) -> Response {
    let body = ErrorBody { code, title: String::new(), message: message.into() };
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

async fn gate(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    {
        let mut inner = shared.lock().unwrap();
        if inner.away {
            inner.refused += 1;
            return error(503, "away");
        }
    }
    let enrols = request.uri().path().ends_with("/agents.json");
    let known = request
        .headers()
        .get("authorization")
        .is_some_and(|value| value.as_bytes() == b"Bearer credential");
    if !enrols && !known { error(401, "who?") } else { next.run(request).await }
}

async fn enrol(State(shared): State<Shared>, Json(request): Json<Enrol>) -> Response {
    let mut inner = shared.lock().unwrap();
    assert_eq!(request.token, "once");
    if inner.refuse_tokens {
        return error(403, "the token was used already");
    }
    inner.enrolments += 1;
    let answer = Enrolled {
        hostname: "vol-1".into(),
        credential: "credential".into(),
        rendezvous: ":9".into(),
        poll_interval_ms: 100,
    };
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn lists(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<List<NodeJobItem>> {
    let is_empty = || {
        let inner = shared.lock().unwrap();
        let of = if query["state"] == "toLaunch" { &inner.to_launch } else { &inner.to_kill };
        !inner.waits || inner.away || of.is_empty()
    };
    let limit = Duration::from_secs(query.get("wait").map_or(0, |text| text.parse().unwrap()));
    let asked = Instant::now();
    while shared.lock().unwrap().waits && is_empty() && asked.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut inner = shared.lock().unwrap();
    inner.polls += 1;
    let of = if query["state"] == "toLaunch" { &inner.to_launch } else { &inner.to_kill };
    let items: Vec<_> = of
        .iter()
        .map(|(id, generation)| NodeJobItem {
            id: *id,
            generation: *generation,
            links: Vec::new(),
            api_timestamp: 0,
        })
        .collect();
    let total = items.len();
    Json(List { items, total, offset: 0, links: Vec::new(), api_timestamp: None })
}

async fn job(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let id: u64 = name.trim_end_matches(".json").parse().unwrap();
    let inner = shared.lock().unwrap();
    let Some(job) = inner.jobs.get(&id) else { return error(404, "no such job") };
    let assignment = Assignment {
        generation: job.generation,
        rank: 0,
        nodes: vec![AssignedNode { name: "vol-1".into(), cores: 2 }],
        mesh: false,
        spmd: false,
        stagein: job.stagein.is_some(),
        stagein_sha256: job
            .stagein
            .as_ref()
            .map(|bytes| data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))),
        walltime: 3600,
    };
    let mut body: Value = json!({
        "id": id, "name": null, "state": "Launching", "owner": "alice", "project": "default",
        "queue": "default", "type": "PASSIVE", "types": [], "command": job.command,
        "initial_request": "", "launching_directory": "", "stdout_file": "", "stderr_file": "",
        "properties": "", "wanted_resources": "", "walltime": 3600, "submission_time": 0,
        "scheduled_start": null, "start_time": 0, "stop_time": 0, "exit_code": null, "message": "",
        "reservation": "None", "array_id": id, "array_index": 1, "dependencies": [],
        "resubmit_job_id": 0, "cpuset_name": null, "events": [], "links": [], "api_timestamp": 0,
        "assignment": assignment,
    });
    (job.lie)(&mut body);
    Json(body).into_response()
}

async fn state(
    State(shared): State<Shared>,
    Path(id): Path<u64>,
    Json(state): Json<SetState>,
) -> StatusCode {
    let mut inner = shared.lock().unwrap();
    let key = (id, state.generation);
    inner.to_launch.retain(|listed| *listed != key);
    if state.state != coordinator_api::agent::ReportedState::Running {
        inner.to_kill.retain(|listed| *listed != key);
    }
    inner.said.entry(id).or_default().push(Said::State(state.generation, state));
    StatusCode::OK
}

async fn stagein(State(shared): State<Shared>, Path(id): Path<u64>) -> Response {
    let inner = shared.lock().unwrap();
    match inner.jobs.get(&id).and_then(|job| job.stagein.clone()) {
        Some(bytes) => bytes.into_response(),
        None => error(404, "no stage-in"),
    }
}

async fn stageout(
    State(shared): State<Shared>,
    Path(id): Path<u64>,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> StatusCode {
    let mut files = Vec::new();
    for entry in tar::Archive::new(GzDecoder::new(body.as_ref())).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.push((name, text));
    }
    let generation = query["generation"].parse().unwrap();
    shared.lock().unwrap().said.entry(id).or_default().push(Said::Stageout { generation, files });
    StatusCode::CREATED
}

async fn output(
    State(shared): State<Shared>,
    Path(id): Path<u64>,
    Query(query): Query<BTreeMap<String, String>>,
    piece: Bytes,
) -> Response {
    let mut inner = shared.lock().unwrap();
    inner.pieces += 1;
    let Some(outputs) = &mut inner.outputs else { return error(404, "no such route") };
    let have = outputs.entry((id, query["stream"].clone())).or_default();
    let offset: usize = query["offset"].parse().unwrap();
    if let Some(new) = have.len().checked_sub(offset).and_then(|known| piece.get(known..)) {
        have.extend(new);
    }
    [("x-output-offset", have.len().to_string())].into_response()
}
