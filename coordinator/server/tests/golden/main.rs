//! Exchanges recorded with a real OAR 2.5.9 server, replayed against the coordinator.
//!
//! One exchange is one line of a `.jsonl` file: the request (`user` is who asked, by their token), the status,
//! the content type, and the body as a value. YAML has no types in OAR, so its leaves are text there; of an
//! HTML page the text is kept, of an error page title and message. `null` is a body that is not OAR's own (Apache's) or none. Values are compared, and only the types
//! of those that change with time. What differs stands in [`differences`], with a reason; the test fails on any
//! other difference, and on one that is no more.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod compare;
mod differences;
mod replay;
#[path = "../api/site.rs"]
#[allow(dead_code, reason = "shared with the tests of the API")]
mod site;

use coordinator::password::hash_password;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::differences::DIFFERENCES;
use crate::site::Site;

#[derive(Deserialize)]
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
    answer: Value,
}

async fn replay_all(recorded: &str) {
    // Users are named by a proxy's word, tokens and a password: this is the proxy, and alice has one.
    let site = Site::start_with(&["--trusted-proxy", "127.0.0.1"]).await;
    let password = hash_password("alicepw").unwrap();
    site.server.app.store.set_password("alice", Some(&password)).await.unwrap();
    let mut wrong = Vec::new();
    for line in recorded.lines() {
        let exchange: Exchange = serde_json::from_str(line).unwrap();
        let answer = replay::replay(&site, &exchange).await;
        let found = compare::compare(&exchange, &answer);
        let listed = DIFFERENCES.iter().find(|difference| difference.exchange == exchange.n);
        if found != listed.map_or(&[][..], |difference| difference.found) {
            let Exchange { n, title, method, path, .. } = &exchange;
            wrong.push(format!("{n:03} {title}: {method} {path}\n  {found:?}\n  {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "not as listed:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn information() {
    replay_all(include_str!("information.jsonl")).await;
}

#[tokio::test]
async fn authentication() {
    replay_all(include_str!("authentication.jsonl")).await;
}

#[tokio::test]
async fn negotiation() {
    replay_all(include_str!("negotiation.jsonl")).await;
}

#[test]
fn every_difference_is_of_a_recorded_exchange_and_has_a_reason() {
    let recorded = [
        include_str!("information.jsonl"),
        include_str!("authentication.jsonl"),
        include_str!("negotiation.jsonl"),
    ];
    let lines = recorded.iter().flat_map(|text| text.lines());
    let numbers: Vec<u32> =
        lines.map(|line| serde_json::from_str::<Exchange>(line).unwrap().n).collect();
    assert_eq!(numbers, (1..=52).collect::<Vec<_>>());
    for difference in DIFFERENCES {
        assert!(numbers.contains(&difference.exchange) && !difference.found.is_empty());
        let (kind, reason) = (difference.kind, difference.reason);
        assert!(reason.len() > 20, "{}: {kind:?}: {reason}", difference.exchange);
    }
}
