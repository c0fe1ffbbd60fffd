//! `oar top`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Parser;
use coordinator_api::job::{Job, JobState};
use coordinator_api::resource::{ResourceItem, ResourceState};
use coordinator_client::client::JobFilter;
use coordinator_client::{Client, ClientError};
use tokio::signal::unix::{SignalKind, signal};

use super::stat::{letter, walltime};
use crate::failure::{EXIT_CODES, Failure};
use crate::output::{date, plain_line};
use crate::{login, output};

/// The most jobs of a look. Chosen: more than a screen has lines.
const JOBS: usize = 200;

/// Shows the cluster and its jobs on the whole screen, again and again, until Ctrl-C. Where the output is no
/// terminal, once.
#[derive(Debug, Parser)]
#[command(name = "oar top", version, after_help = EXIT_CODES)]
pub(crate) struct Top {
    /// Time between two looks
    #[arg(short = 'd', long, value_name = "TIME", default_value = "2s", value_parser = delay)]
    delay: Duration,
    /// End after so many looks
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u32>,
    /// Only the jobs of this user; without a name: yours
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<Option<String>>,
}

impl Top {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let login = login::load()?;
        let client = Client::for_login(&login)?;
        let user = self.user.map(|name| name.unwrap_or(login.user));
        let is_terminal = io::stdout().is_terminal();
        let looks = self.count.or((!is_terminal).then_some(1));
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Output)?;
        // The first look is outside: what is wrong from the beginning is told as by other commands.
        let mut lines = look(&client, user.as_deref()).await?;
        let screen = is_terminal.then(Screen::open).transpose()?;
        for number in 1_u32.. {
            match &screen {
                Some(_) => output::print(&on_screen(&lines))?,
                None => output::print(&(lines.join("\n") + "\n"))?,
            }
            if looks.is_some_and(|looks| number >= looks) {
                break;
            }
            let next = async {
                tokio::time::sleep(self.delay).await;
                look(&client, user.as_deref()).await
            };
            tokio::select! {
                next = next => match next {
                    Ok(next) => lines = next,
                    // It may come back: the last look stays, with a word on it.
                    Err(error) => lines[0] = format!("{error}; trying again"),
                },
                _ = tokio::signal::ctrl_c() => break,
                _ = terminate.recv() => break,
            }
        }
        Ok(())
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_millis(100) { Err("at least 100ms".to_owned()) } else { Ok(time) }
}

async fn look(client: &Client, user: Option<&str>) -> Result<Vec<String>, ClientError> {
    let resources = client.resources().await?;
    let filter =
        JobFilter { user: user.map(str::to_owned), limit: Some(JOBS), ..JobFilter::default() };
    let jobs = client.job_details(&filter).await?;
    Ok(lines(client.url(), &resources, jobs.items, jobs.total))
}

fn lines(url: &str, resources: &[ResourceItem], mut jobs: Vec<Job>, total: usize) -> Vec<String> {
    let now = jobs.iter().map(|job| job.api_timestamp);
    let now = now.chain(resources.iter().map(|it| it.api_timestamp)).max().unwrap_or_default();
    let mut nodes: BTreeMap<&str, ResourceState> = BTreeMap::new();
    for resource in resources {
        nodes.insert(&resource.network_address, resource.state);
    }
    let alive = resources.iter().filter(|it| it.state == ResourceState::Alive).count();
    let mut lines = vec![
        format!("{url}  {}", date(now)),
        format!(
            "nodes      {}",
            counts(nodes.values().map(|state| format!("{state:?}").to_lowercase()))
        ),
        format!("resources  {alive} of {} alive", resources.len()),
        format!("jobs       {}", counts(jobs.iter().map(|job| word(job.state).to_owned()))),
        String::new(),
        format!(
            "{:<10} {:<14} {:<14} S {:<10} {:>10} {:>10}",
            "Job id", "Name", "User", "Queue", "Since", "Walltime"
        ),
    ];
    // Who runs first, then as the queue has them.
    jobs.sort_by_key(|job| (job.start_time == 0, job.id));
    for job in &jobs {
        let since = if job.start_time == 0 { job.submission_time } else { job.start_time };
        let mut line = String::new();
        // Writing to a string does not fail.
        let _ = write!(
            line,
            "{:<10} {:<14.14} {:<14.14} {} {:<10.10} {:>10} {:>10}",
            job.id,
            plain_line(job.name.as_deref().unwrap_or_default()),
            plain_line(&job.owner),
            letter(job.state),
            plain_line(&job.queue),
            walltime(now.saturating_sub(since)),
            job.walltime.map(walltime).unwrap_or_default(),
        );
        lines.push(line);
    }
    if total > jobs.len() {
        lines.push(format!("and {} more", total - jobs.len()));
    }
    lines
}

/// `3 running, 1 waiting`.
fn counts(words: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn word(state: JobState) -> &'static str {
    match state {
        JobState::Waiting | JobState::ToAckReservation => "waiting",
        JobState::Hold => "held",
        JobState::ToLaunch | JobState::Launching => "starting",
        JobState::Running => "running",
        JobState::Suspended | JobState::Resuming => "suspended",
        JobState::Finishing | JobState::ToError => "ending",
        JobState::Terminated | JobState::Error => "ended",
    }
}

/// Each line at its place: what does not fit on the screen is cut by the terminal, and nothing scrolls.
fn on_screen(lines: &[String]) -> String {
    let mut text = String::new();
    for (row, line) in (1..).zip(lines) {
        let _ = write!(text, "\x1b[{row};1H{line}\x1b[K");
    }
    text + "\x1b[J"
}

/// The terminal's other screen, without a cursor and without breaking lines; left when dropped.
struct Screen;

impl Screen {
    fn open() -> Result<Self, Failure> {
        output::print("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J").map(|()| Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever took the terminal away does not see it anyhow.
        let _ = output::print("\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted() {
        let words = ["running", "held", "running"].into_iter().map(str::to_owned);
        assert_eq!(counts(words), "1 held, 2 running");
        assert_eq!(counts(std::iter::empty()), "none");
    }

    #[test]
    fn lines_have_their_places_on_the_screen() {
        let text = on_screen(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(text, "\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K\x1b[J");
    }
}
