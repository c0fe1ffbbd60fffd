//! Results: fetched with `oar fetch` as jobs end, gathered by the scenario's patterns, and given to
//! its command. On a thread of its own, so that the timeline goes on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coordinator_api::job::{Job, JobState};
use netsim_report::JobKey;
use netsim_scenario::resolved::Gathering;

use crate::wait;
use crate::world::Scientist;

/// How long the coordinator may be away while results are wanted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked again.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What was gathered in a run.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The first node's standard output, by job.
    pub(crate) outputs: BTreeMap<JobKey, String>,
    /// How many files were collected, by group.
    pub(crate) files: BTreeMap<String, u64>,
    /// What could not be fetched, collected or done, as sentences.
    pub(crate) failures: Vec<String>,
}

/// A gatherer at work.
pub(crate) struct Gatherer {
    to: Sender<Task>,
    thread: JoinHandle<Gathered>,
}

enum Task {
    Fetch { scientist: Box<Scientist>, job: Box<Job>, group: String, nodes: u32 },
    GroupEnded(String),
}

impl Gatherer {
    /// Begins to wait for results; they go into `run_dir`.
    pub(crate) fn start(run_dir: &Path, gatherings: &[Gathering], deadline: Instant) -> Self {
        let (to, tasks) = channel();
        let collected = run_dir.join("collected");
        let gatherings = gatherings.iter().map(|g| (g.group.clone(), g.clone())).collect();
        let work = Work { collected, gatherings, deadline, gathered: Gathered::default() };
        Self { to, thread: thread::spawn(move || work.run(&tasks)) }
    }

    /// A job of that group has ended.
    pub(crate) fn fetch(&self, scientist: &Scientist, job: &Job, group: &str, nodes: u32) {
        let (scientist, job) = (Box::new(scientist.clone()), Box::new(job.clone()));
        let _ = self.to.send(Task::Fetch { scientist, job, group: group.to_owned(), nodes });
    }

    /// All jobs of that group have ended.
    pub(crate) fn group_ended(&self, group: &str) {
        let _ = self.to.send(Task::GroupEnded(group.to_owned()));
    }

    /// Waits until everything is gathered.
    pub(crate) fn finish(self) -> anyhow::Result<Gathered> {
        drop(self.to);
        self.thread.join().map_err(|_| anyhow::anyhow!("gathering the results panicked"))
    }
}

struct Work {
    collected: PathBuf,
    gatherings: BTreeMap<String, Gathering>,
    deadline: Instant,
    gathered: Gathered,
}

impl Work {
    fn run(mut self, tasks: &Receiver<Task>) -> Gathered {
        for task in tasks {
            let done = match &task {
                Task::Fetch { scientist, job, group, nodes } => {
                    self.fetch(scientist, job, group, *nodes)
                }
                Task::GroupEnded(group) => self.finish_group(group),
            };
            if let Err(error) = done {
                self.gathered.failures.push(format!("{error:#}"));
            }
        }
        self.gathered
    }

    fn fetch(
        &mut self,
        scientist: &Scientist,
        job: &Job,
        group: &str,
        nodes: u32,
    ) -> anyhow::Result<()> {
        let key = JobKey::new(&scientist.coordinator, job.id);
        if job.state != JobState::Terminated {
            // Whatever its nodes could still send may be there, but nobody is entitled to it.
            return Ok(());
        }
        let mut last = None;
        let fetched =
            wait::until_every(ASK_EVERY, "fetching", PATIENCE, || match scientist.fetch(job.id) {
                Ok(dir) => Some(dir),
                Err(error) => {
                    last = Some(error);
                    None
                }
            });
        let Ok(dir) = fetched else {
            let last = last.map_or_else(String::new, |error| format!("{error:#}"));
            anyhow::bail!("the results of job {key} could not be fetched: {last}");
        };
        let output = dir.join("rank-0").join(&job.stdout_file);
        let text = fs::read(&output)
            .with_context(|| format!("job {key} left no output in {}", output.display()))?;
        self.gathered.outputs.insert(key, String::from_utf8_lossy(&text).into_owned());
        if self.gatherings.get(group).is_some_and(|gathering| !gathering.collect.is_empty()) {
            self.collect(&dir, group, nodes)?;
        }
        Ok(())
    }

