//! Join tokens: one-time, bound to the key that used them.

use std::time::Duration;

use coordinator::store::TokenState;
use coordinator_core::NodeNumber;
use reqwest::Method;
use serde_json::json;

use crate::site::{Site, enrolment};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_token_makes_one_node_and_the_same_key_may_ask_again() {
    let site = Site::start().await;
    let token = site.add_token(HOUR).await;
    let first = site.enrol(&token, 7).await;
    let again = site.enrol(&token, 7).await;
    assert_eq!((&*first.name, &*again.name), ("vol-1", "vol-1"));
    assert_ne!(first.credential, again.credential);
    // The first credential is worth nothing any more.
    let (status, _) = site.send(Method::GET, "/whoami", Some(&first.credential), None).await;
    assert_eq!(status, 401);
    let (_, who) = site.send(Method::GET, "/whoami", Some(&again.credential), None).await;
    assert_eq!(who["authenticated_user"], "vol-1");

    let (status, body) = site.try_enrol(&token, 8).await;
    assert_eq!((status.as_u16(), &body["message"]), (403, &json!("join token already used")));
    assert_eq!(site.server.app.ledger.cluster().nodes().len(), 1);
    let tokens = site.server.app.store.tokens(site.clock.now()).await.unwrap();
    let used = TokenState::Used(Some(NodeNumber(1)));
    assert!(tokens.iter().any(|token| token.state == used));
}

#[tokio::test]
async fn unknown_expired_and_revoked_tokens_are_refused() {
    let site = Site::start().await;
    let (status, body) = site.try_enrol("no-such-token", 1).await;
    assert_eq!((status.as_u16(), &body["message"]), (403, &json!("join token unknown")));

    let short = site.add_token(HOUR).await;
    site.clock.advance(HOUR);
    let (status, body) = site.try_enrol(&short, 1).await;
    assert_eq!((status.as_u16(), &body["message"]), (403, &json!("join token expired")));

    let revoked = site.add_token(HOUR).await;
    assert!(site.server.app.store.revoke_token(&revoked, site.clock.now()).await.unwrap());
    let (status, body) = site.try_enrol(&revoked, 1).await;
    assert_eq!((status.as_u16(), &body["message"]), (403, &json!("join token unknown")));
    assert_eq!(site.server.app.ledger.cluster().nodes().len(), 0);
}

#[tokio::test]
async fn a_used_token_answers_its_key_even_after_it_has_expired() {
    let site = Site::start().await;
    let token = site.add_token(HOUR).await;
    site.enrol(&token, 1).await;
    site.clock.advance(HOUR * 2);
    assert_eq!(site.enrol(&token, 1).await.name, "vol-1");
}

#[tokio::test]
async fn a_known_key_with_a_new_token_is_the_same_node() {
    let site = Site::start().await;
    let (first, second) = (site.add_token(HOUR).await, site.add_token(HOUR).await);
    site.enrol(&first, 1).await;
    assert_eq!(site.enrol(&second, 1).await.name, "vol-1");
}

#[tokio::test]
async fn who_does_not_own_the_key_does_not_join() {
    let site = Site::start().await;
    let token = site.add_token(HOUR).await;
    let mut forged = enrolment(&token, 1);
    forged["node"] = enrolment(&token, 2)["node"].clone();
    for (field, value, refusal) in [
        ("node", forged["node"].clone(), 403),
        ("signature", json!("00"), 400),
        ("node", json!("zz"), 400),
        ("cores", json!(0), 400),
        ("cores", json!(70_000), 400),
    ] {
        let mut asked = enrolment(&token, 1);
        asked[field] = value;
        let (status, body) = site.send(Method::POST, "/agents", None, Some(asked)).await;
        assert_eq!(status, refusal, "{body}");
    }
    assert_eq!(site.enrol(&token, 1).await.name, "vol-1", "the token is not used up");
}

#[tokio::test]
async fn many_agents_at_once_get_names_of_their_own() {
    let site = Site::start().await;
    let mut asking = Vec::new();
    for seed in 0..20 {
        let token = site.add_token(HOUR).await;
        asking.push((token, seed));
    }
    let asking = asking.iter().map(|(token, seed)| site.enrol(token, *seed));
    let agents = futures_util::future::join_all(asking).await;
    let mut names: Vec<_> = agents.into_iter().map(|agent| agent.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn nobody_signs_in_without_a_token_by_default() {
    let site = Site::start().await;
    let (status, body) = site.send(Method::GET, "/desktop/agents.json", None, None).await;
    assert_eq!(status, 403, "{body}");
    assert!(body["message"].as_str().unwrap().contains("--compat ruby-agent"), "{body}");
    assert_eq!(site.server.app.ledger.cluster().nodes().len(), 0);
}
