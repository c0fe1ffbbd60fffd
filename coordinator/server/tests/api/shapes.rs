//! Answers have the keys and types that a real OAR 2.5.9 server gave.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Site, keys};

const JOB: [&str; 30] = [
    "api_timestamp",
    "array_id",
    "array_index",
    "command",
    "cpuset_name",
    "dependencies",
    "events",
    "exit_code",
    "id",
    "initial_request",
    "launching_directory",
    "links",
    "message",
    "name",
    "owner",
    "project",
    "properties",
    "queue",
    "reservation",
    "resubmit_job_id",
    "scheduled_start",
    "start_time",
    "state",
    "stderr_file",
    "stdout_file",
    "stop_time",
    "submission_time",
    "type",
    "types",
    "walltime",
];

const RESOURCE: [&str; 25] = [
    "api_timestamp",
    "available_upto",
    "besteffort",
    "core",
    "cpu",
    "cpuset",
    "deploy",
    "desktop_computing",
    "drain",
    "expiry_date",
    "finaud_decision",
    "host",
    "id",
    "last_available_upto",
    "last_job_date",
    "links",
    "mem",
    "network_address",
    "next_finaud_decision",
    "next_state",
    "scheduler_priority",
    "state",
    "state_num",
    "suspended_jobs",
    "type",
];

