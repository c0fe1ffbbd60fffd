//! The scientist: the command line tools, and the API where a test needs more than they show.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use coordinator_api::job::{Job, SubmitJob};
use coordinator_api::mesh::JobMesh;
use coordinator_client::{Client, ClientError, Login};
use serde_json::Value;

use super::{COMMAND, Programs};
use crate::program::{Finished, Place, Program};
use crate::topology::Machine;
use crate::wait;

/// How often the API is asked while something is waited for.
const ASK_EVERY: Duration = Duration::from_millis(150);

/// A scientist's machine, and the tools on it.
#[derive(Clone)]
pub struct Scientist {
    /// The scientist's name at the coordinator.
    pub user: String,
    /// The coordinator that knows the scientist.
    pub coordinator: String,
    /// The machine.
    pub machine: Machine,
    /// Where the tools run.
    pub place: Place,
    login: Option<Login>,
    programs: Programs,
}

/// What is given to `oarsub`.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// The command line.
    pub command: String,
    /// Number of nodes; 0 counts as 1.
    pub nodes: u16,
    /// Cores of each node; none for whole nodes.
    pub cores: Option<u16>,
    /// Job types.
    pub types: Vec<String>,
    /// A folder or archive for the job's directory.
    pub stagein: Option<PathBuf>,
    /// Longest run.
    pub walltime: Option<Duration>,
    /// The job's name.
    pub name: Option<String>,
    /// So many jobs at once, as an array.
    pub array: Option<u32>,
}

impl Submission {
    /// A command on that many nodes, with those types.
    pub fn new(command: &str, nodes: u16, types: &[&str]) -> Self {
        let types = types.iter().map(|&t| t.to_owned()).collect();
        Self { command: command.to_owned(), nodes, types, ..Self::default() }
    }

    /// The same on so many cores of each node, which other jobs may share.
    pub fn with_cores(mut self, cores: u16) -> Self {
        self.cores = Some(cores);
        self
    }

    /// The same with a stage-in.
    pub fn with_stagein(mut self, path: &Path) -> Self {
        self.stagein = Some(path.to_owned());
        self
    }

    fn args(&self) -> Vec<OsString> {
        let mut resources = format!("nodes={}", self.nodes.max(1));
        if let Some(cores) = self.cores {
            resources += &format!("/core={cores}");
        }
        if let Some(walltime) = self.walltime {
            let s = walltime.as_secs();
            resources += &format!(",walltime={}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
        }
        let mut args = vec!["-l".into(), resources.into()];
        for kind in &self.types {
            args.extend(["-t".into(), kind.into()]);
        }
        if let Some(stagein) = &self.stagein {
            args.extend(["--stagein".into(), stagein.into()]);
        }
        if let Some(name) = &self.name {
            args.extend(["-n".into(), name.into()]);
        }
        if let Some(array) = self.array {
            args.extend(["--array".into(), array.to_string().into()]);
        }
        args.push((&self.command).into());
        args
    }
}

impl Scientist {
    pub(super) fn new(
        user: &str,
        coordinator: &str,
        mut place: Place,
        machine: Machine,
        programs: Programs,
    ) -> Self {
        place.env.push(("OAR_CONFIG".into(), place.dir.join("oar.json").into()));
        let (user, coordinator) = (user.to_owned(), coordinator.to_owned());
        Self { user, coordinator, machine, place, login: None, programs }
    }

    /// The login, if there was one.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// `oar login`.
    pub fn log_in(&mut self, login: &str) -> anyhow::Result<()> {
        self.oar(&["login", login])?;
        self.login = Some(login.parse().context("the login string is damaged")?);
        Ok(())
    }

    /// Runs a command of the scientist's tools that must succeed.
    pub fn oar(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let name = format!("oar-{}", args.first().unwrap_or(&""));
        Ok(self.place.expect(&name, &self.programs.path("oar"), args, COMMAND)?)
    }

    /// Runs a command of the scientist's tools that may fail.
    pub fn try_oar(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let name = format!("oar-{}", args.first().unwrap_or(&""));
        Ok(self.place.run(&name, &self.programs.path("oar"), args, COMMAND)?)
    }

    /// Starts one of OAR's own commands, such as `oarsub`, by its name.
    pub fn start_tool<S: AsRef<std::ffi::OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Program> {
        let tools = self.place.dir.join("bin");
        let tool = tools.join(name);
        if !tool.exists() {
            std::fs::create_dir_all(&tools)?;
            std::os::unix::fs::symlink(self.programs.path("oar"), &tool)?;
        }
        // An error shall show this call's log alone.
        let _ = std::fs::remove_file(self.place.dir.join(format!("{name}.log")));
        Ok(self.place.start(name, &tool, args)?)
    }

    /// Submits with `oarsub` and returns the job's number.
    pub fn submit(&self, submission: &Submission) -> anyhow::Result<u64> {
        let ids = self.submit_all(submission)?;
        ids.first().copied().context("oarsub printed no job number")
    }

