//! The work of a run: jobs are submitted, things happen, everything is watched until it has ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use coordinator_api::job::{Job as OarJob, JobState as OarState};
use coordinator_api::mesh::JobMesh;
use netsim_report::agents::Agents;
use netsim_report::{JobKey, Recorder, What as Log, Why};
use netsim_scenario::Resolved;
use netsim_scenario::file::JobState;
use netsim_scenario::resolved::{Job, JobFile, What, When as Due, job_file};

use super::act::{Action, act};
use super::agenda::{Agenda, When};
use super::gather::Gatherer;
use super::mesh_log;
use super::oracle::Predictions;
use super::outcome::{EndedJob, Outcome, Times};
use super::step;
use super::watch::{News, Watch};
use super::workload::{Milestone, Workload};
use crate::disk;
use crate::progress::Progress;
use crate::world::{Scientist, Server, Submission, World};

/// The longest rest between two looks at what is due and at the agents.
const REST: Duration = Duration::from_millis(200);
/// After which a submission is tried again that a coordinator was not there for.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Jobs whose every step is told on the screen; of more only their numbers are.
const FEW: usize = 20;

/// Does the work of a scenario in a world whose volunteers are there.
pub(crate) fn work(
    resolved: &Resolved,
    world: &mut World,
    deadline: Instant,
    recorder: &Recorder,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let count = resolved.jobs.len();
    let plural = if count == 1 { "" } else { "s" };
    step(progress, recorder, format!("working: {count} job{plural}"));
    let predictions = Predictions::of(resolved)?;
    let watch = Watch::start(world.first_scientists(), &predictions, recorder)?;
    let cores: usize = resolved.volunteers.iter().map(|v| v.cores as usize).sum();
    let mut work = Work {
        resolved,
        gatherer: Gatherer::start(
            &recorder.dir().unwrap_or_else(|| world.dir.clone()),
            &resolved.gatherings,
            deadline,
        ),
        world,
        recorder,
        progress,
        started: Instant::now(),
        deadline,
        // Twice the cores: a core that falls free finds a job that waits.
        workload: Workload::new(&resolved.jobs, 2 * cores.max(1)),
        agenda: agenda(resolved),
        watch,
        predictions,
        stageins: BTreeMap::new(),
        times: BTreeMap::new(),
        jobs: BTreeMap::new(),
        failures: Vec::new(),
        warnings: resolved.warnings(),
    };
    work.run()?;
    work.finish()
}

/// The timeline and the churn.
fn agenda(resolved: &Resolved) -> Agenda<Milestone, Action> {
    let mut agenda = Agenda::new();
    for happening in &resolved.timeline {
        let when = match &happening.when {
            Due::At(at) => When::At(*at),
            Due::Job { group, state, after } => When::After((group.clone(), *state), *after),
        };
        agenda.add(when, Action::Happens(happening.what.clone()));
    }
    for (host, presence) in resolved.presences() {
        let mut is_on = presence.starts_on;
        for at in presence.changes {
            is_on = !is_on;
            agenda.add(When::At(at), Action::Comes { host: host.clone(), is_on });
        }
    }
    agenda
}

struct Work<'a> {
    resolved: &'a Resolved,
    world: &'a mut World,
    recorder: &'a Recorder,
    progress: &'a mut Progress,
    started: Instant,
    deadline: Instant,
    workload: Workload,
    agenda: Agenda<Milestone, Action>,
    watch: Watch,
    gatherer: Gatherer,
    predictions: Predictions,
    /// The folders that jobs' directories start as, by what is in them.
    stageins: BTreeMap<Vec<PathBuf>, PathBuf>,
    times: BTreeMap<JobKey, Times>,
    jobs: BTreeMap<JobKey, EndedJob>,
    failures: Vec<String>,
    warnings: Vec<String>,
}

