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
const NAMES: [(&str, &str); 14] = [
    // Those that signed in without a token.
    ("vnodg0", "vol-1"),
    ("vnode1", "vol-5"),
    ("vnode2", "vol-6"),
    ("vnode3", "vol-7"),
    ("vnode4", "vol-8"),
    ("volunteer-1.example.org", "vol-4"),
    ("node-1", "vol-1"),
    ("node-2", "vol-2"),
    ("node-3", "vol-3"),
    // The resource that was deleted there is Dead here, and listed.
    ("details.json?offset=5", "details.json?offset=6"),
    ("\"offset\": 5,", "\"offset\": 6,"),
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
    pub(crate) async fn start(with_old_agents: bool) -> Self {
        // Users are named by a proxy's word, tokens and a password: this is the proxy, and alice has one.
        let mut options = vec!["--trusted-proxy", "127.0.0.1"];
        if with_old_agents {
            options.extend(["--compat", "ruby-agent"]);
        }
        let site = Site::start_with(&options).await;
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
            // What ran between: fifteen jobs have ended well, bob's among them.
            332 => {
                let job = json!({ "command": "x", "array": 4 });
                let first = self.submit(&self.bob, job).await;
                self.run(&[first, first + 1, first + 2, first + 3]).await;
            }
            414 => {
                self.machines_join().await;
                self.set(3, ResourceState::Dead).await;
                self.set_all(ResourceState::Absent).await;
                self.submit(&self.site.alice, json!({ "command": "x", "array": 267 })).await;
                for job in 1..=62 {
                    self.delete(job).await;
                }
                let held = self.hold_all_but(&[63]).await;
                self.begin(63).await;
                self.held = held;
                self.let_go().await;
            }
            245..=303 => self.before_in_a_life(n).await,
            337..=406 => self.before_of_old(n).await,
            1004 => {
                let jobs = json!({ "command": "x", "array": 61 });
                assert_eq!(self.submit(&self.bob, jobs).await, 1);
                let path = "/jobs/array/1/deletions/new.json";
                self.site.send(Method::POST, path, Some(&self.bob), None).await;
                let job = json!({
                    "command": "cat work/in.txt",
                    "type": "desktop_computing",
                    "name": "rubyjob",
                    "resource": "/resource_id=1,walltime=0:10:00",
                });
                assert_eq!(self.submit(&self.site.alice, job).await, 62);
            }
            _ => {}
        }
    }

    /// One job after the other: 32 runs and is deleted, 34 ends by itself, 35 by its walltime.
    async fn before_in_a_life(&mut self, n: u32) {
        match n {
            245 => {
                self.machines_join().await;
                self.set(3, ResourceState::Dead).await;
                self.set_all(ResourceState::Absent).await;
                self.submit(&self.bob, json!({ "command": "x", "array": 31 })).await;
                let path = "/jobs/array/1/deletions/new.json";
                self.site.send(Method::POST, path, Some(&self.bob), None).await;
            }
            247 => self.begin(32).await,
            276 => self.site.answer_kill(&self.agents[0], 32, 1).await,
            284 => {
                self.delete(33).await;
                let resource = "/resource_id=1,walltime=0:05:00";
                let job = json!({ "command": "echo fine; exit 3", "name": "short", "resource": resource });
                assert_eq!(self.submit(&self.site.alice, job).await, 34);
                self.site.acknowledge(&self.agents[0], 34, 1).await;
                let body = json!({ "state": "terminated", "generation": 1, "exit_code": 768 });
                self.site.report(&self.agents[0], 34, body).await;
            }
            287 => {
                let resource = "/resource_id=1,walltime=0:00:10";
                let job = json!({ "command": "sleep 600", "name": "wall", "resource": resource });
                assert_eq!(self.submit(&self.site.alice, job).await, 35);
                self.site.acknowledge(&self.agents[0], 35, 1).await;
            }
            291 => {
                let job =
                    json!({ "command": "sleep 100", "resource": "/nodes=2,walltime=0:05:00" });
                assert_eq!(self.submit(&self.site.alice, job).await, 37);
            }
            302 => {
                let job = json!({ "command": "sleep 100" });
                assert_eq!(self.submit(&self.site.alice, job).await, 39);
            }
            303 => {
                // The time passes, and the machine is heard meanwhile.
                for _ in 0..3 {
                    self.site.clock.advance(Duration::from_secs(30));
                    self.site.orders(&self.agents[0], "toKill").await;
                }
                let id = JobId(35);
                let is_ending = |cluster: &std::sync::Arc<coordinator_core::Cluster>| {
                    cluster.job(id).is_some_and(|job| job.verdict.is_some())
                };
                self.site.until("the walltime is noticed", is_ending).await;
                self.site.answer_kill(&self.agents[0], 35, 1).await;
            }
            _ => {}
        }
    }

    /// Agents that signed in without a token.
    async fn before_of_old(&mut self, n: u32) {
        let (alice, resource) = (self.site.alice.clone(), "/resource_id=1,walltime=0:10:00");
        let desktop = |command: &str| json!({ "command": command, "type": "desktop_computing", "resource": resource });
        match n {
            337 | 401 => {
                self.machines_join().await;
                self.set(3, ResourceState::Dead).await;
                self.set_all(ResourceState::Absent).await;
                if n == 337 {
                    self.submit(&self.bob, json!({ "command": "x", "array": 51 })).await;
                    let path = "/jobs/array/1/deletions/new.json";
                    self.site.send(Method::POST, path, Some(&self.bob), None).await;
                }
            }
            // The first one alone is left.
            343 => {
                for number in [6, 7] {
                    self.take_away(number).await;
                }
            }
            372 => assert_eq!(self.submit(&alice, desktop("false")).await, 53),
            375 => {
                assert_eq!(self.submit(&alice, desktop("sleep 1000")).await, 54);
                let path = "/jobs/54/state.json";
                let body = json!({ "state": "running" });
                self.site.send(Method::POST, path, Some(&alice), Some(body)).await;
            }
            381 => assert_eq!(self.submit(&alice, desktop("sleep 1000")).await, 55),
            385 => {
                let mut job = desktop("sleep 1000");
                job["resource"] = json!("/resource_id=1,walltime=0:00:10");
                assert_eq!(self.submit(&alice, job).await, 56);
                let body = json!({ "state": "running" });
                self.site.send(Method::POST, "/jobs/56/state.json", Some(&alice), Some(body)).await;
                self.poll_for_a_while("vol-5").await;
                let id = JobId(56);
                let is_ending = |cluster: &std::sync::Arc<coordinator_core::Cluster>| {
                    cluster.job(id).is_some_and(|job| job.verdict.is_some())
                };
                self.site.until("the walltime is noticed", is_ending).await;
            }
            388 => {
                let body = json!({ "state": "error" });
                self.site.send(Method::POST, "/jobs/56/state.json", Some(&alice), Some(body)).await;
            }
            395 => {
                let job = json!({ "command": "sleep 60", "resource": resource });
                assert_eq!(self.submit(&self.bob, job).await, 58);
            }
            // No machine of two cores takes jobs of this kind.
            400 => {
                for number in [1, 2] {
                    self.set(number, ResourceState::Dead).await;
                }
            }
            406 => self.poll_for_a_while("vol-5").await,
            _ => {}
        }
    }

    /// A node without a token is there all the time.
    async fn poll_for_a_while(&self, name: &str) {
        for _ in 0..3 {
            self.site.clock.advance(Duration::from_secs(30));
            let path = format!("/resources/nodes/{name}/jobs.json?state=toLaunch");
            self.site.send(Method::GET, &path, None, None).await;
        }
    }

    /// The first machine runs the job.
    async fn begin(&mut self, job: u64) {
        self.set(1, ResourceState::Alive).await;
        self.site.acknowledge(&self.agents[0], job, 1).await;
    }

    async fn delete(&self, job: u64) {
        self.site
            .send(Method::DELETE, &format!("/jobs/{job}.json"), Some(&self.site.alice), None)
            .await;
    }

    async fn take_away(&self, number: u64) {
        let set = move |draft: &mut Draft<'_>| {
            draft.set_node_state(NodeNumber(number), ResourceState::Absent)
        };
        self.site.server.app.ledger.decide(set).await.unwrap().unwrap();
    }

    /// What the recorded server did with a request that is refused here: the job, as far as there can be one,
    /// so that the next ones have their numbers.
    pub(crate) async fn after(&mut self, exchange: &Exchange, answer: &Answer) {
        if answer.status == 401 && exchange.status == 200 {
            // Nobody was let in who says nothing of himself: the agent's user says it.
            let path = exchange.path.strip_prefix("/oarapi").unwrap();
            let request = self.site.request(Method::POST, path, Some(&self.site.alice));
            let kind = exchange.headers.get("Content-Type").map_or("", String::as_str);
            let body: Vec<u8> =
                exchange.body.iter().flat_map(|body| body.chars()).map(byte).collect();
            let request = request.header("Content-Type", kind).body(body);
            request.send().await.unwrap();
            return;
        }
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

/// A character is a byte in the recording.
fn byte(letter: char) -> u8 {
    u8::try_from(letter).unwrap()
}
