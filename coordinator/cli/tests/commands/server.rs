//! A coordinator that remembers what it was asked, on a port of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use coordinator_client::{Login, RootPin};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// What the server holds and has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Bodies of submissions.
    pub(crate) submitted: Vec<Value>,
    /// `Content-Range` of pieces of stage-ins.
    pub(crate) ranges: Vec<String>,
    /// Stage-ins by their hash, complete ones marked.
    pub(crate) stageins: HashMap<String, (Vec<u8>, bool)>,
    /// The next piece is cut after this many bytes.
    pub(crate) cut_after: Option<usize>,
    /// The results of job 5.
    pub(crate) results: Option<Vec<u8>>,
    /// Queries for the output of job 5.
    pub(crate) followed: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

pub(crate) struct Server {
    pub(crate) seen: Shared,
    pub(crate) login: Login,
    handle: axum_server::Handle<std::net::SocketAddr>,
}

impl Server {
    pub(crate) fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tls, root) = certificates();
        let seen = Shared::default();
        let router = router(seen.clone());
        let handle = axum_server::Handle::new();
        let server_handle = handle.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
                server.handle(server_handle).serve(router.into_make_service()).await.unwrap();
            });
        });
        let login = Login {
            url: format!("https://127.0.0.1:{port}/oarapi"),
            root,
            user: "alice".to_owned(),
            token: "alices-token".to_owned(),
        };
        Self { seen, login, handle }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

fn certificates() -> (RustlsConfig, RootPin) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &root).unwrap();

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone(), root.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (RustlsConfig::from_config(Arc::new(tls)), RootPin::of_certificate(root.der()))
}

fn router(seen: Shared) -> Router {
    let routes = Router::new()
        .route("/whoami.json", get(whoami))
        .route("/resources.json", get(resources))
        .route("/jobs.json", axum::routing::post(submit))
        .route("/jobs/details.json", get(jobs))
        .route("/jobs/{id}", get(job).delete(delete))
        .route("/jobs/{id}/holds/new.json", axum::routing::post(hold))
        .route("/jobs/{id}/resumptions/new.json", axum::routing::post(resume))
        .route("/jobs/{id}/why.json", get(why))
        .route("/jobs/array/{id}/deletions/new.json", axum::routing::post(delete_array))
        .route("/jobs/{id}/stageout.tgz", get(results))
        .route("/jobs/{id}/mesh.json", get(mesh))
        .route("/jobs/{id}/output", get(output))
        .route("/stagein/{hash}", any(stagein));
    Router::new().nest("/oarapi", routes).with_state(seen)
}

fn error(status: StatusCode, title: &str, message: &str) -> Response {
    let body = json!({"code": status.as_u16(), "title": title, "message": message});
    (status, Json(body)).into_response()
}

fn is_alice(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == "Bearer alices-token")
}

async fn whoami(headers: HeaderMap) -> Json<Value> {
    let user = if is_alice(&headers) { "alice" } else { "" };
    Json(json!({"authenticated_user": user, "api_timestamp": 1}))
}

/// Of job 5, which writes while it is looked at: a launch that is given up, and one that comes to its end.
async fn output(
    State(seen): State<Shared>,
    Path(id): Path<u64>,
    RawQuery(query): RawQuery,
) -> Response {
    if id != 5 {
        return error(StatusCode::NOT_FOUND, "No such route", "");
    }
    let query = query.unwrap();
    let offset: usize = query.split("offset=").nth(1).unwrap().parse().unwrap();
    let asked = {
        let mut seen = seen.lock().unwrap();
        seen.followed.push(query);
        seen.followed.len()
    };
    let (written, launch, complete) = match asked {
        1 => ("", "1", "no"),
        2 => ("seven", "1", "no"),
        3 | 4 => ("72", "2", "no"),
        _ => ("724\n", "2", "yes"),
    };
    let place = [
        ("x-output-offset", written.len().to_string()),
        ("x-output-launch", launch.to_owned()),
        ("x-output-complete", complete.to_owned()),
    ];
    (place, written.get(offset..).unwrap_or_default()).into_response()
}

async fn resources() -> Json<Value> {
    let resource = |id: u64, node: &str, state: &str| json!({"id": id, "state": state, "available_upto": 0, "network_address": node, "links": []});
    let items = [
        resource(1, "vol-1", "Alive"),
        resource(2, "vol-1", "Alive"),
        resource(3, "vol-2", "Suspected"),
    ];
    Json(json!({"items": items, "total": 3, "offset": 0, "links": []}))
}

async fn submit(
    State(seen): State<Shared>,
    headers: HeaderMap,
    Json(job): Json<Value>,
) -> Response {
    if !is_alice(&headers) {
        return error(StatusCode::UNAUTHORIZED, "Permission denied", "Log in first");
    }
    if job["resource"] == json!(["nodes=0"]) {
        return error(StatusCode::BAD_REQUEST, "Bad request", "nodes=0 asks for nothing");
    }
    seen.lock().unwrap().submitted.push(job);
    let output = "[ADMISSION RULE] mesh implies desktop_computing\nOAR_JOB_ID=15\n";
    let body = json!({"id": 15, "cmd_output": output, "links": [], "api_timestamp": 1});
    (StatusCode::CREATED, Json(body)).into_response()
}

