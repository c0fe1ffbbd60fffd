//! `agent status`: read from the disk, whether or not an agent runs; its network is asked of it.

pub mod network;

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

use self::network::NetworkStatus;
use crate::job::directory::JobDirectory;
use crate::local::client::ask;
use crate::local::protocol::{Answer, Ask};
use crate::owner::{self, Wishes};
use crate::state_dir::is_in_use;

/// What is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// An agent runs on this state directory.
    pub running: bool,
    /// The node's OAR host name, when it is a node.
    pub hostname: Option<String>,
    /// Its coordinator, or its plain OAR server.
    pub url: Option<String>,
    /// What its owner has said: limits, and whether jobs are taken or paused.
    pub owner: Wishes,
    /// The launches that it has.
    pub jobs: Vec<JobStatus>,
    /// Its network, when the agent runs and says so.
    pub network: Option<NetworkStatus>,
    /// Why the running agent says nothing of its network.
    pub network_error: Option<String>,
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// The job's number.
    pub job: u64,
    /// Its launch.
    pub generation: u32,
    /// `preparing`, `waiting`, `running`, `ended` or `reporting`.
    pub phase: &'static str,
}

/// Reads it.
///
/// # Errors
/// When the state directory cannot be read.
pub fn read(state: &Path) -> io::Result<Status> {
    let place = crate::oar::place(state)?;
    let folders = state.join("jobs");
    let mut jobs = Vec::new();
    for id in JobDirectory::all(&folders)? {
        let directory = JobDirectory::at(&folders, id);
        let phase = if directory.final_report()?.is_some() {
            "reporting"
        } else if directory.exit()?.is_some() {
            "ended"
        } else if directory.has_started() {
            "running"
        } else if directory.has_launch() {
            "waiting"
        } else {
            "preparing"
        };
        jobs.push(JobStatus { job: id.job, generation: id.generation, phase });
    }
    Ok(Status {
        running: is_in_use(state),
        hostname: place.as_ref().map(|found| found.node.clone()),
        url: place.map(|found| found.url),
        owner: owner::said(state)?,
        jobs,
        network: None,
        network_error: None,
    })
}

/// Reads it, and asks the running agent for its network.
///
/// # Errors
/// When the state directory cannot be read.
pub async fn read_and_ask(state: &Path) -> io::Result<Status> {
    let mut status = read(state)?;
    if !status.running {
        return Ok(status);
    }
    match ask(state, Ask::Network).await {
        Ok(Answer::Network(network)) => status.network = Some(*network),
        Ok(Answer::Pong(_) | Answer::Netcheck(_) | Answer::Owner(_) | Answer::Metrics { .. }) => {
            status.network_error = Some("the agent answered something else".into());
        }
        Err(error) => status.network_error = Some(error.to_string()),
    }
    Ok(status)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hostname, &self.url) {
            (Some(hostname), Some(url)) => writeln!(f, "node {hostname} of {url}")?,
            _ => writeln!(f, "not a node yet: `agent run --join TOKEN`")?,
        }
        match (self.running, &self.hostname) {
            (true, _) => writeln!(f, "the agent runs")?,
            (false, Some(_)) => writeln!(f, "the agent does not run: `agent run`")?,
            (false, None) => writeln!(f, "the agent does not run")?,
        }
        if self.owner.paused {
            writeln!(
                f,
                "its jobs are paused, and it takes no new ones: `agent continue` ends this"
            )?;
        } else if self.owner.draining {
            writeln!(f, "it takes no new jobs: `agent continue` ends this")?;
        }
        if self.jobs.is_empty() && self.hostname.is_some() {
            writeln!(f, "no jobs")?;
        }
        for job in &self.jobs {
            writeln!(f, "job {} (launch {}): {}", job.job, job.generation, job.phase)?;
        }
        if let Some(network) = &self.network {
            write!(f, "{network}")?;
        }
        if let Some(error) = &self.network_error {
            writeln!(f, "network: {error}")?;
        }
        Ok(())
    }
}
