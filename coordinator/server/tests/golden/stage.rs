//! Brings the coordinator to the state that OAR was in when an exchange was recorded.
//!
//! The recorded machines have names of ours: each by the number of its resources, which are the same then.
//! What happened between the recorded exchanges (machines that join, jobs that run and end) is done here, by
//! agents that the test plays.

use std::time::Duration;

use coordinator::password::hash_password;
use coordinator::role::Role;
use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;
use coordinator_core::{Actor, Draft, JobId, NodeNumber};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Exchange;
use crate::replay::Answer;
use crate::site::{Agent, Site, archive, enrolment};

/// Recorded names and ours. The cores of these machines are the recorded resources 1 to 6.
const NAMES: [(&str, &str); 7] = [
    ("volunteer-1.example.org", "vol-4"),
    ("node-1", "vol-1"),
    ("node-2", "vol-2"),
    ("node-3", "vol-3"),
    // Ten minutes around the recording, and all time until the reservations.
    ("from=1795318054", "from=0"),
    ("to=1795319254", "to=4000000000"),
    // A date to come, when this is replayed.
    ("2026-11-22 23:37:34", "2099-11-22 23:37:34"),
];

const CORES: [u16; 4] = [2, 2, 1, 1];

/// A recorded line with our names.
pub(crate) fn with_our_names(line: &str) -> String {
    NAMES.iter().fold(line.to_owned(), |line, (theirs, ours)| line.replace(theirs, ours))
}

