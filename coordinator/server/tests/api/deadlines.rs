//! What happens when nodes are silent. The test moves the clock.

use std::time::Duration;

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;
use coordinator_core::JobId;
use serde_json::json;

use crate::site::Site;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_launch_that_a_silent_node_holds_up_fails_and_the_job_waits_again() {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(2, &["spmd"]).await;
    site.acknowledge(&agents[0], job, 1).await;
    site.clock.advance(MINUTE / 2);
    site.orders(&agents[0], "toKill").await;
    site.clock.advance(MINUTE / 2);
    site.orders(&agents[0], "toKill").await;
    let id = JobId(job);
    site.until("the launch has failed", |cluster| {
        cluster.job(id).is_some_and(|job| job.state == JobState::Waiting)
    })
    .await;
    let shown = site.job(job).await;
    let event = &shown["events"][0];
    assert!(event["description"].as_str().unwrap().contains("vol-2"), "{event}");
    assert_eq!(site.orders(&agents[0], "toKill").await, [(job, 1)]);
    site.answer_kill(&agents[0], job, 1).await;

    // The silent node is heard again: the job starts anew, with a new generation.
    site.orders(&agents[1], "toLaunch").await;
    for agent in &agents {
        assert_eq!(site.orders(agent, "toLaunch").await, [(job, 2)]);
        let stale = json!({ "state": "running", "generation": 1 });
        assert_eq!(site.report(agent, job, stale).await.0, 409);
        site.acknowledge(agent, job, 2).await;
    }
    assert_eq!(site.state(job).await, "Running");
}

#[tokio::test]
async fn a_mesh_that_nobody_joins_fails_the_launch_and_says_who() {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(2, &["mesh"]).await;
    for agent in &agents {
        site.acknowledge(agent, job, 1).await;
    }
    for _ in 0..2 {
        site.clock.advance(MINUTE / 2);
        for agent in &agents {
            site.orders(agent, "toLaunch").await;
        }
    }
    let id = JobId(job);
    site.until("the launch has failed", |cluster| {
        cluster.job(id).is_some_and(|job| job.failed_launches == 1)
    })
    .await;
    let shown = site.job(job).await;
    let text = shown["events"][0]["description"].as_str().unwrap();
    assert!(text.contains("the mesh was not open after 60 s"), "{text}");
    assert!(text.contains("vol-1") && text.contains("vol-2"), "{text}");
}

async fn lose_the_second_node(types: &[&str]) -> (Site, Vec<crate::site::Agent>, u64) {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(2, types).await;
    for agent in &agents {
        site.acknowledge(agent, job, 1).await;
    }
    site.clock.advance(MINUTE / 2);
    site.orders(&agents[0], "toKill").await;
    site.clock.advance(MINUTE / 2);
    site.orders(&agents[0], "toKill").await;
    let lost = Site::number(&agents[1]);
    site.until("the node is suspected", |cluster| {
        cluster.node(lost).is_some_and(|node| node.state == ResourceState::Suspected)
    })
    .await;
    assert_eq!(site.orders(&agents[0], "toKill").await, [(job, 1)]);
    site.answer_kill(&agents[0], job, 1).await;
    (site, agents, job)
}

#[tokio::test]
async fn a_node_lost_while_running_ends_the_job_in_error() {
    let (site, agents, job) = lose_the_second_node(&["spmd"]).await;
    let shown = site.job(job).await;
    assert_eq!(shown["state"], "Error");
    assert_eq!(shown["events"][0]["type"], "LOG_SUSPECTED");
    let list = site.get("/resources/nodes/vol-2.json").await;
    assert_eq!(list["items"][0]["state"], "Suspected");

    // It comes back, and is told to end what it still holds.
    assert_eq!(site.orders(&agents[1], "toKill").await, [(job, 1)]);
    let list = site.get("/resources/nodes/vol-2.json").await;
    assert_eq!(list["items"][0]["state"], "Alive");
    site.answer_kill(&agents[1], job, 1).await;
    assert_eq!(site.orders(&agents[1], "toKill").await, []);
}

#[tokio::test]
async fn an_idempotent_job_that_lost_a_node_is_launched_again() {
    let (site, agents, job) = lose_the_second_node(&["spmd", "idempotent"]).await;
    assert_eq!(site.state(job).await, "Waiting");
    assert_eq!(site.orders(&agents[1], "toKill").await, [(job, 1)]);
    site.answer_kill(&agents[1], job, 1).await;
    for agent in &agents {
        assert_eq!(site.orders(agent, "toLaunch").await, [(job, 2)]);
    }
}
