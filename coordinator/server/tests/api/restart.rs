//! A coordinator that is killed loses nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use coordinator_client::{JoinToken, Login, RootPin};
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{client, enrolment};

/// The program, started on a data directory.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) root: RootPin,
    pub(crate) token: Option<JoinToken>,
}

pub(crate) fn coordinator() -> Command {
    Command::new(env!("CARGO_BIN_EXE_coordinator"))
}

pub(crate) fn start(data: &Path) -> Running {
    started(coordinator(), data)
}

/// `command` is the program, or ends with it.
pub(crate) fn started(mut command: Command, data: &Path) -> Running {
    let local = "127.0.0.1:0";
    let mut child = command
        .args(["serve", "--public-address", "127.0.0.1", "--listen", local])
        .args(["--rendezvous", local, "--relay", local, "--user-rate", "0", "--data"])
        .arg(data)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut url, mut root, mut token) = (None, None, None);
    loop {
        let line = lines.next().expect("the program ended early").unwrap();
        match line.split_once(": ") {
            Some(("url", text)) => url = Some(text.to_owned()),
            Some(("root", text)) => root = Some(text.parse().unwrap()),
            Some(("join token", text)) => token = Some(text.parse().unwrap()),
            _ if line == "ready" => break,
            _ => panic!("unexpected line {line:?}"),
        }
    }
    Running { child, url: url.unwrap(), root: root.unwrap(), token }
}

pub(crate) fn output(arguments: &[&str], data: &Path) -> String {
    output_of(coordinator().args(arguments).arg("--data").arg(data))
}

pub(crate) fn output_of(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

async fn call(
    running: &Running,
    method: Method,
    path: &str,
    token: &str,
    body: Value,
) -> (u16, Value) {
    let request = client(running.root).request(method, format!("{}{path}", running.url));
    let request = request.bearer_auth(token).timeout(std::time::Duration::from_secs(30));
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_job_loses_nothing() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut first = start(data);
    let login: Login = output(&["user", "add", "alice"], data).parse().unwrap();
    assert_eq!((&login.url, login.root), (&first.url, first.root));
    let second_token: JoinToken = output(&["token", "add"], data).parse().unwrap();
    let tokens = [first.token.take().unwrap().token, second_token.token];

    let mut credentials = Vec::new();
    for (seed, token) in (1..).zip(&tokens) {
        let (status, body) =
            call(&first, Method::POST, "/agents", "", enrolment(token, seed)).await;
        assert_eq!(status, 201, "{body}");
        credentials.push(body["credential"].as_str().unwrap().to_owned());
    }
    let submission = json!({ "command": "true", "resource": "nodes=2", "type": "spmd" });
    for id in 1..=2 {
        let posted = call(&first, Method::POST, "/jobs", &login.token, submission.clone()).await;
        assert_eq!((posted.0, posted.1["id"].as_u64()), (201, Some(id)));
    }
    let running = json!({ "state": "running", "generation": 1 });
    for credential in &credentials {
        let told = call(&first, Method::POST, "/jobs/1/state", credential, running.clone()).await;
        assert_eq!(told.0, 200);
    }
    first.child.kill().unwrap();
    first.child.wait().unwrap();

    let mut second = start(data);
    assert_eq!(second.root, first.root, "the root is made once");
    assert!(second.token.is_none(), "a join token is printed on the first start only");
    let shown = call(&second, Method::GET, "/jobs/1", &login.token, Value::Null).await.1;
    assert_eq!(shown["state"], "Running");
    let waiting = call(&second, Method::GET, "/jobs/2", &login.token, Value::Null).await.1;
    assert_eq!(waiting["state"], "Waiting");
    let again = call(&second, Method::POST, "/agents", "", enrolment(&tokens[0], 9)).await;
    assert_eq!(again.0, 403, "a used token stays used");
    let done = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
    for credential in &credentials {
        let told = call(&second, Method::POST, "/jobs/1/state", credential, done.clone()).await;
        assert_eq!(told.0, 200);
    }
    let ended = call(&second, Method::GET, "/jobs/1", &login.token, Value::Null).await.1;
    assert_eq!(ended["state"], "Terminated");
    let next = call(&second, Method::POST, "/jobs", &login.token, submission).await.1;
    assert_eq!(next["id"], 3);

    // Two servers do not share a data directory.
    let mut other = coordinator();
    other.args(["serve", "--public-address", "127.0.0.1", "--listen", "127.0.0.1:0", "--data"]);
    let other = other.arg(data).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(said.contains("another process uses the directory"), "{said}");

    second.child.kill().unwrap();
    second.child.wait().unwrap();
}
