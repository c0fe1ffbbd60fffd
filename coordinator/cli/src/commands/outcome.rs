//! `oar wait`, `oar fetch`, `oar logs`: a job's end and what it leaves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use coordinator_api::job::Job;
use coordinator_client::client::JobOutput;
use coordinator_client::{Client, ClientError};
use tokio::time::{Instant, sleep};

use super::stat;
use crate::failure::Failure;
use crate::{login, output, results};

/// Exit code of `oar wait` when the time is over (that of timeout(1)).
const TIMED_OUT: u8 = 124;

/// Exit code of `oar wait` for a job that was killed or could not run.
const NO_EXIT_CODE: u8 = 125;

/// How often the job is asked for: quickly at first, for short jobs.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Failures in a row, when the coordinator cannot be reached: more than a minute at the longest interval.
const MAX_FAILURES: u32 = 40;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  those of the job's command (128 + N when signal N ended it)
  124  the time is over, the job goes on
  125  the job was killed or could not run: `oar events ID` says why
  1 to 6 also as for the other commands, with a sentence on the standard error")]
pub(crate) struct Wait {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    /// Stop waiting after this time, such as `60s` or `2h`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = login::client()?;
        let ended = until_end(&client, self.job);
        let job = match self.timeout {
            None => ended.await?,
            Some(limit) => match tokio::time::timeout_at(Instant::now() + limit, ended).await {
                Ok(job) => job?,
                Err(_) => {
                    eprintln!("oar: job {} has not ended after {limit:?}", self.job);
                    return Ok(ExitCode::from(TIMED_OUT));
                }
            },
        };
        let message = output::plain_line(&job.message);
        eprintln!("job {}: {} {message}", job.id, stat::name(job.state));
        Ok(ExitCode::from(job.exit_code.map_or(NO_EXIT_CODE, exit_code)))
    }
}

async fn until_end(client: &Client, id: u64) -> Result<Job, Failure> {
    let (mut interval, longest) = ASK_EVERY;
    let mut failures = 0;
    loop {
        match client.job(id).await {
            Ok(job) if job.state.is_final() => return Ok(job),
            Ok(_) => failures = 0,
            Err(error) if error.is_transient() && failures < MAX_FAILURES => failures += 1,
            Err(error) => return Err(Failure::of_job(id)(error)),
        }
        sleep(interval).await;
        interval = (interval * 5 / 4).min(longest);
    }
}

/// What a shell makes of a raw wait status.
fn exit_code(status: i32) -> u8 {
    let [_, _, code, signal] = status.to_be_bytes();
    match signal & 0x7f {
        0 => code,
        signal => 128 + signal,
    }
}

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    /// Folder that the results go to; made if missing [default: results-ID]
    #[arg(short = 'o', long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Fetch {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        let dir = self.output.unwrap_or_else(|| format!("results-{}", self.job).into());
        let existed = dir.exists();
        std::fs::create_dir_all(&dir).map_err(Failure::file(&dir))?;
        let archive = match results::download(&client, self.job, &dir).await {
            Ok(archive) => archive,
            Err(error) => {
                if !existed {
                    // Only if it is empty, which it should be.
                    std::fs::remove_dir(&dir).ok();
                }
                return Err(error);
            }
        };
        for path in results::unpack(archive.path(), &dir)? {
            let path = output::plain_line(&path.display().to_string());
            eprintln!("oar: left out {path}: it could do harm outside the folder");
        }
        output::print(&format!("Results of job {} are in {}\n", self.job, dir.display()))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    /// Go on until the job has ended, with what it writes as it comes: of the first rank, or the one that --rank names
    #[arg(short = 'f', long)]
    follow: bool,
    /// The standard error instead
    #[arg(short = 'e', long)]
    stderr: bool,
    /// Only this rank
    #[arg(long, value_name = "K")]
    rank: Option<u16>,
}

