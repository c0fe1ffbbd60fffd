//! `oarstat`.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Parser;
use coordinator_api::job::{Job, JobState, Why};
use coordinator_client::Client;
use coordinator_client::client::JobFilter;

use crate::failure::{EXIT_CODES, Failure};
use crate::output::{date, field, plain_line};
use crate::{login, output};

/// Jobs asked for in one page.
const PAGE: usize = 500;

/// Shows jobs: without options those that have not ended. Times are UTC.
#[derive(Debug, Parser)]
#[command(name = "oarstat", version, after_help = EXIT_CODES)]
pub(crate) struct Stat {
    /// Only this job, also when it has ended; may be repeated
    #[arg(short = 'j', long = "job", value_name = "ID")]
    jobs: Vec<u64>,
    /// The jobs of this array, also those that have ended
    #[arg(long, value_name = "ID", conflicts_with = "jobs")]
    array: Option<u64>,
    /// Why each job does not start, and when it will at the latest
    #[arg(long, requires = "jobs")]
    why: bool,
    /// Everything about each job
    #[arg(short = 'f', long)]
    full: bool,
    /// Only the jobs of this user; without a name: yours
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<Option<String>>,
    /// Only the states: `ID: STATE`
    #[arg(short = 's', long)]
    state: bool,
    /// Print JSON: an object with the jobs by their numbers
    #[arg(short = 'J', long)]
    json: bool,
}

impl Stat {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let login = login::load()?;
        let client = Client::for_login(&login)?;
        if self.why {
            return why(&client, &self.jobs, self.json).await;
        }
        let user = self.user.map(|name| name.unwrap_or(login.user));
        let jobs = if self.jobs.is_empty() {
            list(&client, user, self.array).await?
        } else {
            let mut jobs = Vec::new();
            for id in self.jobs {
                jobs.push(client.job(id).await.map_err(Failure::of_job(id))?);
            }
            jobs.retain(|job| user.as_ref().is_none_or(|user| *user == job.owner));
            jobs
        };
        if self.json {
            let by_id: BTreeMap<_, _> = jobs.iter().map(|job| (job.id, job)).collect();
            return output::print_json(&by_id);
        }
        output::print(&match (self.state, self.full) {
            (true, _) => {
                jobs.iter().map(|job| format!("{}: {}\n", job.id, name(job.state))).collect()
            }
            (false, true) => jobs.iter().map(full).collect::<Vec<_>>().join("\n"),
            (false, false) => table(&jobs),
        })
    }
}

async fn why(client: &Client, jobs: &[u64], json: bool) -> Result<(), Failure> {
    let mut all = Vec::with_capacity(jobs.len());
    for &id in jobs {
        all.push(client.why(id).await.map_err(Failure::of_job(id))?);
    }
    if json {
        return output::print_json(&all);
    }
    let line = |why: &Why| format!("{} {}: {}\n", why.id, name(why.state), plain_line(&why.reason));
    output::print(&all.iter().map(line).collect::<String>())
}

async fn list(
    client: &Client,
    user: Option<String>,
    array: Option<u64>,
) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::new();
    loop {
        let (limit, offset) = (Some(PAGE), Some(jobs.len()));
        let filter = JobFilter { user: user.clone(), array, limit, offset, ..JobFilter::default() };
        let page = client.job_details(&filter).await?;
        let empty = page.items.is_empty();
        jobs.extend(page.items);
        if empty || jobs.len() >= page.total {
            return Ok(jobs);
        }
    }
}

fn table(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{:<10} {:<14} {:<14} {:<19} S Queue\n{:-<10} {:-<14} {:-<14} {:-<19} - {:-<10}\n",
        "Job id", "Name", "User", "Submission Date", "", "", "", "", ""
    );
    for job in jobs {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<10} {:<14.14} {:<14.14} {:<19} {} {}",
            job.id,
            plain_line(job.name.as_deref().unwrap_or_default()),
            plain_line(&job.owner),
            date(job.submission_time),
            letter(job.state),
            plain_line(&job.queue),
        );
    }
    text
}

fn full(job: &Job) -> String {
    let mut text = format!("Job_Id: {}\n", job.id);
    let optional = |number: Option<i64>| number.map(|n| n.to_string()).unwrap_or_default();
    let events: Vec<_> = job
        .events
        .iter()
        .map(|event| format!("[{}] {}: {}", date(event.date), event.kind, event.description))
        .collect();
    for (key, value) in [
        ("job_array_id", job.array_id.to_string()),
        ("job_array_index", job.array_index.unwrap_or(1).to_string()),
        ("name", job.name.clone().unwrap_or_default()),
        ("project", job.project.clone()),
        ("owner", job.owner.clone()),
        ("state", name(job.state)),
        ("wanted_resources", job.wanted_resources.clone()),
        ("types", job.types.join(", ")),
        ("queue", job.queue.clone()),
        ("command", job.command.clone()),
        ("exit_code", optional(job.exit_code.map(i64::from))),
        ("launchingDirectory", job.launching_directory.clone()),
        ("stdout_file", job.stdout_file.clone()),
        ("stderr_file", job.stderr_file.clone()),
        ("jobType", job.kind.clone()),
        ("properties", job.properties.clone()),
        ("reservation", job.reservation.clone()),
        ("walltime", job.walltime.map(walltime).unwrap_or_default()),
        ("submissionTime", date(job.submission_time)),
        ("startTime", date(job.start_time)),
        ("stopTime", date(job.stop_time)),
        ("initial_request", job.initial_request.clone()),
        ("message", job.message.clone()),
        ("events", events.join(" , ")),
    ] {
        field(&mut text, key, &value);
    }
    text
}

/// OAR's `1:30:0`.
pub(super) fn walltime(seconds: u64) -> String {
    format!("{}:{}:{}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The state as the API names it.
pub(super) fn name(state: JobState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{state:?}"),
    }
}

/// oarstat's letters.
pub(super) fn letter(state: JobState) -> char {
    match state {
        JobState::Waiting | JobState::ToAckReservation => 'W',
        JobState::Hold => 'H',
        JobState::ToLaunch | JobState::Launching => 'L',
        JobState::ToError | JobState::Error => 'E',
        JobState::Running => 'R',
        JobState::Suspended | JobState::Resuming => 'S',
        JobState::Finishing => 'F',
        JobState::Terminated => 'T',
    }
}
