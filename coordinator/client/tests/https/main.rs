//! The client against a server that says what it is told to say.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod oar;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator_api::agent::{ReportedState, SetState};
use coordinator_client::client::{JobFilter, Wanted};
use coordinator_client::transfer::{Pace, TransferError};
use coordinator_client::{Client, ClientError, RootPin};
use sha2::{Digest, Sha256};

use crate::server::{Answer, Server, answer, head};

fn client(server: &Server) -> Client {
    Client::new(&server.url, server.pin).unwrap().with_credential("secret").unwrap()
}

fn running() -> SetState {
    let state = ReportedState::Running;
    SetState { state, generation: 2, exit_code: None, fault: None, message: None }
}

#[tokio::test]
async fn another_root_is_not_the_coordinator() {
    let server = Server::start(vec![Answer::new()]);
    let client = Client::new(&server.url, RootPin([7; 32])).unwrap();
    let error = client.whoami().await.unwrap_err();
    let ClientError::NotTheCoordinator { certificate, .. } = &error else {
        panic!("{error:?}");
    };
    let expected = "the server's certificate does not descend from the root that the token names";
    assert_eq!(certificate, expected);
    assert!(!error.is_transient());
    assert!(server.requests().is_empty(), "nothing is said to a stranger");
}

#[tokio::test]
async fn another_name_is_not_the_coordinator() {
    let server = Server::start(vec![Answer::new()]);
    let url = server.url.replace("localhost", "127.0.0.1");
    let error = Client::new(&url, server.pin).unwrap().whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::NotTheCoordinator { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = Server::start(vec![]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/oarapi", listener.local_addr().unwrap().port());
    drop(listener);
    let error = Client::new(&url, server.pin).unwrap().whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn routes_and_identity() {
    let list = r#"{"items":[{"id":7,"generation":2}],"total":1,"offset":0}"#;
    let empty = r#"{"items":[],"total":0,"offset":0,"links":[]}"#;
    let server =
        Server::start(vec![answer("200 OK", list), answer("200 OK", empty), answer("200 OK", "")]);
    let client = client(&server);
    let jobs = client.node_jobs("vol-1", Wanted::ToKill).await.unwrap();
    assert_eq!((jobs[0].id, jobs[0].generation), (7, 2));
    let filter =
        JobFilter { ids: vec![1, 2], user: Some("a&b".to_owned()), ..JobFilter::default() };
    client.jobs(&filter).await.unwrap();
    client.set_state(7, &running()).await.unwrap();

    let requests = server.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.lines().next().unwrap()).collect();
    let expected = [
        "get /oarapi/resources/nodes/vol-1/jobs.json?state=tokill http/1.1",
        "get /oarapi/jobs.json?user=a%26b&ids=1%3a2 http/1.1",
        "post /oarapi/jobs/7/state.json http/1.1",
    ];
    assert_eq!(lines, expected);
    assert!(requests.iter().all(|request| request.contains("authorization: bearer secret\r\n")));
    assert!(requests.iter().all(|request| request.contains("accept: application/json\r\n")));
}

#[tokio::test]
async fn refusals_carry_the_servers_words() {
    let refusal = r#"{"code":409,"title":"Stale","message":"launch 3 is newer\u001b"}"#;
    let server = Server::start(vec![
        answer("409 Conflict", refusal),
        answer("502 Bad Gateway", "<html>"),
        answer("200 OK", "<html>"),
    ]);
    let client = client(&server);
    let error = client.set_state(7, &running()).await.unwrap_err();
    assert_eq!(error.status(), Some(409));
    assert_eq!(error.to_string(), "Stale: launch 3 is newer");
    let error = client.job(7).await.unwrap_err();
    assert_eq!((error.status(), error.is_transient()), (Some(502), true));
    let error = client.job(7).await.unwrap_err();
    assert!(matches!(error, ClientError::BadAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn endless_answers_are_given_up() {
    let mut endless = head("200 OK", "Content-Length: 99999999999");
    endless.resize(40 << 20, b' ');
    let server = Server::start(vec![endless]);
    let error = client(&server).job(7).await.unwrap_err();
    assert!(matches!(error, ClientError::BadAnswer { .. }), "{error:?}");
}

fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[tokio::test]
async fn download_goes_on_after_a_cut() {
    let mut cut = head("200 OK", "Content-Length: 10");
    cut.extend(b"0123");
    let mut rest = head("206 Partial Content", "Content-Length: 6\r\nContent-Range: bytes 4-9/10");
    rest.extend(b"456789");
    let server = Server::start(vec![cut, rest]);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("stagein.tgz");
    let mut last = None;
    let wanted = hash(b"0123456789");
    client(&server).download_stagein(7, Some(&wanted), &to, 10, |p| last = Some(p)).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"0123456789");
    assert_eq!(last.map(|p| (p.done, p.total)), Some((10, 10)));
    assert!(server.requests()[1].contains("range: bytes=4-\r\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn server_that_ignores_the_range_begins_anew() {
    let server = Server::start(vec![answer("200 OK", "0123456789")]);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("stagein.tgz");
    std::fs::write(dir.path().join("stagein.tgz.part"), "0123").unwrap();
    let wanted = hash(b"0123456789");
    client(&server).download_stagein(7, Some(&wanted), &to, 10, |_| {}).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"0123456789");
}

#[tokio::test]
async fn damaged_download_leaves_nothing() {
    let server = Server::start(vec![answer("200 OK", "0123456789")]);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("stagein.tgz");
    let wanted = hash(b"something else");
    let error =
        client(&server).download_stagein(7, Some(&wanted), &to, 10, |_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn endless_download_is_given_up() {
    let mut endless = head("200 OK", "Content-Length: 99999999999");
    endless.resize(4 << 20, b' ');
    let server = Server::start(vec![endless]);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("stagein.tgz");
    let error = client(&server).download_stagein(7, None, &to, 1 << 20, |_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::TooLarge { limit: 1_048_576 }), "{error:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn stage_out_is_sent_whole_with_its_hash() {
    let server = Server::start(vec![answer("201 Created", "")]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.tgz");
    std::fs::write(&path, b"results").unwrap();
    client(&server).upload_stageout(7, 2, &path).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.starts_with("post /oarapi/jobs/7/stageout.tgz?generation=2 "), "{request}");
    assert!(request.contains(&format!("x-content-sha256: {}\r\n", hash(b"results"))), "{request}");
    assert!(request.contains("content-length: 7\r\n"), "{request}");
}

/// Lets each piece wait a little, and counts.
#[derive(Default)]
struct Counting {
    taken: AtomicUsize,
    waits: AtomicUsize,
}

impl Pace for Counting {
    fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    fn wait(&self) -> Duration {
        let is_even = self.waits.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        Duration::from_millis(u64::from(is_even))
    }
}

#[tokio::test]
async fn archives_go_as_fast_as_is_granted() {
    let archive = vec![7; 200_000];
    let mut download = head("200 OK", "Content-Length: 200000");
    download.extend(&archive);
    let server = Server::start(vec![download, answer("201 Created", "")]);
    let pace = Arc::new(Counting::default());
    let client = client(&server).with_pace(pace.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tgz");
    client.download_stagein(7, Some(&hash(&archive)), &path, 1 << 20, |_| {}).await.unwrap();
    assert_eq!(pace.taken.load(Ordering::Relaxed), 200_000);
    let waits = pace.waits.load(Ordering::Relaxed);
    assert!(waits > 2, "{waits}");
    client.upload_stageout(7, 2, &path).await.unwrap();
    assert_eq!(pace.taken.load(Ordering::Relaxed), 400_000);
    // Four pieces of at most 64 KiB, each of which waits until it is told that it need not.
    assert_eq!(pace.waits.load(Ordering::Relaxed), waits + 8);
    assert!(server.requests()[1].contains("content-length: 200000\r\n"));
}

#[tokio::test]
async fn complete_stage_in_is_not_sent_again() {
    let server = Server::start(vec![head("200 OK", "Content-Length: 0")]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.tgz");
    std::fs::write(&path, b"archive").unwrap();
    client(&server).upload_stagein(&path, &hash(b"archive"), |_| {}).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}
