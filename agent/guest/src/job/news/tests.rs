use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use overlay_core::ids::WireGuardKey;
use serde_json::{Value, json};

use super::*;

const MESH: MeshId = MeshId { job: 15, generation: 2 };

fn netmap(epoch: u64, ranks: &[u16]) -> Netmap {
    let member = |index: &u16| overlay_core::Member {
        index: *index,
        node: node(*index),
        name: format!("vol-{}", index + 1),
        wireguard_key: WireGuardKey([1; 32]),
        host_key: None,
    };
    let members = ranks.iter().map(member).collect();
    Netmap { version: 1, mesh: MESH, era: 0, epoch, members, pattern: None, signature: None }
}

fn node(rank: u16) -> NodeId {
    NodeId([rank.to_be_bytes()[1]; 32])
}

fn pair(peer: u16, path: PathReport, rtt_us: u64, explain: &str) -> PairReport {
    PairReport {
        peer: node(peer),
        established: true,
        settled: true,
        path,
        rtt_us: Some(rtt_us),
        sent_bytes: 0,
        received_bytes: 0,
        established_after_ms: Some(1),
        explain: explain.to_owned(),
        activity: Default::default(),
    }
}

fn relayed() -> PathReport {
    PathReport::Relayed { relay: "192.0.2.1:6444".parse().unwrap() }
}

fn direct() -> PathReport {
    PathReport::Direct { endpoint: "192.0.2.2:4000".parse().unwrap() }
}

