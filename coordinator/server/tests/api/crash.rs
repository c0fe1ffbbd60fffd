//! A coordinator that is killed again and again under load, at any moment.
//!
//! `CRASH_ROUNDS=200` for the long run. What must hold: no number is given out twice, no job that was accepted
//! is lost, none runs twice without being marked, none goes back from its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_client::Login;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::restart::{output, start};
use crate::site::{client, enrolment};

/// Kills of a usual run.
const ROUNDS: usize = 20;

const AGENTS: u8 = 4;
const SUBMITTERS: u8 = 3;

/// The longest life of a server, milliseconds.
const LONGEST_LIFE: u64 = 400;

/// Longer than all jobs take to end when nobody kills the server any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the clients were told.
#[derive(Default)]
struct Told {
    /// Jobs whose submission was answered 201.
    accepted: BTreeSet<u64>,
    /// Jobs whose deletion was asked for.
    deleted: BTreeSet<u64>,
    /// Launches that an agent carried out: it had said that it runs, and that was taken.
    runs: BTreeMap<u64, Vec<u64>>,
    /// Jobs whose end was taken.
    ended: BTreeSet<u64>,
    /// Final states that somebody has seen.
    finals: BTreeMap<u64, String>,
    /// What must not be.
    violations: Vec<String>,
}

#[derive(Clone)]
struct Clients {
    http: reqwest::Client,
    url: watch::Receiver<Option<String>>,
    stop: watch::Receiver<bool>,
    told: Arc<Mutex<Told>>,
}

impl Clients {
    fn told<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.told.lock().unwrap())
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// None: nobody answered, and whether it was done is not known.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let url = self.url.clone().wait_for(Option::is_some).await.ok()?.clone()?;
        let request = self.http.request(method.clone(), format!("{url}{path}")).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.ok()?;
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// Asks until somebody answers.
    async fn insist(&self, method: Method, path: &str, token: &str, body: Value) -> (u16, Value) {
        loop {
            match self.ask(&method, path, token, &body).await {
                Some((503, _)) | None => tokio::task::yield_now().await,
                Some(answer) => return answer,
            }
        }
    }

    async fn submit(self, user: String) {
        let body = json!({ "command": "true", "resource": "core=1,walltime=1" });
        while !self.is_over() {
            if let Some((201, body)) = self.ask(&Method::POST, "/jobs", &user, &body).await {
                let id = body["id"].as_u64().unwrap();
                self.told(|told| {
                    if !told.accepted.insert(id) {
                        told.violations.push(format!("the number {id} was given out twice"));
                    }
                });
            }
        }
    }

    /// Deletes a job now and then, and looks at others.
    async fn look(self, user: String, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        while !self.is_over() {
            let all: Vec<u64> = self.told(|told| told.accepted.iter().copied().collect());
            if all.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let id = all[random.random_range(0..all.len())];
            if random.random_range(0..10) == 0 {
                // Before the answer: a server that is killed has perhaps done it.
                self.told(|told| told.deleted.insert(id));
                self.ask(&Method::DELETE, &format!("/jobs/{id}"), &user, &Value::Null).await;
            }
            if let Some((status, job)) =
                self.ask(&Method::GET, &format!("/jobs/{id}"), &user, &Value::Null).await
            {
                self.told(|told| told.see(id, status, &job));
            }
        }
    }

    /// Does what its node is told, and says so until it is heard.
    async fn work(self, name: String, credential: String) {
        let path = format!("/resources/nodes/{name}/jobs.json?state=toLaunch");
        while !self.is_over() {
            let Some((200, body)) = self.ask(&Method::GET, &path, &credential, &Value::Null).await
            else {
                tokio::task::yield_now().await;
                continue;
            };
            for item in body["items"].as_array().unwrap() {
                let (job, generation) =
                    (item["id"].as_u64().unwrap(), item["generation"].as_u64().unwrap());
                let path = format!("/jobs/{job}/state");
                let says = |state: &str| json!({ "state": state, "generation": generation, "exit_code": 0 });
                let running = json!({ "state": "running", "generation": generation });
                if self.insist(Method::POST, &path, &credential, running).await.0 != 200 {
                    // Deleted meanwhile.
                    continue;
                }
                self.told(|told| told.runs.entry(job).or_default().push(generation));
                let (status, body) =
                    self.insist(Method::POST, &path, &credential, says("terminated")).await;
                self.told(|told| match status {
                    200 => drop(told.ended.insert(job)),
                    status => told.violations.push(format!("the end of {job}: {status} {body}")),
                });
            }
        }
    }
}

