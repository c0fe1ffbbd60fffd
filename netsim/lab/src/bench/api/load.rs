//! The loads.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, sleep_until};

use super::line::{Answer, Line, Request};
use super::site::{Agent, Site};

/// Connections that ask as fast as they are answered.
const LANES: usize = 64;

/// Connections that ask for long lists: fewer, or each waits for the others' bytes.
const LIST_LANES: usize = 8;

/// Jobs of one array that are deleted together.
const ARRAY: usize = 10_000;

/// State changes that go on beside the lists: a job in so long is submitted, taken and ended.
const FLOW: Duration = Duration::from_millis(40);

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Result {
    /// Answers a second.
    pub(super) rate: f64,
    /// Seconds that each answer took, sorted.
    pub(super) times: Vec<f64>,
    /// What went wrong, the first of them in words.
    pub(super) errors: usize,
    pub(super) first_error: Option<String>,
}

impl Result {
    /// The time that this share of the answers was quicker than; seconds.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.times.len().checked_sub(1)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a list"
        )]
        let at = (last as f64 * share).ceil() as usize;
        self.times.get(at).copied()
    }

    fn of(times: Vec<f64>, elapsed: Duration) -> Self {
        let mut times = times;
        times.sort_by(f64::total_cmp);
        #[allow(clippy::cast_precision_loss, reason = "a count")]
        let rate = times.len() as f64 / elapsed.as_secs_f64();
        Self { rate, times, errors: 0, first_error: None }
    }
}

fn submit_as(token: &str) -> Request {
    let body = json!({ "command": "true", "resource": "core=1,walltime=1" }).to_string();
    Request::new("POST", "/jobs.json", Some(token), &body)
}

fn poll(agent: &Agent, state: &str, wait: &str) -> Request {
    let path = format!("/resources/nodes/{}/jobs.json?state={state}{wait}", agent.name);
    Request::new("GET", &path, Some(&agent.credential), "")
}

fn says(agent: &Agent, job: u64, generation: u64, state: &str) -> Request {
    let mut body = json!({ "state": state, "generation": generation });
    if state == "terminated" {
        body["exit_code"] = json!(0);
    }
    Request::new(
        "POST",
        &format!("/jobs/{job}/state.json"),
        Some(&agent.credential),
        &body.to_string(),
    )
}

/// The jobs of a poll's answer.
fn orders_of(answer: &Answer) -> anyhow::Result<Vec<(u64, u64)>> {
    let body = answer.json(200)?;
    let number = |item: &Value, key: &str| item[key].as_u64().context("an item without a number");
    let items = body["items"].as_array().context("no items")?;
    items.iter().map(|item| Ok((number(item, "id")?, number(item, "generation")?))).collect()
}