    /// Submits with `oarsub` and returns the jobs' numbers: those of an array, or one.
    pub fn submit_all(&self, submission: &Submission) -> anyhow::Result<Vec<u64>> {
        let finished = self.try_submit(submission)?;
        let text = finished.stdout.trim();
        let ids = text.lines().filter_map(|line| line.strip_prefix("OAR_JOB_ID="));
        let ids: Vec<u64> = ids.filter_map(|id| id.trim().parse().ok()).collect();
        let wanted = submission.array.unwrap_or(1) as usize;
        if !finished.status.success() || ids.len() != wanted {
            bail!("oarsub ({}): {text}\n{}", finished.status, finished.stderr.trim());
        }
        Ok(ids)
    }

    /// Submits with `oarsub`; it may be refused.
    pub fn try_submit(&self, submission: &Submission) -> anyhow::Result<Finished> {
        let mut program = self.start_tool("oarsub", submission.args())?;
        let status = program.wait_for_end(COMMAND)?;
        Ok(Finished { status, stdout: program.stdout(), stderr: program.log() })
    }

    /// The nodes that `oarnodes -J` shows: host names and states.
    pub fn oar_nodes(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut program = self.start_tool("oarnodes", ["-J"])?;
        let status = program.wait_for_end(COMMAND)?;
        if !status.success() {
            bail!("oarnodes ({status}){}", program.tail());
        }
        let json: Value =
            serde_json::from_str(&program.stdout()).context("oarnodes -J printed no JSON")?;
        let mut nodes = Vec::new();
        collect_nodes(&json, &mut nodes);
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// `oar mesh ID --json`.
    pub fn mesh(&self, job: u64) -> anyhow::Result<JobMesh> {
        let finished = self.oar(&["mesh", &job.to_string(), "--json"])?;
        serde_json::from_str(&finished.stdout).context("`oar mesh --json` printed something else")
    }

    /// `oar fetch`: the results, one folder per rank.
    pub fn fetch(&self, job: u64) -> anyhow::Result<PathBuf> {
        let dir = self.place.dir.join(format!("results-{job}"));
        std::fs::create_dir_all(&dir)?;
        self.oar(&["fetch", &job.to_string(), "-o", &dir.display().to_string()])?;
        Ok(dir)
    }

    /// Asks the API as the scientist, from the scientist's machine.
    pub fn api<T, F>(&self, ask: impl FnOnce(Client) -> F + Send + 'static) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>>,
    {
        let login = self.login.clone().context("nobody is logged in")?;
        let answer = self.on_scientist(move || Client::for_login(&login), ask)?;
        Ok(answer?)
    }

    /// Submits a job without any identity and returns what the API says.
    pub fn submit_anonymously(&self) -> anyhow::Result<Result<(), ClientError>> {
        let login = self.login.clone().context("nobody is logged in")?;
        let job = SubmitJob { command: "true".to_owned(), ..SubmitJob::default() };
        self.on_scientist(
            move || Client::new(&login.url, login.root),
            |client| async move { client.submit(&job).await.map(drop) },
        )
    }

    fn on_scientist<T, F>(
        &self,
        client: impl FnOnce() -> Result<Client, ClientError> + Send + 'static,
        ask: impl FnOnce(Client) -> F + Send + 'static,
    ) -> anyhow::Result<Result<T, ClientError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>>,
    {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async move { ask(client()?).await }))
        };
        self.machine.netns.run(work)?
    }

    /// The job as the API shows it.
    pub fn job(&self, id: u64) -> anyhow::Result<Job> {
        self.api(move |client| async move { client.job(id).await })
    }

    /// Waits until the job fulfils a condition, and returns it; it must not end before.
    pub fn wait_for_job(
        &self,
        id: u64,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Job) -> bool,
    ) -> anyhow::Result<Job> {
        let mut last = None;
        let waited = wait::until_every(ASK_EVERY, what, limit, || {
            let job = self.job(id).ok()?;
            let (holds, ended) = (holds(&job), job.state.is_final());
            last = Some(job.clone());
            (holds || ended).then_some((job, holds))
        });
        match waited {
            Ok((job, true)) => Ok(job),
            Ok((job, false)) => bail!("job {id} ended before {what}: {}", describe(&job)),
            Err(late) => {
                let seen = last.as_ref().map_or_else(|| "never seen".to_owned(), describe);
                bail!("job {id}: {late}; it is {seen}")
            }
        }
    }

    /// Waits until the job has ended.
    pub fn wait_for_end(&self, id: u64, limit: Duration) -> anyhow::Result<Job> {
        self.wait_for_job(id, "its end", limit, |job| job.state.is_final())
    }
}

/// A job's state, message and events, for an error.
pub(crate) fn describe(job: &Job) -> String {
    let events: String = job
        .events
        .iter()
        .map(|event| format!("\n    {}: {}", event.kind, event.description))
        .collect();
    format!("{:?} (exit code {:?}): {}{events}", job.state, job.exit_code, job.message)
}

/// Finds host names and states wherever the tool puts them.
fn collect_nodes(json: &Value, found: &mut Vec<(String, String)>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect_nodes(item, found)),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            if let (Some(host), Some(state)) = (text("network_address"), text("state")) {
                found.push((host.to_owned(), state.to_owned()));
            } else {
                fields.values().for_each(|value| collect_nodes(value, found));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
