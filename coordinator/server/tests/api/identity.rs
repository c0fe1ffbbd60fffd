//! What proves who asks, and what they may do then.

use coordinator::password::hash_password;
use coordinator::role::Role;
use data_encoding::BASE64;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::site::Site;

impl Site {
    async fn whoami(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let prefix = self.server.url.strip_suffix("/oarapi").unwrap();
        let mut request = self.http.request(Method::GET, format!("{prefix}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        if status == 401 {
            assert!(answer.headers().contains_key("www-authenticate"), "{path}");
        }
        (status, answer.json().await.unwrap())
    }

    async fn name_at(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let (status, body) = self.whoami(path, headers).await;
        assert_eq!(status, 200, "{path} {headers:?}: {body}");
        body["authenticated_user"].as_str().unwrap().to_owned()
    }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}").as_bytes()))
}

#[tokio::test]
async fn a_password_is_asked_for_at_the_private_prefix_and_taken_at_the_usual_one() {
    let site = Site::start().await;
    let hash = hash_password("alice's own words").unwrap();
    assert!(site.server.app.store.set_password("alice", Some(&hash)).await.unwrap());
    let (right, wrong) = (basic("alice", "alice's own words"), basic("alice", "bad"));
    let (stranger, token) = (basic("nobody", "bad"), format!("Bearer {}", site.alice));
    for path in ["/oarapi-priv/whoami.json", "/oarapi/whoami.json"] {
        for proof in [&right, &right, &token] {
            assert_eq!(site.name_at(path, &[("authorization", proof)]).await, "alice");
        }
        for proof in [&wrong, &stranger, "Basic !", "Basic YWxpY2U=", "Digest x"] {
            let (status, body) = site.whoami(path, &[("authorization", proof)]).await;
            assert_eq!(status, 401, "{path} {proof}: {body}");
        }
    }
    let (status, _) = site.whoami("/oarapi-priv/version.json", &[]).await;
    assert_eq!(status, 401, "nobody comes in at the private prefix");
    assert_eq!(site.name_at("/oarapi/whoami.json", &[]).await, "");
    let public = [("authorization", &*token)];
    assert_eq!(site.name_at("/oarapi-public/whoami.json", &public).await, "");
}