fn links(value: &Value) -> Vec<(&str, &str)> {
    let links = value["links"].as_array().unwrap().iter();
    links.map(|link| (link["rel"].as_str().unwrap(), link["href"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn the_api_says_what_it_is() {
    let site = Site::start().await;
    let version = site.get("/version.json").await;
    let expected =
        ["api_timestamp", "api_timezone", "api_version", "apilib_version", "oar_version"];
    assert_eq!(keys(&version), expected);
    let root = site.get("/").await;
    assert!(links(&root).contains(&("collection", "/oarapi/jobs")));
    assert_eq!(site.get("/whoami").await["authenticated_user"], "alice");
    let (_, nobody) = site.send(Method::GET, "/whoami.json", None, None).await;
    assert_eq!(nobody["authenticated_user"], "");
    assert_eq!(site.get("/timezone.json").await["timezone"], "UTC");
}

#[tokio::test]
async fn an_empty_list_is_oars_empty_list() {
    let site = Site::start().await;
    let empty = json!({ "items": [], "total": 0, "offset": 0, "links": [] });
    for path in [
        "/jobs.json",
        "/jobs/details.json",
        "/resources.json",
        "/resources/details",
        "/resources/nodes/vol-9.json",
        "/resources/nodes/vol-9/jobs.json?state=toLaunch",
        "/jobs/9/nodes.json",
        "/jobs/9/resources.json",
    ] {
        let (status, body) = site.send(Method::GET, path, None, None).await;
        assert_eq!((status.as_u16(), body), (200, empty.clone()), "{path}");
    }
}

#[tokio::test]
async fn a_submission_is_answered_and_shown_as_oar_does() {
    let (site, _agents) = Site::with_agents(1).await;
    let body = json!({
        "command": "echo hello > out.txt", "type": "desktop_computing",
        "resource": "/nodes=1,walltime=0:10:00", "name": "dc",
    });
    let request = site.request(Method::POST, "/jobs.json", Some(&site.alice)).json(&body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], "/oarapi/jobs/1");
    let submitted: Value = response.json().await.unwrap();
    assert_eq!(keys(&submitted), ["api_timestamp", "cmd_output", "id", "links"]);
    assert!(submitted["cmd_output"].as_str().unwrap().ends_with("OAR_JOB_ID=1\n"));
    assert_eq!(links(&submitted), [("self", "/oarapi/jobs/1")]);

    let job = site.job(1).await;
    let mut expected = JOB.to_vec();
    expected.push("wanted_resources");
    assert_eq!(keys(&job), expected);
    for key in ["id", "array_id", "submission_time", "start_time", "stop_time", "walltime"] {
        assert!(job[key].is_u64(), "{key}: {job}");
    }
    assert_eq!(job["name"], "dc");
    assert_eq!(job["state"], "toLaunch");
    assert_eq!(job["type"], "PASSIVE");
    assert_eq!(job["types"], json!(["desktop_computing"]));
    assert_eq!(job["stdout_file"], "OAR.dc.1.stdout");
    assert_eq!(job["walltime"], 600);
    assert_eq!(job["exit_code"], Value::Null);
    assert_eq!(job["events"], json!([]));
    assert_eq!(links(&job)[1], ("collection", "/oarapi/jobs/1/resources"));
}

#[tokio::test]
async fn lists_are_paged_with_oars_links() {
    let (site, _agents) = Site::with_agents(1).await;
    for _ in 0..3 {
        site.submit(1, &[]).await;
    }
    let list = site.get("/jobs.json?limit=1&offset=1&state=Waiting,toLaunch").await;
    assert_eq!(keys(&list), ["api_timestamp", "items", "links", "offset", "total"]);
    assert_eq!((list["total"].as_u64(), list["offset"].as_u64()), (Some(3), Some(1)));
    let at = |offset| format!("/oarapi/jobs.json?limit=1&state=Waiting%2CtoLaunch&offset={offset}");
    let (this, next, previous) = (at(1), at(2), at(0));
    let expected = [("self", &*this), ("next", &*next), ("previous", &*previous)];
    assert_eq!(links(&list), expected);
    let item = &list["items"][0];
    let expected =
        ["api_timestamp", "id", "links", "name", "owner", "queue", "state", "submission"];
    assert_eq!(keys(item), expected);
    assert_eq!(links(item)[0], ("self", "/oarapi/jobs/2"));

    let by_ids = site.get("/jobs.json?ids=1:3:99").await;
    assert_eq!(by_ids["total"], 2);
    assert_eq!(site.get("/jobs.json?user=nobody-here").await["total"], 0);
    assert_eq!(site.get("/jobs.json?state=Bogus").await["total"], 0);
    let details = site.get("/jobs/details.json?limit=1").await;
    assert_eq!(details["items"][0]["nodes"][0]["network_address"], "vol-1");
    assert_eq!(details["items"][0]["resources"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_deletion_is_answered_as_oar_does() {
    let (site, _agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    let path = format!("/jobs/{job}.json");
    let (status, body) = site.send(Method::DELETE, &path, Some(&site.alice), None).await;
    assert_eq!(status, 202);
    assert_eq!(keys(&body), ["api_timestamp", "id", "oardel_output", "status"]);
    assert_eq!(body["id"], "1");
    assert_eq!(body["status"], "Delete request registered");
    assert_eq!(site.state(job).await, "Error");

    let (status, body) = site.send(Method::DELETE, &path, Some(&site.alice), None).await;
    assert_eq!((status.as_u16(), &body["title"]), (400, &json!("Oardel error")));
    assert!(body["message"].as_str().unwrap().contains("already killed"));
    let events = site.get(&format!("/jobs/{job}/events.json")).await;
    let event = &events["items"][0];
    let expected = ["date", "description", "event_id", "job_id", "to_check", "type"];
    assert_eq!(keys(event), expected);
    assert_eq!(event["type"], "FRAG_JOB_REQUEST");
    assert_eq!(event["description"], "User alice requested to frag the job 1");
}

#[tokio::test]
async fn each_core_is_a_resource() {
    let (site, _agents) = Site::with_agents(2).await;
    let list = site.get("/resources.json").await;
    assert_eq!(list["total"], 4);
    let item = &list["items"][2];
    let expected = ["api_timestamp", "available_upto", "id", "links", "network_address", "state"];
    assert_eq!(keys(item), expected);
    assert_eq!(item["network_address"], "vol-2");
    assert_eq!(links(item)[0], ("member", "/oarapi/resources/nodes/vol-2"));
    let details = site.get("/resources/details.json").await;
    assert_eq!(keys(&details["items"][3]), RESOURCE);
    assert_eq!(site.get("/resources/4.json").await["cpuset"], 1);
    assert_eq!(site.get("/resources/nodes/vol-2.json").await["total"], 2);
    let job = site.submit(1, &[]).await;
    assert_eq!(site.get("/resources/1/jobs.json").await["items"][0]["id"], job);
    let resources = site.get(&format!("/jobs/{job}/resources.json")).await;
    assert_eq!(resources["items"][0]["status"], "assigned");
    let node = &site.get(&format!("/jobs/{job}/nodes.json")).await["items"][0];
    assert_eq!(keys(node), ["api_timestamp", "links", "network_address", "status"]);
}
