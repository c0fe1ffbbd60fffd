//! Who asks too often.

use reqwest::{Method, StatusCode};

use crate::site::Site;

impl Site {
    /// Asks until it is too often; answers what `Retry-After` says.
    async fn ask_too_often(&self, token: Option<&str>) -> u64 {
        for _ in 0..200 {
            let answer = self.request(Method::GET, "/whoami.json", token).send().await.unwrap();
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                let body: serde_json::Value = answer.json().await.unwrap();
                assert_eq!(body["code"], 429);
                return wait;
            }
        }
        panic!("200 requests were not too many");
    }
}

#[tokio::test]
async fn one_users_haste_is_not_the_others() {
    let site = Site::start_with(&["--user-rate", "1"]).await;
    let bob = site.add_user("bob").await;
    let token = site.add_token(std::time::Duration::from_secs(3600)).await;
    let agent = site.enrol(&token, 1).await;
    assert!((1..=2).contains(&site.ask_too_often(Some(&site.alice)).await));
    let answer = site.send(Method::GET, "/whoami.json", Some(&bob), None).await;
    assert_eq!(answer.0, 200);
    // Nor the agents'.
    assert_eq!(site.orders(&agent, "toLaunch").await, []);
}

#[tokio::test]
async fn wrong_tokens_and_nobody_count_by_their_address() {
    for token in [Some("wrong"), None] {
        let site = Site::start_with(&["--user-rate", "1"]).await;
        site.ask_too_often(token).await;
        let (status, _) = site.send(Method::GET, "/jobs.json", None, None).await;
        assert_eq!(status, 429, "the lists that all may see, too");
        let known = site.send(Method::GET, "/jobs.json", Some(&site.alice), None).await;
        assert_eq!(known.0, 200, "users from there are let in");
    }
}