#[tokio::test]
async fn a_password_that_was_changed_is_worth_nothing_at_once() {
    let site = Site::start().await;
    let store = &site.server.app.store;
    let old = basic("alice", "the first password");
    for (password, status) in [("the first password", 200), ("the second password", 401)] {
        let hash = hash_password(password).unwrap();
        store.set_password("alice", Some(&hash)).await.unwrap();
        let (got, _) = site.whoami("/oarapi/whoami.json", &[("authorization", &old)]).await;
        assert_eq!(got, status);
    }
    let new = basic("alice", "the second password");
    assert_eq!(site.name_at("/oarapi/whoami.json", &[("authorization", &new)]).await, "alice");
    store.set_password("alice", None).await.unwrap();
    let (status, _) = site.whoami("/oarapi/whoami.json", &[("authorization", &new)]).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn only_a_trusted_proxy_speaks_for_users() {
    let heads = [[("X-REMOTE-IDENT", "alice")], [("X_REMOTE_IDENT", "alice")]];
    let site = Site::start().await;
    for head in &heads {
        assert_eq!(site.name_at("/oarapi/whoami.json", head).await, "", "anybody can write that");
    }
    for (proxy, name) in [("127.0.0.1", "alice"), ("192.0.2.0/24", "")] {
        let site = Site::start_with(&["--trusted-proxy", proxy]).await;
        for head in &heads {
            assert_eq!(site.name_at("/oarapi/whoami.json", head).await, name, "{proxy}");
            assert_eq!(site.name_at("/oarapi-public/whoami.json", head).await, "");
        }
    }
    let site = Site::start_with(&["--trusted-proxy", "127.0.0.0/8"]).await;
    let (status, _) = site.whoami("/oarapi/whoami.json", &[("X-REMOTE-IDENT", "stranger")]).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn an_operator_orders_about_all_jobs_and_the_log_says_so() {
    let (site, _agents) = Site::with_agents(1).await;
    let bob = site.add_user("bob").await;
    let operator = site.add_user_as("olga", Role::Operator).await;
    let busy = site.submit(1, &[]).await;
    let job = site.submit(1, &[]).await;
    let hold = format!("/jobs/{job}/holds/new.json");
    let (status, _) = site.send(Method::POST, &hold, Some(&bob), None).await;
    assert_eq!(status, 400, "not bob's");
    let (status, body) = site.send(Method::POST, &hold, Some(&operator), None).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(site.state(job).await, "Hold");
    let delete = format!("/jobs/{busy}.json");
    let (status, body) = site.send(Method::DELETE, &delete, Some(&operator), None).await;
    assert_eq!(status, 202, "{body}");

    let audits = site.server.app.store.audits(10).await.unwrap();
    let said: Vec<_> = audits.iter().map(|it| (&*it.actor, &*it.action, &*it.subject)).collect();
    let (held, deleted) = (format!("job {job} of alice"), format!("job {busy} of alice"));
    assert_eq!(said, [("olga", "job held", &*held), ("olga", "job deleted", &*deleted)]);
}

#[tokio::test]
async fn the_administrator_submits_nothing() {
    let (site, _agents) = Site::with_agents(1).await;
    let oar = site.add_user_as("oar", Role::Admin).await;
    let body = json!({ "command": "true" });
    let (status, body) = site.send(Method::POST, "/jobs.json", Some(&oar), Some(body)).await;
    assert_eq!(status, 403, "{body}");
}

#[tokio::test]
async fn a_user_who_was_revoked_is_nobody_until_there_is_a_new_token() {
    let site = Site::start().await;
    let store = &site.server.app.store;
    let token = format!("Bearer {}", site.alice);
    let proof = [("authorization", &*token)];
    assert!(store.revoke_user("alice", site.clock.now()).await.unwrap());
    assert_eq!(site.whoami("/oarapi/whoami.json", &proof).await.0, 401);
    let (fresh, hash) = coordinator::secret::make_secret().unwrap();
    assert!(store.set_user_token("alice", hash).await.unwrap());
    assert_eq!(site.whoami("/oarapi/whoami.json", &proof).await.0, 401);
    let fresh = format!("Bearer {fresh}");
    assert_eq!(site.name_at("/oarapi/whoami.json", &[("authorization", &fresh)]).await, "alice");
}

#[tokio::test]
async fn a_node_that_was_revoked_is_turned_out_and_comes_back_with_a_new_token_only() {
    use coordinator_api::resource::ResourceState::{Alive, Dead};

    let site = Site::start().await;
    let token = site.add_token(std::time::Duration::from_secs(3600)).await;
    let agent = site.enrol(&token, 7).await;
    let number = Site::number(&agent);
    let job = site.submit(1, &["idempotent"]).await;
    assert_eq!(site.orders(&agent, "toLaunch").await, [(job, 1)]);
    let store = &site.server.app.store;
    assert!(store.revoke_node(number, site.clock.now()).await.unwrap());
    let state = |wanted| {
        move |cluster: &std::sync::Arc<coordinator_core::Cluster>| {
            cluster.node(number).is_some_and(|node| node.state == wanted)
        }
    };
    site.until("the node is turned out", state(Dead)).await;
    assert_eq!(site.state(job).await, "Waiting", "its job goes elsewhere");
    let path = format!("/resources/nodes/{}/jobs.json", agent.name);
    let (status, _) = site.send(Method::GET, &path, Some(&agent.credential), None).await;
    assert_eq!(status, 401);
    let (status, body) = site.try_enrol(&token, 7).await;
    assert_eq!(status, 403, "its old token does not bring it back: {body}");

    let token = site.add_token(std::time::Duration::from_secs(3600)).await;
    let back = site.enrol(&token, 7).await;
    assert_eq!(back.name, agent.name);
    site.until("the node is back", state(Alive)).await;
}
