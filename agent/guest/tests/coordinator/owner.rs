//! The owner's questions to a running agent.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::*;

pub(crate) async fn run(state: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command.args(args).arg("--state").arg(state).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the agent says to a line; nothing when it hangs up.
fn say(state: &Path, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(state.join("agent.sock")).unwrap();
    // A question that is too long is not read to its end.
    let _ = stream.write_all(line);
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    answer
}

#[tokio::test]
async fn the_owner_asks_a_running_agent_and_is_told_when_there_is_none() {
    let fake = Fake::start().await;
    let state = state();
    let none = run(state.path(), &["explain", "vol-2"]).await;
    assert!(!none.status.success() && text(&none.stderr).contains("no agent runs on"));
    let stranger = run(state.path(), &["netcheck"]).await;
    assert!(text(&stranger.stderr).contains("not a node yet"), "{}", text(&stranger.stderr));

    let agent = agent(state.path(), &fake);
    let socket = state.path().join("agent.sock");
    until("it listens", || socket.exists()).await;
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let status = run(state.path(), &["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["running"], &status["hostname"]), (&true.into(), &"vol-1".into()));
    // The coordinator of these tests has no rendezvous.
    assert_eq!(status["network"]["connected"], false);
    assert!(text(&run(state.path(), &["status"]).await.stdout).contains("NOT connected"));

    let metrics = run(state.path(), &["metrics"]).await;
    assert!(text(&metrics.stdout).contains("clouds_agent_connected 0"), "{metrics:?}");

    for command in [&["ping", "vol-2"][..], &["explain", "vol-2"]] {
        let refused = run(state.path(), command).await;
        let error = text(&refused.stderr);
        assert!(
            error.contains("no job with a network runs") && error.contains("\"vol-2\""),
            "{error}"
        );
        assert_eq!(refused.status.code(), Some(1));
    }

    terminate(&agent);
    until("the socket is gone", || !socket.exists()).await;
}

#[tokio::test]
async fn a_scraper_on_the_same_machine_reads_the_counters() {
    let fake = Fake::start().await;
    let state = state();
    let _agent = agent_with(state.path(), &fake, &["--metrics", "127.0.0.1:0"]);
    // It says where it listens: `... metrics at=127.0.0.1:40123`.
    let told = || -> Option<std::net::SocketAddr> {
        let log = fs::read_to_string(state.path().join("log")).ok()?;
        let plain: String =
            log.replace("\u{1b}[3m", "").replace("\u{1b}[0m", "").replace("\u{1b}[2m", "");
        let (_, rest) = plain.split_once("metrics at=")?;
        rest.split_whitespace().next()?.parse().ok()
    };
    until("it listens", || told().is_some()).await;
    let port = told().unwrap();
    let get = move |path: &str| {
        let mut stream = std::net::TcpStream::connect(port).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    let (found, missing) =
        tokio::task::spawn_blocking(move || (get("/metrics"), get("/"))).await.unwrap();
    assert!(found.starts_with("HTTP/1.1 200") && found.contains("version=0.0.4"), "{found}");
    assert!(found.contains("\nclouds_agent_pairs{path=\"direct\"} 0\n"), "{found}");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");

    let refused = run(state.path(), &["run", "--metrics", "0.0.0.0:9464"]).await;
    assert!(text(&refused.stderr).contains("others could read there"), "{refused:?}");
}

#[tokio::test]
async fn questions_that_are_none_are_answered_with_a_sentence_or_the_end() {
    let fake = Fake::start().await;
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("it listens", || state.path().join("agent.sock").exists()).await;
    let directory = state.path().to_owned();
    let answers = tokio::task::spawn_blocking(move || {
        let long = vec![b' '; 1 << 20];
        [&b"\n"[..], b"{}\n", b"{\"version\":9}\n", &long].map(|line| say(&directory, line))
    });
    let [empty, shapeless, newer, long] = answers.await.unwrap();
    for answer in [empty, shapeless] {
        assert!(answer.contains("not understood"), "{answer}");
    }
    assert!(newer.contains("speaks version 1"), "{newer}");
    assert!(long.is_empty() || long.contains("too long"), "{long}");
    // And it goes on.
    assert!(run(state.path(), &["status"]).await.status.success());
}
