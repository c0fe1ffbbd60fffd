//! `oar wait`, `oar fetch`, `oar logs`: a job's end and what it leaves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use coordinator_api::job::Job;
use coordinator_client::Client;
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
    /// Wait for the job's end first: what it writes comes to the coordinator then
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
        if self.follow {
            until_end(&client, self.job).await?;
        }
        let archive = results::download(&client, self.job, &std::env::temp_dir()).await?;
        let suffix = if self.stderr { ".stderr" } else { ".stdout" };
        let only = self.rank.map(|rank| format!("rank-{rank}"));
        let wanted = |path: &Path| {
            let (rank, name) = rank_and_name(path)?;
            let other = only.as_ref().is_some_and(|only| only != rank);
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
                output = print_log(path, content, files > 1);
            }
            Ok(())
        })?;
        output.map_err(Failure::Output)
    }
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