impl Work<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            for action in self.agenda.take_due(self.now()) {
                self.act(&action)?;
            }
            for place in self.workload.due(self.now()) {
                self.submit(place)?;
            }
            self.look_for_crashes();
            if self.is_done() {
                return Ok(());
            }
            disk::check(&self.world.dir)?;
            if Instant::now() >= self.deadline {
                bail!("{}", self.overdue());
            }
            for news in self.watch.wait(self.rest())? {
                match news {
                    News::Changed(key, job) => self.changed(&key, &job),
                    News::Ended(key, job, mesh) => self.ended(key, *job, mesh.map(|mesh| *mesh)),
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long nothing is due, as far as is known.
    fn rest(&self) -> Duration {
        let now = self.now();
        let next = self.agenda.next_due().into_iter().chain(self.workload.next_due());
        let next = next.filter(|at| *at > now).min().unwrap_or(Duration::MAX);
        let left = self.deadline.saturating_duration_since(Instant::now());
        (next - now).min(REST).min(left)
    }

    /// All jobs have ended, and all that has a time in the timeline has happened.
    fn is_done(&self) -> bool {
        self.workload.has_all_ended() && self.agenda.timed().all(Action::is_churn)
    }

    fn overdue(&self) -> String {
        let (ended, all) = self.workload.progress();
        let unfinished: Vec<String> =
            self.workload.in_flight().iter().map(ToString::to_string).collect();
        let which = match unfinished.len() {
            0 => String::new(),
            1..=10 => format!(" (job {})", unfinished.join(", ")),
            count => format!(" ({count} are in flight)"),
        };
        format!(
            "the run has taken longer than {}, its `duration`: {ended} of {all} jobs have \
             ended{which}; raise it, or see why they do not end{}",
            humantime::format_duration(self.resolved.duration),
            self.world.servers.iter().map(Server::tail).collect::<String>(),
        )
    }

    fn act(&mut self, action: &Action) -> anyhow::Result<()> {
        self.progress.note(&action.describe());
        if !action.is_churn() && self.workload.has_all_ended() {
            let at = self.started.elapsed().as_secs_f64();
            self.warnings.push(format!(
                "{} happened at {at:.1} s, when all jobs had ended: nobody felt it",
                action.describe()
            ));
        }
        act(self.world, action, self.recorder)?;
        if let Action::Happens(What::Network(event)) = action {
            self.predictions.happened(event);
        }
        Ok(())
    }

    fn submit(&mut self, place: usize) -> anyhow::Result<()> {
        let job = &self.resolved.jobs[place];
        let stagein = self.stagein(&job.files)?;
        let submission = Submission {
            command: job.command.clone(),
            nodes: u16::try_from(job.nodes).context("too many nodes")?,
            cores: job.cores.map(u16::try_from).transpose().context("too many cores")?,
            types: job.types.clone(),
            stagein,
            walltime: Some(job.walltime),
            name: Some(job.name.clone()),
            array: job.array,
        };
        let scientist = self.scientist_of(job);
        let scientist = scientist.with_context(|| format!("there is no {}", job.scientist))?;
        let ids = match scientist.submit_all(&submission) {
            Ok(ids) => ids,
            // As a scientist's script would, where it is known that nobody can answer.
            Err(_) if !self.world.server(&job.coordinator)?.is_started() => {
                self.workload.postponed(place, self.now() + TRY_AGAIN);
                return Ok(());
            }
            Err(error) => return Err(error.context(format!("cannot submit {}", job.name))),
        };
        let now = self.now();
        let keys: Vec<JobKey> = ids.iter().map(|id| JobKey::new(&job.coordinator, *id)).collect();
        for key in &keys {
            self.recorder.record(Log::JobSubmitted {
                job: key.clone(),
                command: job.command.clone(),
                nodes: job.nodes,
                types: job.types.clone(),
                walltime_s: Some(job.walltime.as_secs()),
            });
            self.times.insert(key.clone(), Times { submitted: now, ..Times::default() });
        }
        self.watch.add(&job.coordinator, &ids);
        self.tell(|| {
            let numbers: Vec<String> = keys.iter().map(JobKey::to_string).collect();
            format!("job {}: {}", numbers.join(", "), job.command)
        });
        let reached = self.workload.submitted(place, &keys);
        self.reached(reached);
        Ok(())
    }

    /// Who submits a job and fetches its results.
    fn scientist_of(&self, job: &Job) -> Option<&Scientist> {
        self.world.scientists_of(&job.coordinator).find(|it| it.user == job.scientist)
    }

    /// The folder that a job's directory starts as, made when it is wanted first.
    fn stagein(&mut self, files: &[PathBuf]) -> anyhow::Result<Option<PathBuf>> {
        if files.is_empty() {
            return Ok(None);
        }
        if let Some(made) = self.stageins.get(files) {
            return Ok(Some(made.clone()));
        }
        let to = self.world.dir.join(format!("stagein-{}", self.stageins.len() + 1));
        std::fs::create_dir_all(&to)?;
        for name in files {
            let base =
                name.file_name().with_context(|| format!("{} is no file", name.display()))?;
            let copied = match job_file(name) {
                JobFile::Program(program) => {
                    std::fs::copy(self.world.program(program), to.join(base)).map(drop)
                }
                JobFile::Companion => self.resolved.folder.copy(name, &to.join(base)),
            };
            copied.with_context(|| format!("cannot copy {} for the job", name.display()))?;
        }
        self.stageins.insert(files.to_vec(), to.clone());
        Ok(Some(to))
    }

    fn changed(&mut self, key: &JobKey, job: &OarJob) {
        if job.state == OarState::Running {
            self.note_running(key);
        }
        let nodes = self.place(key).map_or(1, |place| self.resolved.jobs[place].nodes);
        match job.state {
            OarState::Launching => {
                self.tell(|| format!("job {key}: launching on {nodes} nodes"));
            }
            OarState::Running => self.tell(|| format!("job {key}: running")),
            OarState::Waiting
            | OarState::Hold
            | OarState::ToLaunch
            | OarState::ToError
            | OarState::ToAckReservation
            | OarState::Suspended
            | OarState::Resuming
            | OarState::Finishing
            | OarState::Terminated
            | OarState::Error => {}
        }
        let reached = self.workload.changed(key, job.state, true);
        self.reached(reached);
    }

    fn ended(&mut self, key: JobKey, job: OarJob, mesh: Option<JobMesh>) {
        let Some(place) = self.place(&key) else { return };
        let wanted = &self.resolved.jobs[place];
        let exit = job.exit_code.map(|status| status >> 8);
        let is_well =
            job.state == OarState::Terminated && exit == Some(i32::from(wanted.expect.exit));
        if job.state == OarState::Terminated {
            self.note_running(&key);
        }
        let now = self.now();
        let times = self.times.get(&key).copied().unwrap_or_default();
        let times = Times { ended: now, ..times };
        self.tell(|| match exit {
            Some(exit) => format!("job {key}: {:?}, exit status {exit}", job.state),
            None => format!("job {key}: {:?}", job.state),
        });
        let reached = self.workload.changed(&key, job.state, is_well);
        let was_repeated = self.workload.is_waiting(place);
        if let Some(scientist) = self.scientist_of(wanted)
            && !was_repeated
        {
            self.gatherer.fetch(scientist, &job, &wanted.group, wanted.nodes);
        }
        self.jobs.insert(key, EndedJob { place, was_repeated, job, mesh, times });
        self.reached(reached);
    }

    fn place(&self, job: &JobKey) -> Option<usize> {
        self.workload.place_of(job)
    }

    fn note_running(&mut self, job: &JobKey) {
        let now = self.now();
        if let Some(times) = self.times.get_mut(job) {
            times.running.get_or_insert(now);
        }
    }

    fn reached(&mut self, milestones: Vec<Milestone>) {
        let now = self.now();
        for milestone in milestones {
            self.agenda.reached(&milestone, now);
            if milestone.1 == JobState::Ended {
                self.gatherer.group_ended(&milestone.0);
            }
        }
        let (ended, all) = self.workload.progress();
        if all > FEW {
            let in_flight = self.workload.in_flight().len();
            self.progress.now(&format!("{ended} of {all} jobs have ended, {in_flight} in flight"));
        }
    }

    /// Says something about a job, where there are few.
    fn tell(&self, text: impl FnOnce() -> String) {
        if self.resolved.jobs.len() <= FEW {
            self.progress.note(&text());
        }
    }

    /// An agent ends when it is told to, and never by itself.
    fn look_for_crashes(&mut self) {
        for volunteer in &mut self.world.volunteers {
            if let Some((status, tail)) = volunteer.crashed() {
                let node = volunteer.machine.name.clone();
                self.failures.push(format!("the agent of {node} ended by itself ({status}){tail}"));
                self.recorder.record(Log::Down { node, why: Why::Crashed });
            }
        }
    }

    fn finish(mut self) -> anyhow::Result<Outcome> {
        for ((group, state), action) in self.agenda.never_due() {
            self.failures.push(format!(
                "{} did not happen: {group} was never seen {}",
                action.describe(),
                format!("{state:?}").to_lowercase()
            ));
        }
        step(self.progress, self.recorder, "gathering the results");
        drop(self.watch);
        let gathered = self.gatherer.finish()?;
        let Self { mut jobs, failures, warnings, predictions, recorder, .. } = self;
        for text in &warnings {
            recorder.record(Log::Note { text: text.clone() });
        }
        // A coordinator's word on a pair is a little old, or that of an end which had left already.
        let agents = Agents::read(&self.world.dir, &self.resolved.clusters());
        let agents = agents.context("cannot read what the agents say")?;
        for (job, ended) in &mut jobs {
            if let Some(mesh) = &mut ended.mesh {
                let machine = |host: &str| predictions.machine(&job.coordinator, host);
                mesh_log::correct(job, mesh, &agents, &machine);
            }
        }
        Ok(Outcome { jobs, gathered, failures, warnings, predictions })
    }
}
