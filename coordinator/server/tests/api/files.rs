//! Users' own files, and what their jobs have written.

use reqwest::Method;
use serde_json::json;

use crate::site::{Site, archive};

impl Site {
    /// Status and body of a request with a raw body, by a user.
    async fn raw(&self, method: Method, path: &str, token: &str, body: &[u8]) -> (u16, String) {
        let request = self.request(method, path, Some(token));
        let request = request.header("accept", "application/json");
        let request = request.header("content-type", "application/octet-stream");
        let answer = request.body(body.to_vec()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn read(&self, path: &str, token: &str) -> (u16, String) {
        self.raw(Method::GET, path, token, b"").await
    }
}

#[tokio::test]
async fn a_users_files_are_their_own_and_names_with_suffixes_stay_whole() {
    let site = Site::start().await;
    let bob = site.add_user("bob").await;
    for name in ["~/a.json", "~/sub/b.tgz", "~/sub/a%20b"] {
        let path = format!("/media/{name}");
        assert_eq!(site.raw(Method::POST, &path, &site.alice, name.as_bytes()).await.0, 201);
        assert_eq!(site.read(&path, &site.alice).await, (200, name.to_owned()));
        assert_eq!(site.read(&path, &bob).await.0, 404);
        assert_eq!(site.raw(Method::POST, &path, &site.alice, b"").await.0, 403, "it is there");
    }
    let list = site.get("/media/ls/~/sub").await;
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a b", "b.tgz"]);
    let list = site.send(Method::GET, "/media/ls/~/", Some(&bob), None).await.1;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused_and_too_long_files_leave_nothing() {
    let site = Site::start().await;
    for path in [
        "/media/etc/passwd",
        "/media/~/..%2fof-bob%2fx",
        "/media/~/%2e%2e/%2e%2e/coordinator.sqlite",
        "/media/~bob/x",
        "/media/~/a%00b",
        "/media/ls/home/bob",
    ] {
        let (status, body) = site.read(path, &site.alice).await;
        assert!([403, 404].contains(&status), "{path}: {status} {body}");
        assert!(!body.contains("SQLite"), "{path}");
    }
    let (status, _) = site.send(Method::GET, "/media/~/x", None, None).await;
    assert_eq!(status, 401);
    let long = vec![b'x'; coordinator::files::MAX_FILE + 1];
    let (status, body) = site.raw(Method::POST, "/media/~/long", &site.alice, &long).await;
    assert_eq!(status, 413, "{body}");
    assert_eq!(site.read("/media/~/long", &site.alice).await.0, 404);
    let (status, _) =
        site.send(Method::POST, "/media/~/x", Some(&site.alice), Some(json!({}))).await;
    assert_eq!(status, 406);
    assert_eq!(site.read("/media/~/x", &site.alice).await.0, 404, "OAR leaves an empty file");
}

#[tokio::test]
async fn what_a_job_has_written_is_read_by_its_owner_where_oar_puts_it() {
    let (site, agents) = Site::with_agents(1).await;
    let bob = site.add_user("bob").await;
    let olga = site.add_user_as("olga", coordinator::role::Role::Operator).await;
    let body = json!({ "command": "true", "resource": "nodes=1", "name": "pi" });
    let (_, body) = site.try_submit(body).await;
    let job = body["id"].as_u64().unwrap();
    let (output, media) = (format!("/jobs/{job}/output"), format!("/media/~/OAR.pi.{job}.stdout"));
    let generation = site.orders(&agents[0], "toLaunch").await[0].1;
    site.acknowledge(&agents[0], job, generation).await;
    let (status, said) = site.read(&output, &site.alice).await;
    assert_eq!(status, 404, "{said}");
    assert!(said.contains("has not written anything yet"), "{said}");

    let bytes = archive(&format!("OAR.pi.{job}.stdout"), "one\ntwo\nthree\n");
    let path = format!("/jobs/{job}/stageout.tgz?generation={generation}");
    assert_eq!(site.raw(Method::POST, &path, &agents[0].credential, &bytes).await.0, 200);
    let done = json!({ "state": "terminated", "generation": generation, "exit_code": 0 });
    assert_eq!(site.report(&agents[0], job, done).await.0, 200);

    assert_eq!(site.read(&output, &site.alice).await, (200, "one\ntwo\nthree\n".to_owned()));
    assert_eq!(site.read(&media, &site.alice).await, (200, "one\ntwo\nthree\n".to_owned()));
    assert_eq!(site.read(&format!("{media}?tail=1"), &site.alice).await.1, "three\n");
    assert_eq!(site.read(&format!("{output}?tail=2"), &olga).await.1, "two\nthree\n");
    assert_eq!(site.read(&output, &bob).await.0, 403);
    assert_eq!(site.read(&media, &bob).await.0, 404);
    for (more, expected) in
        [("?stream=stderr", 404), ("?rank=1", 404), ("?stream=x", 400), ("?rank=x", 400)]
    {
        let path = format!("{output}{more}");
        assert_eq!(site.read(&path, &site.alice).await.0, expected, "{more}");
    }
    assert_eq!(site.read(&format!("/media/~/OAR.{job}.stdout"), &site.alice).await.0, 404);
}

#[tokio::test]
async fn what_a_job_writes_is_read_while_it_runs_and_its_results_take_over() {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(1, &[]).await;
    let bob = site.add_user("bob").await;
    let mut runs = None;
    for agent in &agents {
        if let Some((_, generation)) = site.orders(agent, "toLaunch").await.first() {
            runs = Some((agent, *generation));
        }
    }
    let (agent, generation) = runs.unwrap();
    let stranger = agents.iter().find(|other| other.name != agent.name).unwrap();
    site.acknowledge(agent, job, generation).await;
    let put = |from: &str, generation: u64, offset: usize, text: &'static str| {
        let path = format!("/jobs/{job}/output?generation={generation}&offset={offset}");
        let request = site.request(Method::PUT, &path, Some(from));
        let request = request.header("accept", "application/json").body(text);
        async move {
            let answer = request.send().await.unwrap();
            let next = answer.headers().get("x-output-offset").cloned();
            let next = next.map(|next| next.to_str().unwrap().parse::<usize>().unwrap());
            (answer.status().as_u16(), next)
        }
    };
    let follow = |offset: usize| {
        let path = format!("/jobs/{job}/output?offset={offset}");
        let request = site.request(Method::GET, &path, Some(&site.alice));
        let request = request.header("accept", "application/json");
        async move {
            let answer = request.send().await.unwrap();
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            let place =
                [header("x-output-offset"), header("x-output-launch"), header("x-output-complete")];
            (answer.text().await.unwrap(), place.join(" "))
        }
    };
    let empty = (String::new(), format!("0 {generation} no"));
    assert_eq!(follow(0).await, empty);

    assert_eq!(put(&agent.credential, generation, 0, "one\n").await, (200, Some(4)));
    assert_eq!(put(&agent.credential, generation, 0, "one\n").await, (200, Some(4)));
    assert_eq!(put(&agent.credential, generation, 9, "lost").await, (200, Some(4)));
    assert_eq!(put(&agent.credential, generation, 4, "two\n").await, (200, Some(8)));
    assert_eq!(put(&stranger.credential, generation, 8, "no").await.0, 403);
    assert_eq!(put(&agent.credential, generation + 1, 8, "no").await.0, 403);
    assert_eq!(put(&site.alice, generation, 8, "no").await.0, 403);
    assert_eq!(follow(4).await, ("two\n".into(), format!("8 {generation} no")));
    assert_eq!(follow(900).await.0, "");
    let plain = format!("/jobs/{job}/output");
    assert_eq!(site.read(&plain, &site.alice).await, (200, "one\ntwo\n".to_owned()));
    assert_eq!(site.read(&plain, &bob).await.0, 403);
    assert_eq!(site.read(&format!("/media/~/OAR.{job}.stdout"), &site.alice).await.1, "one\ntwo\n");

    let bytes = archive(&format!("OAR.{job}.stdout"), "one\ntwo\nthree\n");
    let path = format!("/jobs/{job}/stageout.tgz?generation={generation}");
    assert_eq!(site.raw(Method::POST, &path, &agent.credential, &bytes).await.0, 200);
    assert_eq!(follow(8).await, ("three\n".into(), format!("14 {generation} yes")));
    assert_eq!(put(&agent.credential, generation, 8, "late").await.0, 413);
    let done = json!({ "state": "terminated", "generation": generation, "exit_code": 0 });
    assert_eq!(site.report(agent, job, done).await.0, 200);
    assert_eq!(follow(14).await, (String::new(), format!("14 {generation} yes")));
}
