//! What operators order about nodes, and jobs that are submitted once more.

use coordinator::role::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

async fn post(site: &Site, path: &str, token: &str, body: Value) -> (u16, Value) {
    let (status, body) = site.send(Method::POST, path, Some(token), Some(body)).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn an_operator_takes_nodes_away_and_gives_them_properties() {
    let (site, agents) = Site::with_agents(2).await;
    let oar = site.add_user_as("oar", Role::Admin).await;
    let state = "/resources/1/state.json";
    assert_eq!(post(&site, state, &site.alice, json!({ "state": "Dead" })).await.0, 401);
    assert_eq!(post(&site, state, &oar, json!({ "foo": 1 })).await.0, 400);
    assert_eq!(post(&site, state, &oar, json!({ "state": "Suspected" })).await.0, 400);
    let unknown = "/resources/999/state.json";
    assert_eq!(post(&site, unknown, &oar, json!({ "state": "Absent" })).await.0, 404);
    let (status, body) = post(&site, state, &oar, json!({ "state": "Absent" })).await;
    assert_eq!((status, &body["uri"]), (200, &json!("/oarapi/resources/1")), "{body}");
    assert_eq!(site.get("/resources/1.json").await["state"], "Absent");

    let properties = format!("/resources/nodes/{}/properties.json", agents[1].name);
    let rack = json!({ "rack": "7", "drain": "YES" });
    assert_eq!(post(&site, &properties, &site.alice, rack.clone()).await.0, 401);
    assert_eq!(post(&site, &properties, &oar, json!({ "state": "Alive" })).await.0, 403);
    assert_eq!(
        post(&site, &properties, &oar, json!({ "rack": "7", "bad name": "1" })).await.0,
        400
    );
    let node = &site.get("/resources/3.json").await;
    assert_eq!(node.get("rack"), None, "all or nothing");
    assert_eq!(post(&site, &properties, &oar, rack).await.0, 200);
    let node = &site.get("/resources/3.json").await;
    assert_eq!((&node["rack"], &node["drain"]), (&json!("7"), &json!("YES")));
    let by_rack = site.get("/resources/rack/jobs.json").await;
    assert_eq!(by_rack["items"], json!([{ "rack": "7", "jobs": [] }]));

    let audits = site.server.app.store.audits(10).await.unwrap();
    let subjects: Vec<&str> = audits.iter().map(|audit| &*audit.subject).collect();
    assert_eq!(subjects, ["vol-1 to Absent", "vol-2: drain=YES, rack=7"]);
}

#[tokio::test]
async fn jobs_are_listed_by_the_values_of_a_property() {
    let (site, _agents) = Site::with_agents(2).await;
    let job = site.submit(1, &[]).await;
    let list = site.get("/resources/network_address/jobs.json").await;
    let (busy, free) = (json!([job, job]), json!([]));
    assert_eq!(
        list["items"],
        json!([{ "network_address": "vol-1", "jobs": busy }, { "network_address": "vol-2", "jobs": free }])
    );
    assert_eq!(site.get("/resources/nothing/jobs.json").await["items"], json!([]));
}

#[tokio::test]
async fn a_job_that_has_ended_is_submitted_once_more_by_its_owner() {
    let (site, _agents) = Site::with_agents(1).await;
    let bob = site.add_user("bob").await;
    let _first = site.submit(1, &[]).await;
    let old = site.submit(1, &["idempotent"]).await;
    let path = format!("/jobs/{old}/resubmissions/new.json");
    let (status, body) = post(&site, &path, &site.alice, json!({})).await;
    assert_eq!(status, 400, "{body}");
    let delete = format!("/jobs/{old}.json");
    site.send(Method::DELETE, &delete, Some(&site.alice), None).await;
    assert_eq!(post(&site, &path, &bob, json!({})).await.0, 400);
    let missing = "/jobs/999/resubmissions/new.json";
    assert_eq!(post(&site, missing, &site.alice, json!({})).await.0, 400);

    let (status, body) = post(&site, &path, &site.alice, json!({})).await;
    assert_eq!(status, 201, "{body}");
    let new = body["id"].as_u64().unwrap();
    assert_eq!(body["links"][1], json!({ "rel": "parent", "href": format!("/oarapi/jobs/{old}") }));
    let (before, after) = (site.job(old).await, site.job(new).await);
    assert_eq!(after["resubmit_job_id"], json!(old));
    for key in ["command", "types", "wanted_resources", "owner"] {
        assert_eq!(before[key], after[key], "{key}");
    }

    let table = site.get(&format!("/jobs/table.json?ids={old}:{new}")).await;
    let states: Vec<&Value> =
        table["items"].as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["Error", "Waiting"]);
    assert_eq!(table["items"][1]["stdout_file"], "OAR.%jobid%.stdout");
}