    fn collect(&mut self, dir: &Path, group: &str, nodes: u32) -> anyhow::Result<()> {
        let Some(gathering) = self.gatherings.get(group) else { return Ok(()) };
        for rank in 0..nodes {
            let rank_dir = dir.join(format!("rank-{rank}"));
            for file in files_below(&rank_dir) {
                let Ok(relative) = file.strip_prefix(&rank_dir) else { continue };
                if !gathering.collect.iter().any(|pattern| matches(pattern, relative)) {
                    continue;
                }
                let mut target = self.collected.join(group);
                if nodes > 1 {
                    target.push(format!("rank-{rank}"));
                }
                target.push(relative);
                if target.exists() {
                    anyhow::bail!(
                        "two jobs of {group} left a file {}: give them names that differ, with {{i}} \
                         in a campaign",
                        relative.display()
                    );
                }
                let parent = target.parent().unwrap_or(&self.collected);
                fs::create_dir_all(parent)
                    .and_then(|()| fs::copy(&file, &target))
                    .with_context(|| format!("cannot write {}", target.display()))?;
                *self.gathered.files.entry(group.to_owned()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn finish_group(&self, group: &str) -> anyhow::Result<()> {
        let Some(then) = self.gatherings.get(group).and_then(|g| g.then.as_ref()) else {
            return Ok(());
        };
        let dir = self.collected.join(group);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let log = self.collected.join(format!("{group}.then.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", then]).current_dir(&dir).process_group(0).stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().context("cannot start sh")?;
        let limit = self.deadline.saturating_duration_since(Instant::now());
        let ended = wait::until("its end", limit, || child.try_wait().ok().flatten());
        let Ok(status) = ended else {
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("`{then}` after {group} took longer than the run may: raise `duration`");
        };
        if status.success() {
            return Ok(());
        }
        let said = fs::read(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        anyhow::bail!("`{then}` after {group} failed ({status}): {last} (see {})", log.display())
    }
}

/// The files below a directory, sorted. Links are not followed: jobs may leave any.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => rest.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Whether a path fits a pattern: part by part, `*` for any text in a part.
fn matches(pattern: &str, path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    let (parts, wanted): (Vec<&str>, Vec<&str>) =
        (path.split('/').collect(), pattern.split('/').collect());
    parts.len() == wanted.len()
        && wanted.iter().zip(parts).all(|(wanted, part)| fits(wanted.as_bytes(), part.as_bytes()))
}

fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when what follows the last star does not fit: with one more letter in it.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(letter) if *letter == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, eaten)) = star else { return false };
                star = Some((place, eaten + 1));
                (at, seen) = (place + 1, eaten + 1);
            }
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_in_a_part_of_a_path() {
        let holds = |pattern: &str, path: &str| matches(pattern, Path::new(path));
        for (pattern, path) in [
            ("frame.png", "frame.png"),
            ("*.png", "frame-1.png"),
            ("*.png", ".png"),
            ("out/*", "out/a"),
            ("*/a*b*c", "x/a12b3bc"),
            ("*", "a"),
        ] {
            assert!(holds(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("*.png", "out/a.png"), ("*.png", "a.pngx"), ("a*b", "a"), ("out/*", "out"), ("", "a")]
        {
            assert!(!holds(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_star_costs_no_exponential_time() {
        let pattern = "*a".repeat(200);
        let text = "a".repeat(199) + &"b".repeat(20_000);

        assert!(!matches(&pattern, Path::new(&text)));
    }
}
