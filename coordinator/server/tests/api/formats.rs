//! Answers in JSON, YAML and HTML, from the outside.

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::site::Site;

/// Status, content type and text of `GET path`, asked with that `Accept`.
async fn fetch(site: &Site, path: &str, accept: &str) -> (u16, String, String) {
    let request = site.request(Method::GET, path, Some(&site.alice)).header(ACCEPT, accept);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    (status, kind, response.text().await.unwrap())
}

#[tokio::test]
async fn a_job_is_the_same_in_yaml_and_readable_as_html() {
    let (site, _agents) = Site::with_agents(1).await;
    let body = json!({ "command": "echo '<b>' # a: b", "resource": "nodes=1,walltime=1" });
    let (status, _) = site.try_submit(body).await;
    assert_eq!(status, 201);
    let mut job = site.job(1).await;
    let (status, kind, text) = fetch(&site, "/jobs/1.yaml", "application/json").await;
    assert_eq!((status, &*kind), (200, "text/yaml; charset=utf-8"));
    assert!(text.starts_with("---\napi_timestamp: "), "{text}");
    let mut shown: Value = serde_norway::from_str(&text).unwrap();
    for it in [&mut job, &mut shown] {
        it["api_timestamp"] = Value::Null;
    }
    assert_eq!(shown, job);
    let (status, kind, page) = fetch(&site, "/jobs/1", "text/html").await;
    assert_eq!((status, &*kind), (200, "text/html; charset=utf-8"));
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
    assert!(page.contains("<A HREF=\"/oarapi/jobs/1/nodes.html\">"), "{page}");
}

#[tokio::test]
async fn a_request_without_a_format_is_406_but_archives_have_their_own() {
    let (site, agents) = Site::with_agents(1).await;
    for path in ["/version", "/jobs/1", "/version.xml", "/nothing", "/"] {
        let (status, kind, text) = fetch(&site, path, "image/png").await;
        assert_eq!((status, &*kind), (406, "application/json"), "{path}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["title"], "Invalid content type required image/png");
    }
    let job = site.submit(1, &[]).await;
    site.acknowledge(&agents[0], job, 1).await;
    let path = format!("/jobs/{job}/stageout?generation=1");
    let request = site.request(Method::POST, &path, Some(&agents[0].credential));
    let response = request.header(ACCEPT, "image/png").body("x").send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_job_is_submitted_in_yaml_and_by_a_form_and_in_nothing_else() {
    let (site, _agents) = Site::with_agents(1).await;
    let form = "application/x-www-form-urlencoded";
    let send = async |kind: &'static str, body: &'static str| {
        let request = site.request(Method::POST, "/jobs.json", Some(&site.alice));
        let request = if kind.is_empty() { request } else { request.header(CONTENT_TYPE, kind) };
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    for (kind, body) in [
        ("text/yaml", "---\ncommand: /bin/true\nresource: /nodes=1,walltime=0:01:00\n"),
        (form, "command=%2Fbin%2Ftrue&resource=%2Fnodes%3D1%2Cwalltime%3D0%3A01%3A00&name="),
    ] {
        let (status, answer) = send(kind, body).await;
        assert_eq!(status, 201, "{answer}");
        let job = site.job(answer["id"].as_u64().unwrap()).await;
        assert_eq!((&job["command"], &job["walltime"]), (&json!("/bin/true"), &json!(60)));
    }
    for (kind, body, status, title) in [
        ("text/yaml", "command: [", 400, "YAML data not understood"),
        ("text/yaml", "comand: x", 400, "YAML data not understood"),
        (form, "comand=x", 400, "Form data not understood"),
        ("text/plain", "command", 406, "Job description must be in YAML or JSON"),
        ("application/json", "", 406, "Job description must be in YAML or JSON"),
        ("", "{}", 406, "Job description must be in YAML or JSON"),
    ] {
        let (found, answer) = send(kind, body).await;
        assert_eq!((found, &answer["title"]), (status, &json!(title)), "{kind}: {answer}");
    }
}

#[tokio::test]
async fn one_structure_is_known_and_debug_makes_errors_successes() {
    let site = Site::start().await;
    let json = "application/json";
    let (status, _, _) = fetch(&site, "/resources?structure=simple", json).await;
    assert_eq!(status, 200);
    let (status, _, text) = fetch(&site, "/resources?structure=oar", json).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    let message = &body["message"];
    assert_eq!((status, message), (406, &json!("Unknown oar format for data structure")));
    let (status, _, text) = fetch(&site, "/jobs/9.json?debug=1", json).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &body["code"]), (200, &json!(200)));
    assert_eq!(body["title"], "ERROR 404 - Job not found");
    let (status, kind, text) = fetch(&site, "/jobs/9.html?debug=1", json).await;
    assert_eq!((status, &*kind), (200, "text/html; charset=utf-8"));
    assert!(text.starts_with("<title>ERROR 404 - Job not found</title>"), "{text}");
    let (status, _, _) = fetch(&site, "/jobs/9.json?debug=0", json).await;
    assert_eq!(status, 404);
}
