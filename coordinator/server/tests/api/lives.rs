//! Whole lives of jobs, with agents played by the test.

use std::io::Read;

use flate2::read::GzDecoder;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::site::{Agent, Site, archive};

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

async fn upload_result(site: &Site, agent: &Agent, job: u64, generation: u64, text: &str) -> u16 {
    let bytes = archive("out.txt", text);
    let path = format!("/jobs/{job}/stageout.tgz?generation={generation}");
    let request = site.request(Method::POST, &path, Some(&agent.credential));
    let request = request.header("X-Content-SHA256", sha256(&bytes)).body(bytes);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn two_agents_carry_an_spmd_job_through() {
    let (site, agents) = Site::with_agents(2).await;
    // Stage-in, in two pieces.
    let bytes = archive("in.txt", "input");
    let hash = sha256(&bytes);
    let path = format!("/stagein/{hash}");
    let (status, _) = site.send(Method::PUT, &path, None, None).await;
    assert_eq!(status, 401);
    let (head, tail) = bytes.split_at(10);
    for (first, piece, expected) in [(0, head, 204), (10, tail, 201)] {
        let last = first + piece.len() - 1;
        let range = format!("bytes {first}-{last}/{}", bytes.len());
        let request = site.request(Method::PUT, &path, Some(&site.alice));
        let request = request.header("Content-Range", range).body(piece.to_vec());
        assert_eq!(request.send().await.unwrap().status(), expected);
    }
    let head = site.request(Method::HEAD, &path, Some(&site.alice)).send().await.unwrap();
    assert_eq!(head.status(), 200);

    let body = json!({
        "command": "cat in.txt", "resource": "nodes=2", "type": ["spmd"],
        "stagein": format!("sha256:{hash}"),
    });
    let (status, submitted) = site.try_submit(body).await;
    assert_eq!(status, 201, "{submitted}");
    let job = submitted["id"].as_u64().unwrap();
    let waiting = site.submit(1, &[]).await;
    assert_eq!(site.state(waiting).await, "Waiting");

    for (rank, agent) in agents.iter().enumerate() {
        assert_eq!(site.orders(agent, "toLaunch").await, [(job, 1)]);
        let path = format!("/jobs/{job}.json");
        let (_, shown) = site.send(Method::GET, &path, Some(&agent.credential), None).await;
        let assignment = &shown["assignment"];
        assert_eq!(assignment["rank"], rank);
        assert_eq!(assignment["spmd"], true);
        assert_eq!(assignment["mesh"], false);
        assert_eq!(assignment["stagein_sha256"], hash);
        assert_eq!(
            assignment["nodes"],
            json!([
                { "name": "vol-1", "cores": 2 }, { "name": "vol-2", "cores": 2 },
            ])
        );
        site.acknowledge(agent, job, 1).await;
        assert_eq!(site.orders(agent, "toLaunch").await, []);
        let state = if rank == 0 { "Launching" } else { "Running" };
        assert_eq!(site.state(job).await, state);

        let stagein = format!("/jobs/{job}/stagein.tgz");
        let request = site.request(Method::GET, &stagein, Some(&agent.credential));
        let response = request.header("Range", "bytes=10-").send().await.unwrap();
        assert_eq!(response.status(), 206);
        let range = format!("bytes 10-{}/{}", bytes.len() - 1, bytes.len());
        assert_eq!(response.headers()["content-range"], *range);
        assert_eq!(response.bytes().await.unwrap(), tail);
    }

    // Reports of another launch are refused.
    let wrong = json!({ "state": "terminated", "generation": 2, "exit_code": 0 });
    assert_eq!(site.report(&agents[0], job, wrong).await.0, 403);
    assert_eq!(upload_result(&site, &agents[0], job, 2, "x").await, 403);

    for agent in &agents {
        assert_eq!(upload_result(&site, agent, job, 1, &agent.name).await, 200);
        let done = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
        for _ in 0..2 {
            assert_eq!(site.report(agent, job, done.clone()).await.0, 200, "also the second time");
        }
        let other = json!({ "state": "terminated", "generation": 1, "exit_code": 256 });
        assert_eq!(site.report(agent, job, other).await.0, 409);
    }
    let ended = site.job(job).await;
    assert_eq!((&ended["state"], &ended["exit_code"]), (&json!("Terminated"), &json!(0)));
    assert_eq!(site.get("/jobs.json?state=Terminated").await["total"], 1);
    assert_eq!(site.orders(&agents[0], "toLaunch").await, [(waiting, 1)]);

    let path = format!("/jobs/{job}/stageout.tgz");
    let response = site.request(Method::GET, &path, Some(&site.alice)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    let mut results = tar::Archive::new(GzDecoder::new(&bytes[..]));
    let mut found = Vec::new();
    for entry in results.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        if name.ends_with("out.txt") {
            found.push((name, text));
        }
    }
    found.sort();
    let expected = [("rank-0/out.txt", "vol-1"), ("rank-1/out.txt", "vol-2")];
    assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
}

#[tokio::test]
async fn a_result_may_come_as_the_form_of_old() {
    let (site, agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    site.acknowledge(&agents[0], job, 1).await;
    let bytes = archive("out.txt", "form");
    let form = reqwest::multipart::Form::new()
        .part("myfile", reqwest::multipart::Part::bytes(bytes).file_name("1.tgz"));
    let path = format!("/jobs/{job}/stageout.tgz?generation=1");
    let request = site.request(Method::POST, &path, Some(&agents[0].credential));
    let response = request.multipart(form).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let path = format!("/jobs/{job}/stageout.tgz");
    let response = site.request(Method::GET, &path, Some(&site.alice)).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_result_whose_hash_is_wrong_is_not_kept() {
    let (site, agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    let path = format!("/jobs/{job}/stageout.tgz?generation=1");
    let request = site.request(Method::POST, &path, Some(&agents[0].credential));
    let request = request.header("X-Content-SHA256", "0".repeat(64)).body("not it");
    assert_eq!(request.send().await.unwrap().status(), 422);
    let path = format!("/jobs/{job}/stageout.tgz");
    let (status, _) = site.send(Method::GET, &path, Some(&site.alice), None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn results_are_taken_after_the_end_of_the_part_too() {
    let (site, agents) = Site::with_agents(1).await;
    let job = site.submit(1, &[]).await;
    site.acknowledge(&agents[0], job, 1).await;
    assert_eq!(upload_result(&site, &agents[0], job, 1, "first").await, 200);
    assert_eq!(upload_result(&site, &agents[0], job, 1, "sent again").await, 200);
    let body = json!({ "state": "terminated", "generation": 1, "exit_code": 0 });
    let path = format!("/jobs/{job}/state");
    let told = site.send(Method::POST, &path, Some(&agents[0].credential), Some(body)).await;
    assert_eq!(told.0, 200);
    assert_eq!(upload_result(&site, &agents[0], job, 1, "late").await, 200);
    let path = format!("/jobs/{job}/stageout.tgz");
    let kept = site.request(Method::GET, &path, Some(&site.alice)).send().await.unwrap();
    assert_eq!(kept.status(), 200);
    assert_eq!(upload_result(&site, &agents[0], job, 2, "of no launch").await, 403);
}

#[tokio::test]
async fn a_running_job_is_killed_on_all_its_nodes() {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(2, &["spmd"]).await;
    for agent in &agents {
        site.acknowledge(agent, job, 1).await;
    }
    let path = format!("/jobs/{job}/deletions/new.json");
    let (status, body) = site.send(Method::POST, &path, Some(&site.alice), None).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(site.state(job).await, "Running");
    for agent in &agents {
        assert_eq!(site.orders(agent, "toKill").await, [(job, 1)]);
        site.answer_kill(agent, job, 1).await;
        assert_eq!(site.orders(agent, "toKill").await, []);
    }
    let ended = site.job(job).await;
    assert_eq!((&ended["state"], &ended["exit_code"]), (&json!("Error"), &json!(null)));
    assert!(ended["message"].as_str().unwrap().contains("User alice requested"), "{ended}");
}

#[tokio::test]
async fn a_mesh_job_runs_when_the_rendezvous_says_so() {
    let (site, agents) = Site::with_agents(2).await;
    let job = site.submit(2, &["mesh", "spmd"]).await;
    for agent in &agents {
        site.acknowledge(agent, job, 1).await;
    }
    assert_eq!(site.state(job).await, "Launching");
    let mesh = site.get(&format!("/jobs/{job}/mesh.json")).await;
    assert_eq!(mesh["members"][1], json!({ "rank": 1, "name": "vol-2", "ipv4": "10.128.0.2" }));
    assert_eq!(mesh["open_ms"], json!(null));
    let id = coordinator_core::JobId(job);
    site.server.app.ledger.apply(move |draft| draft.mesh_opened(id, 1)).await.unwrap();
    assert_eq!(site.state(job).await, "Running");
    let plain = site.submit(1, &[]).await;
    let path = format!("/jobs/{plain}/mesh");
    assert_eq!(site.send(Method::GET, &path, Some(&site.alice), None).await.0, 404);
}