impl Logs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        let mut shown = None;
        if self.follow {
            shown = self.follow(&client).await?.then(|| self.rank.unwrap_or(0));
            if shown.is_some() && self.rank.is_some() {
                return Ok(());
            }
        }
        let job = client.job(self.job).await.map_err(Failure::of_job(self.job))?;
        if !job.state.is_final() && self.so_far(&client).await? {
            return Ok(());
        }
        let archive = match results::download(&client, self.job, &std::env::temp_dir()).await {
            // A job that was killed early may have left nothing but what was seen.
            Err(Failure::LeftNoResults { .. }) if shown.is_some() => return Ok(()),
            archive => archive?,
        };
        let suffix = if self.stderr { ".stderr" } else { ".stdout" };
        let folder = |rank: u16| format!("rank-{rank}");
        let (only, shown) = (self.rank.map(folder), shown.map(folder));
        let wanted = |path: &Path| {
            let (rank, name) = rank_and_name(path)?;
            let other = only.as_ref().is_some_and(|only| only != rank)
                || shown.as_ref().is_some_and(|shown| shown == rank);
            (name.starts_with("OAR.") && name.ends_with(suffix) && !other).then_some(())
        };
        let mut files = 0;
        results::for_each_file(archive.path(), |path, _| {
            files += usize::from(wanted(path).is_some());
            Ok(())
        })?;
        let mut output = Ok(());
        results::for_each_file(archive.path(), |path, content| {
            if wanted(path).is_some() && output.is_ok() {
                output = print_log(path, content, files > 1 || shown.is_some());
            }
            Ok(())
        })?;
        output.map_err(Failure::Output)
    }
}

impl Logs {
    fn stream(&self) -> &'static str {
        if self.stderr { "stderr" } else { "stdout" }
    }

    /// None of a coordinator that has no such route.
    async fn output(&self, client: &Client, offset: u64) -> Result<Option<JobOutput>, ClientError> {
        let rank = self.rank.unwrap_or(0);
        match client.output(self.job, rank, self.stream(), offset).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            asked => asked,
        }
    }

    /// Prints what comes, to the job's end. False, at that end, for a coordinator that cannot show it before.
    async fn follow(&self, client: &Client) -> Result<bool, Failure> {
        let (mut interval, longest) = ASK_EVERY;
        let (mut offset, mut launch, mut failures) = (0, None, 0);
        loop {
            match self.output(client, offset).await.transpose() {
                // It knows no such thing, or no such job.
                None => {
                    until_end(client, self.job).await?;
                    return Ok(false);
                }
                Some(Ok(part)) if launch.is_some_and(|known| known != part.launch) => {
                    eprintln!("oar: job {} began anew", self.job);
                    (launch, offset) = (Some(part.launch), 0);
                    continue;
                }
                Some(Ok(part)) => {
                    failures = 0;
                    let is_new = !part.content.is_empty();
                    print_bytes(&part.content).map_err(Failure::Output)?;
                    offset += part.content.len() as u64;
                    // Nothing was written by a launch that has not begun.
                    launch = (offset > 0).then_some(part.launch);
                    if part.is_complete && !is_new {
                        return Ok(true);
                    }
                    if is_new {
                        interval = ASK_EVERY.0;
                    }
                }
                Some(Err(error)) if error.is_transient() && failures < MAX_FAILURES => {
                    failures += 1;
                }
                Some(Err(error)) => return Err(Failure::of_job(self.job)(error)),
            }
            sleep(interval).await;
            interval = (interval * 5 / 4).min(longest);
        }
    }

    /// Prints what is here of a job that runs. False when nothing is.
    async fn so_far(&self, client: &Client) -> Result<bool, Failure> {
        let content = self.output(client, 0).await?.map(|part| part.content).unwrap_or_default();
        print_bytes(&content).map_err(Failure::Output)?;
        Ok(!content.is_empty())
    }
}

fn print_bytes(content: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(content)?;
    stdout.flush()
}

/// A file right in a rank's folder.
fn rank_and_name(path: &Path) -> Option<(&str, &str)> {
    path.to_str()?.split_once('/').filter(|(_, name)| !name.contains('/'))
}

fn print_log(path: &Path, content: &mut dyn std::io::Read, title: bool) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if title {
        writeln!(stdout, "==> {} <==", output::plain_line(&path.display().to_string()))?;
    }
    std::io::copy(content, &mut stdout)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_wait_statuses_become_shell_codes() {
        for (status, code) in [(0, 0), (768, 3), (0xff00, 255), (9, 137), (0x8b, 139)] {
            assert_eq!(exit_code(status), code, "{status}");
        }
    }
}