fn job_object(id: u64, state: &str) -> Value {
    json!({
        "id": id, "name": "queens", "state": state, "owner": "alice", "project": "default",
        "queue": "default", "type": "PASSIVE", "types": ["mesh"], "command": "./nqueens 12",
        "initial_request": "", "launching_directory": "", "stdout_file": "OAR.queens.5.stdout",
        "stderr_file": "OAR.queens.5.stderr", "properties": "", "wanted_resources": "nodes=2",
        "walltime": 7200, "submission_time": 1_767_225_600, "scheduled_start": null, "start_time": 0,
        "stop_time": 0, "exit_code": 768, "message": "a \u{1b}[2J message", "reservation": "None",
        "array_id": id, "array_index": 1, "dependencies": [], "resubmit_job_id": 0,
        "cpuset_name": null, "links": [], "api_timestamp": 1,
        "events": [{"event_id": 1, "job_id": id, "type": "WALLTIME", "date": 1_767_225_600,
                    "description": "too long", "to_check": "NO"}],
    })
}

async fn jobs(RawQuery(query): RawQuery) -> Json<Value> {
    if query.is_some_and(|query| query.contains("array=5")) {
        return Json(
            json!({"items": [job_object(5, "Terminated")], "total": 1, "offset": 0, "links": []}),
        );
    }
    let items = [job_object(5, "Running"), job_object(6, "toLaunch")];
    Json(json!({"items": items, "total": 2, "offset": 0, "links": []}))
}

async fn job(Path(id): Path<String>) -> Response {
    match id.as_str() {
        "5.json" => Json(job_object(5, "Terminated")).into_response(),
        "6.json" => Json(job_object(6, "Running")).into_response(),
        _ => error(StatusCode::NOT_FOUND, "Job not found", "Job not found"),
    }
}

async fn delete(Path(id): Path<String>) -> Response {
    if id != "5.json" {
        return error(StatusCode::BAD_REQUEST, "Delete failed", "This job is not yours");
    }
    let body = json!({"id": "5", "status": "Delete request registered", "oardel_output": "", "api_timestamp": 1});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

async fn hold(Path(id): Path<u64>) -> Response {
    if id != 5 {
        let text = format!("/!\\ Cannot hold {id} : the job is not in the right state");
        return error(StatusCode::BAD_REQUEST, "Oar error", &text);
    }
    done("[5] Hold request was sent to the OAR server.\n")
}

async fn resume(Path(_): Path<u64>) -> Response {
    done("[5] Resume request was sent to the OAR server.\n")
}

fn done(output: &str) -> Response {
    let body =
        json!({"id": "5", "status": "", "cmd_output": output, "links": [], "api_timestamp": 1});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

async fn why(Path(id): Path<u64>) -> Json<Value> {
    let reason = "it waits for the end of job 4";
    Json(json!({"id": id, "state": "Waiting", "scheduled_start": null, "reason": reason}))
}

async fn delete_array(Path(id): Path<u64>) -> Response {
    if id != 5 {
        let text = format!(
            "Deleting the job = {id} ...ERROR.\nCannot frag {id} ; You are not the right user.\n"
        );
        return error(StatusCode::BAD_REQUEST, "Oardel error", &text);
    }
    let output = "Deleting the job = 5 ...REGISTERED.\nDeleting the job = 6 ...REGISTERED.\n\
                  The job(s) [ 5 6 ] will be deleted in the near future.\n";
    let body = json!({"id": "5", "status": "Delete request registered", "cmd_output": output, "links": [], "api_timestamp": 1});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

async fn results(State(seen): State<Shared>, Path(id): Path<String>) -> Response {
    let results = seen.lock().unwrap().results.clone().filter(|_| id == "5");
    results.map_or_else(
        || error(StatusCode::NOT_FOUND, "File not found", "no stage-out"),
        IntoResponse::into_response,
    )
}

async fn mesh(Path(id): Path<u64>) -> Response {
    if id != 5 {
        return error(StatusCode::NOT_FOUND, "Not found", "The job has had no network");
    }
    let mesh = json!({
        "job": 5, "generation": 1, "assigned_ms": 1000, "open_ms": 2500,
        "members": [{"rank": 0, "name": "vol-1", "ipv4": "10.128.0.1"},
                    {"rank": 1, "name": "vol-2", "ipv4": "10.128.0.2"}],
        "pairs": [{"from": 0, "to": 1, "path": "direct", "via": "192.0.2.1:4000", "rtt_us": 12345,
                   "established_after_ms": 80, "sent_bytes": 10, "received_bytes": 20, "explain": ""}],
    });
    Json(mesh).into_response()
}

async fn stagein(
    State(seen): State<Shared>,
    Path(hash): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut seen = seen.lock().unwrap();
    let cut_after = seen.cut_after;
    if method == Method::HEAD {
        return match seen.stageins.get(&hash) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some((_, true)) => StatusCode::OK.into_response(),
            Some((bytes, false)) => offset(StatusCode::NO_CONTENT, bytes.len()),
        };
    }
    let range = headers["content-range"].to_str().unwrap().to_owned();
    let (first, total) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
    let first: usize = first.split('-').next().unwrap().parse().unwrap();
    let total: usize = total.parse().unwrap();
    seen.ranges.push(range);
    seen.cut_after = None;
    let (stored, complete) = seen.stageins.entry(hash).or_default();
    if first != stored.len() {
        return offset(StatusCode::CONFLICT, stored.len());
    }
    stored.extend_from_slice(&body[..cut_after.unwrap_or(body.len())]);
    *complete = stored.len() == total;
    match (cut_after, *complete) {
        (Some(_), _) => error(StatusCode::SERVICE_UNAVAILABLE, "Cut", "the proxy has gone away"),
        (None, true) => StatusCode::CREATED.into_response(),
        (None, false) => offset(StatusCode::NO_CONTENT, stored.len()),
    }
}

fn offset(status: StatusCode, offset: usize) -> Response {
    (status, [("Upload-Offset", offset.to_string())]).into_response()
}
