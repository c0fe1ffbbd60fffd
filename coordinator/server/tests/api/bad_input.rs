//! Clients that do not keep to HTTP, or to what is theirs: nothing is lost, and others are served meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use coordinator_client::{Login, RootPin, pinned_tls};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::Method;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::restart::{Running, output, start};
use crate::site::{PATIENCE, Site, archive, client};

/// Connections that are opened and never used.
const IDLE: usize = 10_000;

/// How many of them come from one address: fewer than the coordinator lets in.
const OF_ADDRESS: usize = 400;

/// A TLS connection to write on by hand.
async fn raw(address: SocketAddr, root: RootPin) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(pinned_tls(root)));
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap()
}

/// What the server says until it ends the connection.
async fn all_of(mut stream: TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // An end without a word in TLS is an end as well.
    let _ = read.expect("the server keeps the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

impl Site {
    async fn say(&self, text: &[u8]) -> String {
        let mut stream = raw(self.server.address, self.server.root).await;
        // The server may have heard enough before the end.
        let _ = stream.write_all(text).await;
        all_of(stream).await
    }
}

#[tokio::test]
async fn lengths_that_cannot_be_are_refused_and_nothing_is_done() {
    let site = Site::start().await;
    let head = |more: &str| {
        let token = &site.alice;
        format!(
            "POST /oarapi/jobs.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\n{more}\r\n"
        )
    };
    let job = r#"{"command":"true"}"#;
    for (what, text) in [
        ("a word", format!("{}{job}", head("Content-Length: many\r\n"))),
        ("two", format!("{}{job}", head("Content-Length: 18\r\nContent-Length: 17\r\n"))),
        ("negative", format!("{}{job}", head("Content-Length: -1\r\n"))),
        ("beyond all", format!("{}{job}", head("Content-Length: 99999999999999999999\r\n"))),
        ("a chunk of no size", format!("{}zz\r\n{job}", head("Transfer-Encoding: chunked\r\n"))),
        ("too short", format!("{}{job}", head("Content-Length: 5\r\n"))),
        ("too long a head", head(&format!("X: {}\r\n", "x".repeat(1 << 20)))),
        ("no HTTP", "\0\0\0\0 HTTP\r\n\r\n".to_owned()),
    ] {
        let answer = site.say(text.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answer.is_empty() || ["400", "413", "431"].contains(&status), "{what}: {answer}");
    }
    // A body that is announced and does not come: its sender is gone.
    let mut stream = raw(site.server.address, site.server.root).await;
    stream.write_all(head("Content-Length: 18\r\n").as_bytes()).await.unwrap();
    stream.write_all(&job.as_bytes()[..9]).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = all_of(stream).await;
    assert!(!answer.contains("201"), "{answer}");
    assert_eq!(site.get("/jobs.json").await["total"], 0);
}

#[tokio::test]
async fn half_an_upload_is_none_and_the_whole_one_comes_after_it() {
    let (site, agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    site.acknowledge(&agents[0], job, 1).await;
    let bytes = archive(&format!("OAR.{job}.stdout"), "whole\n");
    for (path, token, kind) in [
        ("/media/~/half".to_owned(), &site.alice, "application/octet-stream"),
        (
            format!("/jobs/{job}/stageout.tgz?generation=1"),
            &agents[0].credential,
            "application/x-gzip",
        ),
    ] {
        let head = format!(
            "POST /oarapi{path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        let mut stream = raw(site.server.address, site.server.root).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = all_of(stream).await;
        assert!(!answer.contains("200 OK") && !answer.contains("201"), "{path}: {answer}");
    }
    for path in ["/media/~/half".to_owned(), format!("/jobs/{job}/stageout.tgz")] {
        let (status, body) = site.send(Method::GET, &path, Some(&site.alice), None).await;
        assert_eq!(status, 404, "{path}: {body}");
    }
    let list = site.get("/media/ls/~/").await;
    assert_eq!(list["items"], json!([]));
    let path = format!("/jobs/{job}/stageout.tgz?generation=1");
    let request = site.request(Method::POST, &path, Some(&agents[0].credential));
    assert_eq!(request.body(bytes).send().await.unwrap().status(), 200);
    let output = format!("/jobs/{job}/output.json");
    let answer = site.request(Method::GET, &output, Some(&site.alice)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "whole\n");
}

#[tokio::test]
async fn a_refused_upload_leaves_its_connection_in_order() {
    let site = Site::start().await;
    let body = vec![b'x'; 100_000];
    let request = |path: &str, more: &str, body: &[u8]| {
        let head = format!(
            "POST /oarapi{path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body.to_vec()].concat()
    };
    // One after the other on one connection: nobody may do the first.
    let kind = "Content-Type: application/octet-stream\r\n";
    let first = request("/media/~/x", kind, &body);
    let last = request("/jobs/1/stageout.tgz", &format!("{kind}Connection: close\r\n"), &body);
    let answers = site.say(&[first, last].concat()).await;
    assert_eq!(answers.matches("HTTP/1.1 401").count(), 2, "{answers}");
}

#[tokio::test]
async fn what_is_anothers_or_over_is_refused_whoever_asks() {
    let (site, agents) = Site::with_agents(2).await;
    let bob = site.add_user("bob").await;
    let job = site.submit(1, &[]).await;
    site.acknowledge(&agents[0], job, 1).await;
    let bytes = archive(&format!("OAR.{job}.stdout"), "out\n");
    let stageout = format!("/jobs/{job}/stageout.tgz?generation=1");
    for (who, token, status) in [
        ("another node", &agents[1].credential, 403),
        ("the owner", &site.alice, 403),
        ("a stranger", &"x".repeat(43), 401),
        ("the node", &agents[0].credential, 200),
    ] {
        let request = site.request(Method::POST, &stageout, Some(token)).body(bytes.clone());
        assert_eq!(request.send().await.unwrap().status(), status, "{who}");
    }
    // The other node's orders can be read by all, as in OAR; its liveness is its own.
    for path in [stageout.replace("?generation=1", ""), format!("/jobs/{job}/output.json")] {
        let (status, _) = site.send(Method::GET, &path, Some(&bob), None).await;
        assert_eq!(status, 403, "{path}");
        let (status, _) = site.send(Method::GET, &path, Some(&agents[1].credential), None).await;
        assert_eq!(status, 403, "{path}");
    }
    let done = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
    assert_eq!(site.report(&agents[0], job, done.clone()).await.0, 200);
    let ended = site.job(job).await;
    for (what, body, status) in [
        ("the same again", done, 200),
        ("it runs", json!({ "state": "running", "generation": 1 }), 409),
        ("another exit", json!({ "state": "terminated", "generation": 1, "exit_code": 256 }), 409),
        ("an error", json!({ "state": "error", "generation": 1 }), 409),
        ("a launch that never was", json!({ "state": "running", "generation": 9 }), 403),
    ] {
        let (found, said) = site.report(&agents[0], job, body).await;
        assert_eq!(found, status, "{what}: {said}");
    }
    let mut after = site.job(job).await;
    after["api_timestamp"] = ended["api_timestamp"].clone();
    assert_eq!(after, ended);
}

/// The program by itself: its descriptors are not the test's.
fn program(data: &Path) -> (Running, String) {
    let running = start(data);
    let login: Login = output(&["user", "add", "alice"], data).parse().unwrap();
    (running, login.token)
}

#[tokio::test]
async fn ten_thousand_idle_connections_and_slow_ones_keep_nobody_out() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(most > IDLE as u64 + 1_000, "this needs {IDLE} descriptors: raise the limit of {most}");
    let data = tempfile::tempdir().unwrap();
    let (mut running, token) = program(data.path());
    let authority = running.url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let server: SocketAddr = authority.parse().unwrap();

    let mut idle = Vec::new();
    for index in 0..IDLE {
        let socket = TcpSocket::new_v4().unwrap();
        let from = u8::try_from(index / OF_ADDRESS).unwrap();
        socket.bind((Ipv4Addr::new(127, 1, 0, from), 0).into()).unwrap();
        idle.push(socket.connect(server).await.unwrap());
    }
    // A hundred that have begun to say something.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = raw(server, running.root).await;
        stream
            .write_all(b"POST /oarapi/jobs.json HTTP/1.1\r\nHost: x\r\nContent-Le")
            .await
            .unwrap();
        slow.push(stream);
    }

    let http = client(running.root);
    for number in 1..=20 {
        let request = http.get(format!("{}/jobs/{number}.json", running.url)).bearer_auth(&token);
        assert_eq!(request.send().await.unwrap().status(), 404, "{number}");
    }
    // The slow ones were not forgotten either.
    for mut stream in slow {
        stream.write_all(b"ngth: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = all_of(stream).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
    }
    drop(idle);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
}
