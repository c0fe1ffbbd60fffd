//! A disk that is full for a while.

use std::path::Path;
use std::process::Command;

use coordinator_client::Login;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::restart::{Running, coordinator, output_of, started};
use crate::site::{client, enrolment};

/// The server in a mount namespace of its own, where its data directory is a small disk.
fn start_on_small_disk(data: &Path) -> Running {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=8m tmpfs \"$1\" && shift && exec \"$@\"");
    command.arg("sh").arg(data).arg(coordinator().get_program());
    started(command, data)
}

/// What is done inside the namespace of the server.
fn inside(running: &Running, arguments: &[&str]) -> String {
    let mut command = Command::new("nsenter");
    let target = running.child.id().to_string();
    command.args(["--target", &target, "--user", "--preserve-credentials", "--mount"]);
    output_of(command.args(arguments))
}

async fn ask(running: &Running, method: Method, path: &str, token: &str, body: &Value) -> Response {
    let request = client(running.root).request(method, format!("{}{path}", running.url));
    let request = request.bearer_auth(token);
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_full_disk_is_told_and_forgotten_when_there_is_space() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut running = start_on_small_disk(data);
    let program = coordinator().get_program().to_str().unwrap().to_owned();
    let data = data.to_str().unwrap();
    let login: Login =
        inside(&running, &[&program, "user", "add", "alice", "--data", data]).parse().unwrap();
    let token = running.token.take().unwrap().token;
    let joined = ask(&running, Method::POST, "/agents", "", &enrolment(&token, 1)).await;
    assert_eq!(joined.status(), 201);

    let job = json!({ "command": "x".repeat(60_000), "hold": 1 });
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < 1_000, "a disk of 8 MiB takes no 60 MB");
        let answer = ask(&running, Method::POST, "/jobs", &login.token, &job).await;
        if answer.status() != 201 {
            break answer;
        }
        accepted.push(answer.json::<Value>().await.unwrap()["id"].as_u64().unwrap());
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(accepted.len() > 10);
    // What is there is shown meanwhile.
    let first = format!("/jobs/{}", accepted[0]);
    assert_eq!(ask(&running, Method::GET, &first, &login.token, &Value::Null).await.status(), 200);

    inside(&running, &["mount", "-o", "remount,size=64m", data]);
    let answer = ask(&running, Method::POST, "/jobs", &login.token, &job).await;
    assert_eq!(answer.status(), 201, "without a restart");
    let next = answer.json::<Value>().await.unwrap()["id"].as_u64().unwrap();
    assert!(accepted.iter().all(|id| *id < next), "no number is given out twice");
    for id in &accepted {
        let path = format!("/jobs/{id}");
        assert_eq!(
            ask(&running, Method::GET, &path, &login.token, &Value::Null).await.status(),
            200
        );
    }
    running.child.kill().unwrap();
    running.child.wait().unwrap();
}
