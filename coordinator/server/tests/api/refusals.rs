//! What is refused, and how.

use reqwest::Method;
use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn nobody_may_look_at_a_job_or_submit_one() {
    let site = Site::start().await;
    let body = Some(json!({ "command": "sleep 1" }));
    for (method, path, body, before) in [
        (Method::POST, "/jobs.json", body, "posting jobs"),
        (Method::GET, "/jobs/1.json", None, "looking at jobs"),
        (Method::DELETE, "/jobs/1.json", None, "deleting jobs"),
    ] {
        let (status, answer) = site.send(method, path, None, body).await;
        assert_eq!((status.as_u16(), &answer["title"]), (401, &json!("Permission denied")));
        let message = format!("A suitable authentication must be done before {before}");
        assert_eq!(answer["message"], message);
    }
    let (status, _) = site.send(Method::GET, "/whoami", Some("wrong"), None).await;
    assert_eq!(status, 401, "a wrong token is not the same as none");
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_404_with_oars_body() {
    let site = Site::start().await;
    for (method, path, message) in [
        (Method::GET, "/nothing.json", "No way to handle your request /nothing.json"),
        (Method::PUT, "/version.json", "No way to handle your request /version.json"),
        (Method::DELETE, "/jobs.json", "No way to handle your request /jobs.json"),
        (Method::POST, "/jobs/1/dances/new", "No way to handle your request /jobs/1/dances/new"),
    ] {
        let (status, body) = site.send(method, path, None, None).await;
        assert_eq!(status, 404);
        assert_eq!(body["message"], message);
    }
}

#[tokio::test]
async fn malformed_json_is_400_and_says_where() {
    let site = Site::start().await;
    let request = site.request(Method::POST, "/jobs.json", Some(&site.alice));
    let request = request.header(reqwest::header::CONTENT_TYPE, "application/json");
    let response = request.body("{\"command\":").send().await.unwrap();
    assert_eq!(response.status(), 400);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["title"], "JSON data not understood");
    assert!(body["message"].as_str().unwrap().contains("line 1 column 11"), "{body}");
}

#[tokio::test]
async fn bad_submissions_are_400_and_say_what() {
    let (site, _agents) = Site::with_agents(2).await;
    for (body, says) in [
        (json!({ "resource": "/nodes=1" }), "A job must have"),
        (json!({ "command": "" }), "A job must have"),
        (json!({ "command": "true", "nosuchoption": "1" }), "nosuchoption"),
        (json!({ "command": "true", "resource": "/nodes=abc" }), "column 8"),
        (json!({ "command": "true", "resource": "/nosuch=1" }), "no property nosuch"),
        (json!({ "command": "true", "property": "mem > AND 1" }), "column 7"),
        (json!({ "command": "true", "property": "1=1) OR (1=1" }), "column 1"),
        (json!({ "command": "true", "property": "mem > 1000000" }), "not enough resources"),
        (json!({ "command": "true", "queue": "nosuch" }), "queue nosuch does not exist"),
        (json!({ "command": "true", "anterior": 99 }), "no job 99"),
        (json!({ "command": "true", "reservation": "soon" }), "YYYY-MM-DD"),
        (json!({ "command": "true", "reservation": "2001-01-01 00:00:00" }), "in the past"),
        (json!({ "command": "true", "type": "nosuchtype" }), "unknown job type: nosuchtype"),
        (json!({ "command": "true", "resource": "nodes=3" }), "not enough resources"),
        (json!({ "command": "true", "name": "../../etc" }), "../../etc"),
        (
            json!({ "command": "true", "stagein": format!("sha256:{}", "0".repeat(64)) }),
            "upload it",
        ),
        (json!([{ "command": "true" }]), "line 1"),
    ] {
        let (status, answer) = site.try_submit(body.clone()).await;
        assert_eq!(status, 400, "{body}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(says), "{body}: {message}");
    }
    assert_eq!(site.get("/jobs.json").await["total"], 0);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413() {
    let site = Site::start().await;
    let body = json!({ "command": "x".repeat(600 * 1024) });
    let (status, _) = site.try_submit(body).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn another_users_job_can_be_read_but_not_deleted() {
    let (site, _agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    let bob = site.add_user("bob").await;
    let path = format!("/jobs/{job}");
    let (status, _) = site.send(Method::GET, &path, Some(&bob), None).await;
    assert_eq!(status, 200);
    let (status, body) = site.send(Method::DELETE, &path, Some(&bob), None).await;
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("not the right user"));
    // Its results are nobody else's, and its volunteers' addresses.
    for (what, own) in [("stageout.tgz", 404), ("mesh.json", 404)] {
        let path = format!("/jobs/{job}/{what}");
        let (status, _) = site.send(Method::GET, &path, Some(&bob), None).await;
        assert_eq!(status, 403, "{what}");
        let (status, _) = site.send(Method::GET, &path, Some(&site.alice), None).await;
        assert_eq!(status, own, "{what}");
    }
}

#[tokio::test]
async fn only_an_assigned_node_speaks_of_a_job() {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(1, &[]).await;
    let running = json!({ "state": "running", "generation": 1 });
    let path = format!("/jobs/{job}/state.json");
    for (token, status) in [
        (None, 401),
        (Some(&*site.alice), 403),
        (Some(&*agents[1].credential), 403),
        (Some(&*agents[0].credential), 200),
    ] {
        let (found, body) = site.send(Method::POST, &path, token, Some(running.clone())).await;
        assert_eq!(found, status, "{body}");
    }
    let (status, _) = site.report(&agents[0], 99, running.clone()).await;
    assert_eq!(status, 404);
    // A node sees the jobs that it has a part in, with what it must know; nobody else gets that.
    let path = format!("/jobs/{job}.json");
    let (status, shown) = site.send(Method::GET, &path, Some(&agents[0].credential), None).await;
    assert_eq!((status.as_u16(), &shown["assignment"]["rank"]), (200, &json!(0)));
    let (status, _) = site.send(Method::GET, &path, Some(&agents[1].credential), None).await;
    assert_eq!(status, 404);
    assert!(site.job(job).await.get("assignment").is_none());
    // Nor does it submit or delete.
    let (status, _) = site.send(Method::DELETE, &path, Some(&agents[0].credential), None).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn what_the_web_framework_refuses_has_oars_body_too() {
    let (site, agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    let (status, _) = site.send(Method::GET, "/jobs/%ff", Some(&site.alice), None).await;
    assert_eq!(status, 400);
    let path = format!("/jobs/{job}/stageout.tgz?generation=x");
    let (status, _) = site.send(Method::POST, &path, Some(&agents[0].credential), None).await;
    assert_eq!(status, 400);
    let (status, _) = site.send(Method::GET, "/jobs.json?limit=x", None, None).await;
    assert_eq!(status, 400);
}
