//! Jobs that wait: held, after others, for their turn; and the scheduler's words for it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Agent, Site};

async fn why(site: &Site, id: u64) -> Value {
    site.get(&format!("/jobs/{id}/why.json")).await
}

#[tokio::test]
async fn a_held_job_is_resumed_by_its_user_alone() {
    let (site, _agents) = Site::with_agents(1).await;
    let (status, submitted) = site.try_submit(json!({ "command": "true", "hold": 1 })).await;
    assert_eq!(status, 201, "{submitted}");
    assert_eq!(site.state(1).await, "Hold");
    assert!(why(&site, 1).await["reason"].as_str().unwrap().contains("oarresume"));
    let resume = "/jobs/1/resumptions/new.json";
    assert_eq!(site.send(Method::POST, resume, None, None).await.0, 401);
    let bob = site.add_user("bob").await;
    assert_eq!(site.send(Method::POST, resume, Some(&bob), None).await.0, 400);
    let (status, resumed) = site.send(Method::POST, resume, Some(&site.alice), None).await;
    assert_eq!((status.as_u16(), &resumed["status"]), (202, &json!("Resume request registered")));
    assert_eq!(resumed["cmd_output"], "[1] Resume request was sent to the OAR server.\n");
    assert_eq!(site.state(1).await, "toLaunch");
    let (status, refused) = site.send(Method::POST, resume, Some(&site.alice), None).await;
    assert_eq!((status.as_u16(), &refused["title"]), (400, &json!("Oar error")));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("Cannot resume 1 : the job is not in the Hold or Suspended state."));
    let hold = site.send(Method::POST, "/jobs/1/holds/new.json", Some(&site.alice), None).await;
    assert_eq!(hold.0, 400);
}

#[tokio::test]
async fn each_waiting_job_is_explained() {
    let (site, agents) = Site::with_agents(1).await;
    let first = site.submit(1, &[]).await;
    let body = json!({ "command": "true", "resource": "nodes=1", "anterior": first });
    assert_eq!(site.try_submit(body).await.0, 201);
    let next = site.submit(1, &[]).await;
    let (status, _) = site.send(Method::GET, "/jobs/2/why.json", None, None).await;
    assert_eq!(status, 401);
    assert_eq!(why(&site, 2).await["reason"], format!("it waits for the end of job {first}"));
    assert_eq!(site.job(2).await["dependencies"], json!([first]));
    let planned = why(&site, next).await;
    assert!(planned["scheduled_start"].as_u64() > site.job(next).await["submission_time"].as_u64());
    assert!(planned["reason"].as_str().unwrap().contains("behind 0 waiting jobs"), "{planned}");
    site.acknowledge(&agents[0], first, 1).await;
    assert!(why(&site, first).await["reason"].as_str().unwrap().contains("Running"));
    let done = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
    assert_eq!(site.report(&agents[0], first, done).await.0, 200);
    assert_eq!(site.state(2).await, "toLaunch");
}

#[tokio::test]
async fn resources_are_chosen_by_their_properties() {
    let (site, _agents) = Site::with_agents(3).await;
    let body = json!({ "command": "true", "resource": "core=1", "property": "host = 'vol-3' AND mem >= 1024" });
    assert_eq!(site.try_submit(body).await.0, 201);
    let nodes = site.get("/jobs/1/nodes.json").await;
    assert_eq!(nodes["items"][0]["network_address"], "vol-3");
    let job = site.job(1).await;
    let expected =
        "((host = 'vol-3' AND mem >= 1024) AND desktop_computing = 'YES') AND drain='NO'";
    assert_eq!(job["properties"], expected);
    let both = json!(["nodes=3,walltime=1", "nodes=2,walltime=2"]);
    assert_eq!(site.try_submit(json!({ "command": "true", "resource": both })).await.0, 201);
    let moldable = site.job(2).await;
    assert_eq!((&moldable["state"], &moldable["walltime"]), (&json!("toLaunch"), &json!(7_200)));
}

/// A poll that waits, once it has come in.
async fn waiting_poll(site: &Site, agent: &Agent, state: &str) -> tokio::task::JoinHandle<Value> {
    let path = format!("/resources/nodes/{}/jobs.json?state={state}&wait=25", agent.name);
    site.server.app.roster.take_heard();
    let request = site.request(Method::GET, &path, Some(&agent.credential)).send();
    let poll = tokio::spawn(async move { request.await.unwrap().json().await.unwrap() });
    let node = Site::number(agent);
    while !site.server.app.roster.take_heard().iter().any(|(heard, _)| *heard == node) {
        tokio::task::yield_now().await;
    }
    poll
}

#[tokio::test]
async fn a_poll_that_waits_is_answered_when_there_is_an_order() {
    let (site, agents) = Site::with_agents(2).await;
    let poll = waiting_poll(&site, &agents[0], "toLaunch").await;
    let job = site.submit(1, &[]).await;
    let body = poll.await.unwrap();
    assert_eq!(body["items"][0]["id"], job, "{body}");
    site.acknowledge(&agents[0], job, 1).await;
    let poll = waiting_poll(&site, &agents[0], "toKill").await;
    site.send(Method::DELETE, &format!("/jobs/{job}"), Some(&site.alice), None).await;
    let body = poll.await.unwrap();
    assert_eq!(body["items"][0]["id"], job, "{body}");
    // Nobody waits for another one's orders.
    let path = format!("/resources/nodes/{}/jobs.json?state=toLaunch&wait=25", agents[1].name);
    let body = site.get(&path).await;
    assert_eq!(body["total"], 0);
}

#[tokio::test]
async fn a_quota_holds_each_user_to_what_the_operator_says() {
    let site = Site::start_with(&["--quota", "*,*,*,/ = -1,1,-1"]).await;
    for seed in 0..3 {
        let token = site.add_token(std::time::Duration::from_secs(3600)).await;
        site.enrol(&token, seed).await;
    }
    let bob = site.add_user("bob").await;
    let (first, second) = (site.submit(1, &[]).await, site.submit(1, &[]).await);
    let body = json!({ "command": "true", "resource": "nodes=1" });
    let (_, bobs) = site.send(Method::POST, "/jobs.json", Some(&bob), Some(body)).await;
    assert_eq!(site.state(first).await, "toLaunch");
    assert_eq!(site.state(bobs["id"].as_u64().unwrap()).await, "toLaunch", "it is each user's own");
    assert_eq!(site.state(second).await, "Waiting");
    let said = why(&site, second).await;
    assert!(said["reason"].as_str().unwrap().contains("*,*,*,/ = -1,1,-1"), "{said}");
    site.send(Method::DELETE, &format!("/jobs/{first}"), Some(&site.alice), None).await;
    assert_eq!(site.state(second).await, "toLaunch");
}