fn values(lines: &[String]) -> Vec<Value> {
    assert!(lines.iter().all(|line| line.ends_with('\n') && line.lines().count() == 1));
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn members_come_once_and_go_once() {
    let mut roster = Roster::new(0);
    let lines = roster.on_netmap(&netmap(1, &[0, 1, 2]));
    assert_eq!(
        values(&lines),
        [
            json!({"event": "joined", "rank": 1, "name": "vol-2"}),
            json!({"event": "joined", "rank": 2, "name": "vol-3"}),
        ]
    );
    assert_eq!(roster.on_netmap(&netmap(2, &[0, 1, 2])), [""; 0]);
    let left = json!({"event": "left", "rank": 2, "name": "vol-3"});
    assert_eq!(values(&roster.on_member(node(2), true)), std::slice::from_ref(&left));
    assert_eq!(roster.on_member(node(2), true), [""; 0]);
    assert_eq!(roster.on_netmap(&netmap(3, &[0, 1])), [""; 0], "it has left already");
    let back = values(&roster.on_member(node(2), false));
    assert_eq!(back, [json!({"event": "joined", "rank": 2, "name": "vol-3"})]);
    assert_eq!(values(&roster.on_netmap(&netmap(4, &[0, 1]))), [left]);
    assert_eq!(roster.on_member(node(0), true), [""; 0], "a job knows its own end");
    assert_eq!(roster.on_member(node(9), true), [""; 0]);
}

#[test]
fn a_pause_is_told_and_its_end() {
    let mut roster = Roster::new(0);
    roster.on_netmap(&netmap(1, &[0, 1]));
    roster.on_pairs(&[pair(1, direct(), 1000, "")]);
    let paused = PairReport { activity: Activity::Paused, ..pair(1, direct(), 1000, "") };
    let lines = roster.on_pairs(std::slice::from_ref(&paused));
    assert_eq!(values(&lines), [json!({"event": "paused", "rank": 1, "name": "vol-2"})]);
    assert_eq!(roster.on_pairs(std::slice::from_ref(&paused)), [""; 0]);
    assert!(roster.csv().contains(",paused,direct,"), "{}", roster.csv());
    assert_eq!(roster.on_netmap(&netmap(2, &[0, 1])), [""; 0], "it is still there");
    let lines = roster.on_pairs(&[pair(1, direct(), 1000, "")]);
    assert_eq!(values(&lines), [json!({"event": "resumed", "rank": 1, "name": "vol-2"})]);
    // Who has left is not paused.
    roster.on_member(node(1), true);
    assert_eq!(roster.on_pairs(&[paused]), [""; 0]);
}

#[test]
fn a_path_is_news_when_it_is_another_and_the_file_has_the_latest_figures() {
    let mut roster = Roster::new(1);
    roster.on_netmap(&netmap(1, &[0, 1]));
    let lines = roster.on_pairs(&[pair(0, relayed(), 40_000, "the search goes on")]);
    let first = json!({
        "event": "path", "rank": 0, "name": "vol-1", "path": "relayed", "rtt_ms": 40.0,
        "why": "the search goes on"
    });
    assert_eq!(values(&lines), [first]);
    assert_eq!(roster.on_pairs(&[pair(0, relayed(), 41_000, "other words")]), [""; 0]);
    assert_eq!(roster.on_pairs(&[pair(7, direct(), 1, "")]), [""; 0], "of no member");
    let lines = roster.on_pairs(&[pair(0, direct(), 12_345, "")]);
    assert_eq!(values(&lines)[0]["path"], "direct");

    let (zero, one) = (MESH.ipv6(0), MESH.ipv6(1));
    let want = format!(
        "rank,name,ipv4,ipv6,state,path,rtt_ms\n\
         0,vol-1,10.128.0.1,{zero},present,direct,12.345\n\
         1,vol-2,10.128.0.2,{one},self,none,\n"
    );
    assert_eq!(roster.csv(), want);
    let snapshot: Value = serde_json::from_str(&roster.snapshot()).unwrap();
    assert_eq!(snapshot["event"], "members");
    assert_eq!(snapshot["members"][1]["state"], "self");
    assert_eq!(snapshot["members"][0]["rtt_ms"], 12.345);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_gets_what_is_and_then_what_happens_until_the_end() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than a socket's path may be.
    let deep = folder.path().join("x".repeat(120));
    fs::create_dir(&deep).unwrap();
    let mut news = News::begin(deep.clone(), MESH, 0).unwrap();
    news.on_netmap(&netmap(1, &[0, 1]));
    let members = fs::read_to_string(deep.join("15_members")).unwrap();
    assert_eq!(members.lines().count(), 3);

    let short = folder.path().join("to");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    let connect = || UnixStream::connect(short.join("15_events")).unwrap();
    let (stream, late) = (connect(), connect());
    for stream in [&stream, &late] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    let read = |reader: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let mut reader = BufReader::new(stream);
    let first = tokio::task::block_in_place(|| read(&mut reader));
    assert_eq!(first["members"].as_array().unwrap().len(), 2);
    news.on_member(node(1), true);
    let left = tokio::task::block_in_place(|| read(&mut reader));
    assert_eq!(left, json!({"event": "left", "rank": 1, "name": "vol-2"}));
    assert!(fs::read_to_string(deep.join("15_members")).unwrap().contains(",left,"));

    drop(news);
    let mut rest = Vec::new();
    let ended = tokio::task::block_in_place(|| reader.read_to_end(&mut rest)).unwrap();
    assert_eq!(ended, 0, "nothing more comes");
    // The next agent takes the place of a former one.
    News::begin(deep, MESH, 0).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn readers_that_have_gone_take_nobodys_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut news = News::begin(folder.path().to_owned(), MESH, 0).unwrap();
    news.on_netmap(&netmap(1, &[0, 1]));
    let first_line = || {
        let stream = UnixStream::connect(folder.path().join("15_events")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut line = String::new();
        let _end = BufReader::new(&stream).read_line(&mut line);
        (line.contains("members"), stream)
    };
    // Who has shut its own side reads on, and is no less gone when it goes.
    let (_, half) = tokio::task::block_in_place(first_line);
    half.shutdown(std::net::Shutdown::Write).unwrap();
    for visit in 0..3 * 256 {
        // One that comes at once after the last of many may find the places not yet given back.
        let told = (0..200).any(|_| {
            let (told, _) = tokio::task::block_in_place(first_line);
            if !told {
                std::thread::sleep(Duration::from_millis(10));
            }
            told
        });
        assert!(told, "visit {visit}");
    }
    news.on_member(node(1), true);
    let mut line = String::new();
    tokio::task::block_in_place(|| BufReader::new(half).read_line(&mut line)).unwrap();
    assert!(line.contains("left"), "{line}");
}