pub(crate) struct Stage {
    pub(crate) site: Site,
    bob: String,
    agents: Vec<Agent>,
    /// Jobs that wait until others have run.
    held: Vec<JobId>,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        // Users are named by a proxy's word, tokens and a password: this is the proxy, and alice has one.
        let site = Site::start_with(&["--trusted-proxy", "127.0.0.1"]).await;
        let password = hash_password("alicepw").unwrap();
        site.server.app.store.set_password("alice", Some(&password)).await.unwrap();
        let bob = site.add_user("bob").await;
        site.add_user_as("oar", Role::Admin).await;
        Self { site, bob, agents: Vec::new(), held: Vec::new() }
    }

    /// What happened before exchange `n`, after the one before it.
    pub(crate) async fn before(&mut self, n: u32) {
        match n {
            // The recorded requests that made these resources are refused here.
            69 | 112 | 411 => self.machines_join().await,
            146 => {
                self.machines_join().await;
                // Resource 5 was deleted; nothing ran yet when a job was submitted.
                self.set(3, ResourceState::Dead).await;
                self.set_all(ResourceState::Absent).await;
            }
            // OAR keeps the reservation that it refused: job 25.
            187 => {
                let held = self.hold_all_but(&[]).await;
                self.set_all(ResourceState::Alive).await;
                let job = json!({ "command": "x", "reservation": "2099-11-22 23:37:34" });
                assert_eq!(self.submit(&self.bob, job).await, 25);
                self.set_all(ResourceState::Absent).await;
                self.site.send(Method::DELETE, "/jobs/25.json", Some(&self.bob), None).await;
                self.held = held;
                self.let_go().await;
            }
            // Jobs of before, so that the next ones have their numbers.
            304 | 407 => {
                self.machines_join().await;
                self.set_all(ResourceState::Absent).await;
                let before = if n == 304 { 39 } else { 265 };
                self.submit(&self.bob, json!({ "command": "x", "array": before })).await;
            }
            326 => {
                self.machines_join().await;
                self.submit(&self.site.alice, json!({ "command": "x", "array": 33 })).await;
                let job = json!({ "command": "echo fine; exit 3", "name": "short" });
                assert_eq!(self.submit(&self.site.alice, job).await, 34);
                self.set_all(ResourceState::Absent).await;
                self.run(&[34]).await;
            }
            // OAR looks at once whether a reservation is possible: machines must be there.
            182 => {
                self.held = self.hold_all_but(&[]).await;
                self.set_all(ResourceState::Alive).await;
            }
            184 => {
                self.set_all(ResourceState::Absent).await;
                self.let_go().await;
            }
            195 => {
                self.run(&[1, 4, 5, 6, 7, 8, 9, 10, 11, 12]).await;
                self.run(&[3]).await;
            }
            _ => {}
        }
    }

    /// What the recorded server did with a request that is refused here: the job, as far as there can be one,
    /// so that the next ones have their numbers.
    pub(crate) async fn after(&mut self, exchange: &Exchange, answer: &Answer) {
        let is_submission = exchange.method == "POST" && exchange.path.starts_with("/oarapi/jobs");
        if !is_submission || exchange.answer["id"].is_null() {
            return;
        }
        if answer.status == 201 && exchange.status == 201 {
            let number = |body: &Value| body["id"].to_string().trim_matches('"').to_owned();
            assert_eq!(number(&exchange.answer), number(&answer.body), "{}", exchange.n);
        } else if exchange.status == 201 {
            let sent = exchange.body.as_deref().and_then(|body| serde_json::from_str(body).ok());
            let sent: Value = sent.unwrap_or_default();
            let mut body = json!({ "command": sent["command"].as_str().unwrap_or("x") });
            for key in ["resource", "name", "array"] {
                if !sent[key].is_null() {
                    body[key] = sent[key].clone();
                }
            }
            let is_bobs = exchange.headers.get("X-REMOTE-IDENT").is_some_and(|name| name == "bob");
            let token = if is_bobs { &self.bob } else { &self.site.alice };
            let id = self.submit(token, body).await;
            assert_eq!(exchange.answer["id"], json!(id), "{}", exchange.n);
        }
    }

    async fn machines_join(&mut self) {
        for (seed, cores) in (0..).zip(CORES) {
            let token = self.site.add_token(Duration::from_secs(3600)).await;
            let mut body = enrolment(&token, seed);
            body["cores"] = json!(cores);
            let (status, body) = self.site.send(Method::POST, "/agents", None, Some(body)).await;
            assert_eq!(status, 201, "{body}");
            let text = |key: &str| body[key].as_str().unwrap().to_owned();
            self.agents.push(Agent { name: text("hostname"), credential: text("credential") });
        }
    }

    async fn set(&self, number: u64, state: ResourceState) {
        let set = move |draft: &mut Draft<'_>| draft.set_node_state(NodeNumber(number), state);
        self.site.server.app.ledger.decide(set).await.unwrap().unwrap();
        if state == ResourceState::Alive {
            // It is when it is heard.
            let agent = &self.agents[usize::try_from(number).unwrap() - 1];
            self.site.orders(agent, "toLaunch").await;
        }
    }

    async fn submit(&self, token: &str, body: Value) -> u64 {
        let answer = self.site.send(Method::POST, "/jobs.json", Some(token), Some(body)).await;
        assert_eq!(answer.0, 201, "{}", answer.1);
        answer.1["id"].as_u64().unwrap()
    }

    /// The results of a job that has written `fine`.
    async fn leave(&self, agent: &Agent, job: u64, generation: u64) {
        let file = self.site.job(job).await["stdout_file"].as_str().unwrap().to_owned();
        let path = format!("/jobs/{job}/stageout.tgz?generation={generation}");
        let request = self.site.request(Method::POST, &path, Some(&agent.credential));
        let sent = request.body(archive(&file, "fine\n")).send().await.unwrap();
        assert_eq!(sent.status(), 200);
    }

    /// All machines but the one that is Dead.
    async fn set_all(&self, state: ResourceState) {
        for number in [1, 2, 4] {
            self.set(number, state).await;
        }
    }

    /// Holds what waits, but for these.
    async fn hold_all_but(&self, jobs: &[u64]) -> Vec<JobId> {
        let ledger = &self.site.server.app.ledger;
        let cluster = ledger.cluster();
        let waiting = cluster.jobs().filter(|job| job.state == JobState::Waiting).map(|job| job.id);
        let held: Vec<JobId> = waiting.filter(|id| !jobs.contains(&id.0)).collect();
        for id in held.clone() {
            let hold = move |draft: &mut Draft<'_>| draft.hold(&Actor::operator("oar"), id);
            ledger.decide(hold).await.unwrap().unwrap();
        }
        held
    }

    async fn let_go(&mut self) {
        for id in std::mem::take(&mut self.held) {
            let go = move |draft: &mut Draft<'_>| draft.resume(&Actor::operator("oar"), id);
            self.site.server.app.ledger.decide(go).await.unwrap().unwrap();
        }
    }

    /// The first machine runs these jobs to their good end; the others wait meanwhile.
    async fn run(&mut self, jobs: &[u64]) {
        self.held = self.hold_all_but(jobs).await;
        self.set(1, ResourceState::Alive).await;
        let agent = &self.agents[0];
        let mut left = jobs.len();
        while left > 0 {
            let orders = self.site.orders(agent, "toLaunch").await;
            assert!(!orders.is_empty(), "{left} jobs do not start");
            for (job, generation) in orders {
                self.site.acknowledge(agent, job, generation).await;
                self.leave(agent, job, generation).await;
                let body =
                    json!({ "state": "terminated", "generation": generation, "exit_code": 0 });
                let (status, body) = self.site.report(agent, job, body).await;
                assert_eq!(status, 200, "{body}");
                left -= 1;
            }
        }
        self.set(1, ResourceState::Absent).await;
        self.let_go().await;
    }
}