/// Asks on so many lines, as fast as it is answered.
async fn ask_all(
    site: &Site,
    requests: Vec<Request>,
    status: u16,
    each: Duration,
) -> anyhow::Result<Result> {
    let lines = try_join_all(requests.iter().map(|_| Line::open(site))).await?;
    let begun = Instant::now();
    let lane = |(mut line, request): (Line, Request)| async move {
        let mut times = Vec::new();
        while begun.elapsed() < each {
            let asked = Instant::now();
            let answer = line.ask(&request).await?;
            ensure!(
                answer.status == status,
                "answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            times.push(asked.elapsed().as_secs_f64());
        }
        anyhow::Ok(times)
    };
    let lanes = try_join_all(lines.into_iter().zip(requests).map(lane)).await?;
    Ok(Result::of(lanes.concat(), begun.elapsed()))
}

/// Polls, each line with a credential of its own.
pub(super) async fn polls(site: &Site, agents: &[Agent], each: Duration) -> anyhow::Result<Result> {
    let requests =
        agents.iter().rev().take(LANES).map(|agent| poll(agent, "toLaunch", "")).collect();
    ask_all(site, requests, 200, each).await
}

/// The same question on some lines.
pub(super) async fn asks(site: &Site, path: &str, each: Duration) -> anyhow::Result<Result> {
    let request = Request::new("GET", path, Some(&site.user), "");
    ask_all(site, vec![request; LIST_LANES], 200, each).await
}

/// Submissions; each is on the disk when it is answered.
pub(super) async fn submissions(site: &Site, each: Duration) -> anyhow::Result<Result> {
    ask_all(site, vec![submit_as(&site.user); LANES], 201, each).await
}

/// These agents run a job each.
pub(super) async fn begin_jobs(site: &Site, agents: &[Agent]) -> anyhow::Result<()> {
    let mut user = Line::open(site).await?;
    let request = submit_as(&site.user);
    for _ in agents {
        user.ask(&request).await?.json(201)?;
    }
    for agent in agents {
        for (job, generation) in orders_of(&user.ask(&poll(agent, "toLaunch", "")).await?)? {
            let said = user.ask(&says(agent, job, generation, "running")).await?;
            ensure!(said.status == 200, "a report was answered {}", said.status);
        }
    }
    Ok(())
}

/// Jobs that have ended: arrays, deleted before they run.
pub(super) async fn history(site: &Site, count: usize) -> anyhow::Result<()> {
    let mut line = Line::open(site).await?;
    let mut left = count;
    while left > 0 {
        let size = left.min(ARRAY);
        let body = json!({ "command": "true", "resource": "core=1", "array": size, "hold": 1 });
        let request = Request::new("POST", "/jobs.json", Some(&site.user), &body.to_string());
        let array = line.ask(&request).await?.json(201)?["id"].as_u64().context("no id")?;
        let path = format!("/jobs/array/{array}/deletions/new.json");
        line.ask(&Request::new("POST", &path, Some(&site.user), "")).await?.json(202)?;
        left -= size;
    }
    Ok(())
}

/// Jobs that are submitted, run and end, while something else is measured.
pub(super) struct Flow {
    task: JoinHandle<anyhow::Result<()>>,
    over: tokio::sync::watch::Sender<bool>,
}

impl Flow {
    pub(super) fn start(site: &Site, agents: &[Agent]) -> Self {
        let (over, mut watched) = tokio::sync::watch::channel(false);
        let (door, submit, agents) = (site.door.clone(), submit_as(&site.user), agents.to_vec());
        let task = tokio::spawn(async move {
            let mut line = Line::through(&door).await?;
            // The scheduler takes the first that is free.
            let first = agents.first().context("nobody to run jobs")?;
            loop {
                tokio::select! {
                    _ = watched.changed() => return Ok(()),
                    () = sleep(FLOW) => {}
                }
                line.ask(&submit).await?.json(201)?;
                for (job, generation) in orders_of(&line.ask(&poll(first, "toLaunch", "")).await?)?
                {
                    line.ask(&says(first, job, generation, "running")).await?;
                    let ended = line.ask(&says(first, job, generation, "terminated")).await?;
                    ensure!(ended.status == 200, "a report was answered {}", ended.status);
                }
            }
        });
        Self { task, over }
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.over.send_replace(true);
        self.task.await.context("state changes broke off")?.context("state changes")
    }
}

/// How the crowd polls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    /// How long it is measured, once all are connected.
    pub(super) measured: Duration,
    /// Jobs a second.
    pub(super) submissions: u32,
}

/// What the agents of a crowd have in common.
struct Seen {
    from: Instant,
    until: Instant,
    times: RefCell<Vec<f64>>,
    errors: RefCell<Vec<String>>,
}

impl Seen {
    async fn ask(&self, line: &mut Line, request: &Request) -> anyhow::Result<Answer> {
        let asked = Instant::now();
        let answer = line.ask(request).await?;
        ensure!(
            answer.status == 200,
            "answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if asked >= self.from {
            self.times.borrow_mut().push(asked.elapsed().as_secs_f64());
        }
        Ok(answer)
    }
}

/// Agents as the paper's: a connection and a credential each, two polls every so often, and jobs that begin and end.
pub(super) async fn crowd(site: &Site, agents: Vec<Agent>, pace: Pace) -> anyhow::Result<Result> {
    let begun = Instant::now();
    // All connect within the first interval; the second one is without handshakes.
    let from = begun + pace.interval * 2;
    let seen = Seen {
        from,
        until: from + pace.measured,
        times: RefCell::default(),
        errors: RefCell::default(),
    };
    let seen = Rc::new(seen);
    let count = u32::try_from(agents.len()).unwrap_or(u32::MAX);
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut tasks = Vec::with_capacity(agents.len());
            for (index, agent) in (0..).zip(agents) {
                let (door, seen) = (site.door.clone(), seen.clone());
                let start = begun + pace.interval.mul_f64(f64::from(index) / f64::from(count));
                tasks.push(spawn_local(async move {
                    sleep_until(start.into()).await;
                    let life = async {
                        let mut line = Line::through(&door).await?;
                        one_of_crowd(&mut line, &agent, &seen, start, pace.interval).await
                    };
                    if let Err(error) = life.await {
                        seen.errors.borrow_mut().push(format!("{}: {error:#}", agent.name));
                    }
                }));
            }
            let mut user = Line::open(site).await?;
            let submit = submit_as(&site.user);
            while Instant::now() < seen.until {
                sleep(Duration::from_secs(1) / pace.submissions).await;
                user.ask(&submit).await?.json(201)?;
            }
            for task in tasks {
                task.await.context("an agent broke off")?;
            }
            anyhow::Ok(())
        })
        .await?;
    let times = seen.times.take();
    let errors = seen.errors.take();
    let mut result = Result::of(times, pace.measured);
    result.errors = errors.len();
    result.first_error = errors.into_iter().next();
    Ok(result)
}

