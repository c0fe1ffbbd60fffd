//! Arrays, as OAR's clients submit, list and delete them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

fn ids(list: &Value) -> Vec<u64> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn an_array_is_submitted_listed_run_and_deleted() {
    let (site, agents) = Site::with_agents(1).await;
    let body = json!({ "command": "work", "array": 3, "name": "arr", "resource": "nodes=1" });
    let (status, submitted) = site.try_submit(body).await;
    assert_eq!((status.as_u16(), &submitted["id"]), (201, &json!(1)));
    let output = submitted["cmd_output"].as_str().unwrap();
    let end = "Simple array job submission is used\n\
               OAR_JOB_ID=1\nOAR_JOB_ID=2\nOAR_JOB_ID=3\nOAR_ARRAY_ID=1\n";
    assert!(output.ends_with(end), "{output}");
    let other = site.submit(1, &[]).await;

    // What the agent makes the job's environment from.
    assert_eq!(site.orders(&agents[0], "toLaunch").await, [(1, 1)]);
    for id in 1..=3 {
        let job = site.job(id).await;
        assert_eq!((&job["array_id"], &job["array_index"]), (&json!(1), &json!(id)));
    }
    site.acknowledge(&agents[0], 1, 1).await;
    let done = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
    assert_eq!(site.report(&agents[0], 1, done).await.0, 200);
    assert_eq!(ids(&site.get("/jobs.json?array=1").await), [1, 2, 3], "also what has ended");
    assert_eq!(ids(&site.get("/jobs.json?array=1&state=Waiting").await), [3]);
    assert_eq!(
        ids(&site.get("/jobs.json?array=4").await),
        [other],
        "a job alone is an array of one"
    );
    let (status, _) = site.send(Method::GET, "/jobs.json?array=1)+OR+(1=1", None, None).await;
    assert_eq!(status, 400);

    let delete = "/jobs/array/1/deletions/new.json";
    let (status, _) = site.send(Method::POST, delete, None, None).await;
    assert_eq!(status, 401);
    let bob = site.add_user("bob").await;
    let (status, _) = site.send(Method::POST, delete, Some(&bob), None).await;
    assert_eq!(status, 400);
    let (status, deleted) = site.send(Method::POST, delete, Some(&site.alice), None).await;
    assert_eq!((status.as_u16(), &deleted["id"]), (202, &json!("1")));
    let output = deleted["cmd_output"].as_str().unwrap();
    assert!(
        output.ends_with("The job(s) [ 2 3 ] will be deleted in the near future.\n"),
        "{output}"
    );
    assert_eq!(site.state(3).await, "Error");
    assert_eq!(site.orders(&agents[0], "toKill").await, []);
    let (status, _) = site.send(Method::POST, delete, Some(&site.alice), None).await;
    assert_eq!(status, 400, "nothing is left to delete");
}

#[tokio::test]
async fn a_parameter_file_is_text_in_json_and_in_forms() {
    let (site, _agents) = Site::with_agents(1).await;
    let param_file = "a 1\n# comment\nb 2\n\"c d\" 3\n";
    let body = json!({ "command": "/bin/echo", "param_file": param_file });
    let (status, submitted) = site.try_submit(body).await;
    assert_eq!(status, 201, "{submitted}");
    let expected = ["/bin/echo a 1", "/bin/echo b 2", "/bin/echo \"c d\" 3"];
    for (id, command) in (1..).zip(expected) {
        assert_eq!(site.job(id).await["command"], command);
    }
    let request = site.request(Method::POST, "/jobs.json", Some(&site.alice));
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let answer = request.body("command=true&array=2&param_file=").send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(ids(&site.get("/jobs.json?array=4").await), [4, 5]);
    for wrong in [
        json!({ "command": "x", "array": 0 }),
        json!({ "command": "x", "array": -1 }),
        json!({ "command": "x", "array": 1_000_000 }),
        json!({ "command": "x", "array": 2, "param_file": "a" }),
        json!({ "command": "x", "param_file": "#" }),
    ] {
        assert_eq!(site.try_submit(wrong.clone()).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn an_array_is_held_and_goes_on() {
    let (site, _agents) = Site::with_agents(1).await;
    let body = json!({ "command": "work", "array": 3, "resource": "nodes=1" });
    site.try_submit(body).await;
    let order = async |who: &str, what: &str| {
        let path = format!("/jobs/array/1/{what}/new.json");
        site.send(Method::POST, &path, Some(who), None).await
    };
    let bob = site.add_user("bob").await;
    let (status, refused) = order(&bob, "holds").await;
    assert_eq!(status, 400, "{refused}");

    let (status, held) = order(&site.alice, "holds").await;

    assert_eq!((status.as_u16(), &held["id"]), (202, &json!("1")));
    let output = held["cmd_output"].as_str().unwrap();
    assert!(output.contains("[2] Hold request was sent to the OAR server.\n[3] Hold"), "{output}");
    assert_eq!((site.state(2).await, site.state(3).await), ("Hold".into(), "Hold".into()));
    let (status, _) = order(&site.alice, "resumptions").await;
    assert_eq!(status, 202);
    assert_eq!((site.state(2).await, site.state(3).await), ("Waiting".into(), "Waiting".into()));
    let (status, refused) = order(&site.alice, "resumptions").await;
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("Cannot resume 1"), "{refused}");
}

#[tokio::test]
async fn a_jobs_actions_have_names_too() {
    let (site, _agents) = Site::with_agents(0).await;
    let update = async |method: Method, body: Value| {
        site.send(method, "/jobs/1.json", Some(&site.alice), Some(body)).await
    };
    let (status, _) = site.try_submit(json!({ "command": "work" })).await;
    assert_eq!(status, 400, "nothing has enrolled: {status}");

    let (status, refused) = update(Method::POST, json!({ "foo": 1 })).await;
    assert_eq!((status.as_u16(), &refused["title"]), (400, &json!("Missing Required Field")));
    let (status, refused) = update(Method::PUT, json!({ "method": "dance" })).await;
    assert_eq!(status, 400);
    assert_eq!(refused["message"], "Could not understand dance method");
    let (status, _) = update(Method::POST, json!({ "method": "signal", "signal": 10 })).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn work_is_accounted_for_by_project_and_user() {
    let (site, agents) = Site::with_agents(1).await;
    assert_eq!(site.get("/accounting.json").await["items"], json!([]));
    let id = site.submit(1, &[]).await;
    let (status, _) = site
        .send(Method::POST, "/jobs/1.json", Some(&site.alice), Some(json!({ "method": "hold" })))
        .await;
    assert_eq!(status, 400, "it does not wait");
    site.acknowledge(&agents[0], id, 1).await;
    let done = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
    assert_eq!(site.report(&agents[0], id, done).await.0, 200);

    let all = site.get("/accounting.json").await;

    assert_eq!(all["items"][0]["project"], "default");
    let asked = &all["items"][0]["consumptions"]["ASKED"]["alice"];
    assert!(asked.as_str().unwrap().parse::<u64>().unwrap() >= 3_600, "{all}");
    assert!(all["items"][0]["consumptions"]["USED"]["alice"].is_string(), "{all}");
    assert_eq!(site.get("/accounting/alice.json").await["total"], 1);
    assert_eq!(site.get("/accounting/bob.json").await["total"], 0);
    assert_eq!(site.get("/accounting.json?from=0&to=86400").await["total"], 0);
    let (status, _) = site.send(Method::GET, "/accounting.json?from=x", None, None).await;
    assert_eq!(status, 400);
}
