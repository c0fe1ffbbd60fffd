//! Exchanges recorded with a real OAR 2.5.9 server, replayed against the coordinator.
//!
//! One exchange is one line of a `.jsonl` file: the request, the status, the content type, `Location`, and the
//! body as a value. YAML has no types in OAR, so its leaves are text there; of an HTML page the text is kept,
//! of an error page title and message. `null` is a body that is not OAR's own (Apache's) or none. Values are
//! compared, and only the types of those that change with time. Before an exchange the coordinator is brought
//! to the state that OAR was in: see `stage`. What differs stands in `differences.txt`, one difference a
//! line, with its reason; the test fails on any other difference, and on one that is no more.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod compare;
mod differences;
mod replay;
#[path = "../api/site.rs"]
#[allow(dead_code, reason = "shared with the tests of the API")]
mod site;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::differences::table;
use crate::stage::Stage;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    n: u32,
    title: String,
    method: String,
    path: String,
    user: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    status: u16,
    r#type: String,
    location: Option<String>,
    answer: Value,
}

const BLOCKS: [(&str, &str); 20] = [
    ("information", include_str!("information.jsonl")),
    ("authentication", include_str!("authentication.jsonl")),
    ("negotiation", include_str!("negotiation.jsonl")),
    ("resources", include_str!("resources.jsonl")),
    ("rules", include_str!("rules.jsonl")),
    ("configuration", include_str!("configuration.jsonl")),
    ("queries", include_str!("queries.jsonl")),
    ("submission", include_str!("submission.jsonl")),
    ("lists", include_str!("lists.jsonl")),
    ("job", include_str!("job.jsonl")),
    ("arrays", include_str!("arrays.jsonl")),
    ("files", include_str!("files.jsonl")),
    ("shell", include_str!("shell.jsonl")),
    ("injection", include_str!("injection.jsonl")),
    ("life", include_str!("life.jsonl")),
    ("accounting", include_str!("accounting.jsonl")),
    ("desktop", include_str!("desktop.jsonl")),
    ("sign_in", include_str!("sign_in.jsonl")),
    ("outage", include_str!("outage.jsonl")),
    // The wire trace of the agent of OAR 2.5.2, which did not know that its bytes were kept.
    ("agent", include_str!("agent.jsonl")),
];

/// Blocks that agents of old take part in: the coordinator serves them.
const WITH_OLD_AGENTS: [&str; 3] = ["desktop", "sign_in", "agent"];

fn exchanges(block: &str) -> Vec<Exchange> {
    let (_, text) = BLOCKS.iter().find(|(name, _)| *name == block).unwrap();
    let lines = text.lines().map(stage::with_our_names);
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

/// The blocks one after the other, on one coordinator.
async fn replay_all(blocks: &[&str]) {
    let with_old_agents = blocks.iter().any(|block| WITH_OLD_AGENTS.contains(block));
    let mut stage = Stage::start(with_old_agents).await;
    let table = table();
    let mut wrong = Vec::new();
    for exchange in blocks.iter().flat_map(|block| exchanges(block)) {
        let n = exchange.n;
        stage.before(n).await;
        let answer = replay::replay(&stage.site, &exchange).await;
        let found = compare::compare(&exchange, &answer);
        let listed: BTreeSet<String> = table
            .iter()
            .filter(|row| row.exchanges.contains(&n))
            .map(|row| row.found.clone())
            .collect();
        let (new, gone) = (found.difference(&listed), listed.difference(&found));
        let new = new.map(|found| format!("new | {n} | {found}"));
        let gone = gone.map(|listed| format!("gone | {n} | {listed}"));
        let lines: Vec<String> = new.chain(gone).collect();
        if !lines.is_empty() {
            let Exchange { title, method, path, .. } = &exchange;
            wrong.push(format!(
                "{}\n  {n} {title}: {method} {path}\n  {answer:?}",
                lines.join("\n")
            ));
        }
        stage.after(&exchange, &answer).await;
    }
    assert!(wrong.is_empty(), "not as listed:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn information() {
    replay_all(&["information"]).await;
}

#[tokio::test]
async fn authentication() {
    replay_all(&["authentication"]).await;
}

#[tokio::test]
async fn negotiation() {
    replay_all(&["negotiation"]).await;
}

#[tokio::test]
async fn resources() {
    replay_all(&["resources"]).await;
}

#[tokio::test]
async fn administration() {
    replay_all(&["rules", "configuration", "queries"]).await;
}

#[tokio::test]
async fn jobs() {
    replay_all(&["submission", "lists", "job", "accounting"]).await;
}

#[tokio::test]
async fn life() {
    replay_all(&["life"]).await;
}

#[tokio::test]
async fn desktop() {
    replay_all(&["desktop"]).await;
}

#[tokio::test]
async fn sign_in() {
    replay_all(&["sign_in"]).await;
}

#[tokio::test]
async fn outage() {
    replay_all(&["outage"]).await;
}

#[tokio::test]
async fn the_agent_of_old() {
    replay_all(&["agent"]).await;
}

#[tokio::test]
async fn arrays() {
    replay_all(&["arrays"]).await;
}

#[tokio::test]
async fn shell() {
    replay_all(&["shell"]).await;
}

#[tokio::test]
async fn files() {
    replay_all(&["files"]).await;
}

#[tokio::test]
async fn injection() {
    replay_all(&["injection"]).await;
}

#[test]
fn every_recorded_exchange_is_replayed() {
    let all = BLOCKS.iter().flat_map(|(block, _)| exchanges(block));
    let numbers: BTreeSet<u32> = all.map(|exchange| exchange.n).collect();
    assert_eq!(numbers, (1..=415).chain(1001..=1012).collect());
}

#[test]
fn every_difference_is_of_a_recorded_exchange_and_has_a_reason() {
    let recorded: BTreeSet<u32> =
        BLOCKS.iter().flat_map(|(block, _)| exchanges(block)).map(|exchange| exchange.n).collect();
    for row in table() {
        assert!(!row.exchanges.is_empty() && row.exchanges.is_subset(&recorded), "{row:?}");
        assert!(row.reason.len() > 20, "{row:?}");
    }
}