async fn one_of_crowd(
    line: &mut Line,
    agent: &Agent,
    seen: &Seen,
    start: Instant,
    interval: Duration,
) -> anyhow::Result<()> {
    let (launch, kill) = (poll(agent, "toLaunch", ""), poll(agent, "toKill", ""));
    let mut next = start;
    let mut running: Vec<(u64, u64)> = Vec::new();
    while next < seen.until {
        for (job, generation) in std::mem::take(&mut running) {
            seen.ask(line, &says(agent, job, generation, "terminated")).await?;
        }
        for (job, generation) in orders_of(&seen.ask(line, &launch).await?)? {
            seen.ask(line, &says(agent, job, generation, "running")).await?;
            running.push((job, generation));
        }
        seen.ask(line, &kill).await?;
        next += interval;
        sleep_until(next.into()).await;
    }
    Ok(())
}

/// The time from a submission to the moment at which an agent has the job, while all others wait as well.
pub(super) async fn orders(
    site: &Site,
    agents: Vec<Agent>,
    each: Duration,
) -> anyhow::Result<Result> {
    const WAITING: Duration = Duration::from_millis(25);
    let taken: Rc<RefCell<Vec<(u64, Instant)>>> = Rc::default();
    let errors: Rc<RefCell<Vec<String>>> = Rc::default();
    let local = LocalSet::new();
    let (submitted, elapsed) = local
        .run_until(async {
            let mut tasks = Vec::new();
            for lane in agents.chunks(agents.len().div_ceil(LANES)) {
                let lines = lane.iter().map(|_| Line::open(site));
                for (mut line, agent) in try_join_all(lines).await?.into_iter().zip(lane.to_vec()) {
                    let (taken, errors) = (taken.clone(), errors.clone());
                    tasks.push(spawn_local(async move {
                        if let Err(error) = waits(&mut line, &agent, &taken).await {
                            errors.borrow_mut().push(format!("{}: {error:#}", agent.name));
                        }
                    }));
                }
            }
            let mut user = Line::open(site).await?;
            let request = submit_as(&site.user);
            let (mut submitted, begun) = (Vec::new(), Instant::now());
            while begun.elapsed() < each {
                let at = Instant::now();
                let id = user.ask(&request).await?.json(201)?["id"].as_u64().context("no id")?;
                submitted.push((id, at));
                sleep(WAITING).await;
            }
            let patience = Instant::now() + Duration::from_secs(20);
            while taken.borrow().len() < submitted.len() && errors.borrow().is_empty() {
                if Instant::now() > patience {
                    bail!("{} of {} jobs were taken", taken.borrow().len(), submitted.len());
                }
                sleep(WAITING).await;
            }
            tasks.iter().for_each(JoinHandle::abort);
            anyhow::Ok((submitted, begun.elapsed()))
        })
        .await?;
    let taken = taken.take();
    let time = |(id, at): (u64, Instant)| {
        let (_, had) = taken.iter().find(|(job, _)| *job == id)?;
        Some(had.duration_since(at).as_secs_f64())
    };
    let mut result = Result::of(submitted.into_iter().filter_map(time).collect(), elapsed);
    let errors = errors.take();
    result.errors = errors.len();
    result.first_error = errors.into_iter().next();
    Ok(result)
}

async fn waits(
    line: &mut Line,
    agent: &Agent,
    taken: &RefCell<Vec<(u64, Instant)>>,
) -> anyhow::Result<()> {
    let waiting = poll(agent, "toLaunch", "&wait=25");
    loop {
        for (job, generation) in orders_of(&line.ask(&waiting).await?)? {
            taken.borrow_mut().push((job, Instant::now()));
            line.ask(&says(agent, job, generation, "running")).await?;
            line.ask(&says(agent, job, generation, "terminated")).await?;
        }
    }
}