impl Told {
    fn see(&mut self, id: u64, status: u16, job: &Value) {
        match status {
            200 => {}
            503 => return,
            status => {
                return self.violations.push(format!("the accepted job {id} is {status}: {job}"));
            }
        }
        let state = job["state"].as_str().unwrap_or_default().to_owned();
        let is_final = ["Terminated", "Error"].contains(&&*state);
        match self.finals.get(&id) {
            Some(before) if *before != state => {
                self.violations.push(format!("job {id} was {before} and is {state}"));
            }
            None if is_final => drop(self.finals.insert(id, state)),
            Some(_) | None => {}
        }
    }
}

fn life(data: &Path) -> (Child, String, coordinator_client::RootPin) {
    let running = start(data);
    (running.child, running.url, running.root)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_nothing() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let rounds = std::env::var("CRASH_ROUNDS").ok().map_or(ROUNDS, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let (mut child, url, root) = life(data);
    let login: Login = output(&["user", "add", "alice"], data).parse().unwrap();
    let (shown, urls) = watch::channel(Some(url));
    let (stop, stopped) = watch::channel(false);
    let told = Arc::default();
    let clients = Clients { http: client(root), url: urls, stop: stopped, told };

    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..AGENTS {
        let token: coordinator_client::JoinToken = output(&["token", "add"], data).parse().unwrap();
        let body = enrolment(&token.token, seed);
        let (status, body) = clients.insist(Method::POST, "/agents", "", body).await;
        assert_eq!(status, 201, "{body}");
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        tasks.spawn(clients.clone().work(text("hostname"), text("credential")));
    }
    let mut submitters = tokio::task::JoinSet::new();
    for seed in 0..SUBMITTERS {
        submitters.spawn(clients.clone().submit(login.token.clone()));
        tasks.spawn(clients.clone().look(login.token.clone(), u64::from(seed)));
    }

    let mut random = StdRng::seed_from_u64(6);
    for _ in 0..rounds {
        // The moment is what is tested: any may be the wrong one.
        tokio::time::sleep(Duration::from_millis(random.random_range(1..LONGEST_LIFE))).await;
        child.kill().unwrap();
        shown.send_replace(None);
        child.wait().unwrap();
        let (next, url, _) = life(data);
        child = next;
        shown.send_replace(Some(url));
    }
    submitters.abort_all();

    // The rest is done in peace.
    let accepted = || clients.told(|told| told.accepted.clone());
    let peace = async {
        for id in accepted() {
            loop {
                let path = format!("/jobs/{id}");
                let (status, job) =
                    clients.insist(Method::GET, &path, &login.token, Value::Null).await;
                clients.told(|told| told.see(id, status, &job));
                if status != 200 || clients.told(|told| told.finals.contains_key(&id)) {
                    break;
                }
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, peace).await;
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let mut told = std::mem::take(&mut *clients.told.lock().unwrap());
    assert!(
        in_time.is_ok(),
        "jobs that never end: {:?}",
        told.accepted.iter().find(|id| !told.finals.contains_key(id))
    );
    for (job, runs) in &told.runs {
        if runs.len() > 1 {
            let path = format!("/jobs/{job}");
            let (_, shown) = clients.insist(Method::GET, &path, &login.token, Value::Null).await;
            let kinds: Vec<&str> = shown["events"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|it| it["type"].as_str())
                .collect();
            let marks = ["RESUBMIT_JOB_AUTOMATICALLY", "LAUNCHING_OAREXEC_TIMEOUT"];
            if !marks.iter().any(|mark| kinds.contains(mark)) {
                told.violations
                    .push(format!("job {job} ran in the launches {runs:?}, unmarked: {kinds:?}"));
            }
        }
    }
    for job in told.ended.difference(&told.deleted) {
        if told.accepted.contains(job) && told.finals[job] != "Terminated" {
            told.violations.push(format!("job {job} ended well and is {}", told.finals[job]));
        }
    }
    assert!(told.violations.is_empty(), "{:#?}", told.violations);
    assert!(told.accepted.len() > rounds && told.ended.len() > rounds, "there was a load");
    child.kill().unwrap();
    child.wait().unwrap();
}
