//! The jobs, one by one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use coordinator_core::MAX_NODES;

use super::{Clusters, known};
use crate::fault::{Fault, at};
use crate::file::{self, Scenario};
use crate::folder::Folder;
use crate::resolved::{Gathering, Job, JobFile, Scientist, Start, Volunteer, job_file};

/// The most jobs. Chosen: far beyond a campaign of the laboratory.
const MOST_JOBS: usize = 20_000;

/// Whom jobs can be of.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) clusters: Clusters<'a>,
    pub(super) scientists: &'a [Scientist],
    pub(super) volunteers: &'a [Volunteer],
}

/// Jobs, and what is done with their results.
pub(super) fn resolve(
    scenario: &Scenario,
    of: Of<'_>,
    folder: &Folder,
) -> Result<(Vec<Job>, Vec<Gathering>), Fault> {
    if scenario.job.is_empty() {
        return Err(Fault::new([], "there is no job: add a [[job]]"));
    }
    let (mut jobs, mut gatherings) = (Vec::new(), Vec::new());
    let mut groups: Vec<String> = Vec::new();
    for (i, written) in scenario.job.iter().enumerate() {
        let below = |fault: Fault| fault.below(at!["job", i]);
        let group = written.name.clone().unwrap_or_else(|| format!("job-{}", i + 1));
        if groups.contains(&group) {
            let message = format!("there are two jobs `{group}`");
            return Err(below(Fault::new(at!["name"], message)));
        }
        let coordinator = of.clusters.named(written.coordinator.as_ref()).map_err(below)?;
        check(written, of.volunteers_of(&coordinator)).map_err(below)?;
        let start = start(written, &groups).map_err(below)?;
        let scientist = of.scientist(written, &coordinator).map_err(below)?;
        let one = Job {
            name: group.clone(),
            group: group.clone(),
            coordinator,
            scientist,
            command: written.command.clone(),
            nodes: written.nodes.number(),
            cores: written.cores.map(|cores| cores.number()),
            types: written.types.clone(),
            files: written.files.clone(),
            walltime: written.walltime.0,
            start,
            array: written.array.map(|array| array.number()),
            expect: written.expect.clone(),
        };
        let first = jobs.len();
        match written.count {
            None => jobs.push(one),
            Some(count) => jobs.extend((1..=count.number()).map(|i| submission(&one, i))),
        }
        // The last number is the longest.
        if let Some(refusal) = jobs.last().and_then(Job::refusal) {
            return Err(below(Fault::new([], format!("the coordinator refuses it: {refusal}"))));
        }
        check_files(&jobs[first..], folder).map_err(below)?;
        if jobs.len() > MOST_JOBS {
            let message = format!("more than {MOST_JOBS} jobs");
            return Err(below(Fault::new(at!["count"], message)));
        }
        if !written.collect.is_empty() || written.then.is_some() {
            let (collect, then) = (written.collect.clone(), written.then.clone());
            gatherings.push(Gathering { group: group.clone(), collect, then });
        }
        groups.push(group);
    }
    Ok((jobs, gatherings))
}

impl Of<'_> {
    fn volunteers_of(self, coordinator: &str) -> usize {
        self.volunteers.iter().filter(|volunteer| volunteer.coordinator == coordinator).count()
    }

    /// Who submits a job: the one that it names, or the first that its coordinator knows.
    fn scientist(self, job: &file::Job, coordinator: &str) -> Result<String, Fault> {
        let own = self.scientists.iter().filter(|one| one.coordinator == coordinator);
        let mut users = own.map(|scientist| scientist.user.as_str());
        let Some(name) = &job.scientist else {
            return Ok(users.next().unwrap_or_default().to_owned());
        };
        known("scientist", name, users)
            .map(|()| name.clone())
            .map_err(|message| Fault::new(at!["scientist"], message))
    }
}

/// One submission of a campaign.
fn submission(job: &Job, i: u32) -> Job {
    let number = i.to_string();
    let filled = |text: &str| text.replace("{i}", &number);
    let file = |path: &PathBuf| path.to_str().map_or_else(|| path.clone(), |p| filled(p).into());
    Job {
        name: format!("{}-{i}", job.group),
        command: filled(&job.command),
        files: job.files.iter().map(file).collect(),
        ..job.clone()
    }
}

/// Whether the files are there that the jobs of a campaign name. Programs are the laboratory's business.
fn check_files(jobs: &[Job], folder: &Folder) -> Result<(), Fault> {
    let mut known = BTreeSet::new();
    for job in jobs {
        for (i, name) in job.files.iter().enumerate().filter(|(_, name)| known.insert(*name)) {
            let is_there = match job_file(name) {
                JobFile::Program(name) => !name.is_empty() && !name.contains('\0'),
                JobFile::Companion => folder.has(name),
            };
            if !is_there {
                let message = format!("there is no file `{}` beside the scenario", name.display());
                return Err(Fault::new(at!["files", i], message));
            }
        }
    }
    Ok(())
}

fn start(job: &file::Job, earlier: &[String]) -> Result<Start, Fault> {
    match (&job.at, &job.after) {
        (None, None) => Ok(Start::At(Default::default())),
        (Some(at), None) => Ok(Start::At(at.0)),
        (None, Some(after)) => {
            known("job", after, earlier.iter().map(String::as_str)).map_err(|message| {
                Fault::new(at!["after"], format!("{message} (a job comes after an earlier one)"))
            })?;
            Ok(Start::After(after.clone()))
        }
        (Some(_), Some(_)) => Err(Fault::new(at!["after"], "`at` and `after`: one of them only")),
    }
}

fn check(job: &file::Job, volunteers: usize) -> Result<(), Fault> {
    let nodes = job.nodes.number();
    if nodes as usize > volunteers {
        let message =
            format!("`nodes` is {nodes}, but must be 1 to {volunteers}, the number of volunteers");
        return Err(Fault::new(at!["nodes"], message));
    }
    if nodes as usize > MAX_NODES {
        let message =
            format!("`nodes` is {nodes}: the coordinator gives a job {MAX_NODES} at most");
        return Err(Fault::new(at!["nodes"], message));
    }
    if let Some(then) = &job.then
        && then.contains('\0')
    {
        return Err(Fault::new(at!["then"], "a command cannot hold a NUL"));
    }
    if job.command.trim().is_empty() {
        return Err(Fault::new(at!["command"], "a job's `command` must not be empty"));
    }
    if job.array.is_some() && job.count.is_some() {
        return Err(Fault::new(at!["array"], "`array` and `count`: one of them only"));
    }
    if job.then.is_some() && job.collect.is_empty() {
        return Err(Fault::new(at!["then"], "`then` works on what is collected: say `collect`"));
    }
    for (i, pattern) in job.collect.iter().enumerate() {
        let leaves = pattern.starts_with('/') || pattern.split('/').any(|part| part == "..");
        if pattern.is_empty() || leaves {
            let message = format!("`{pattern}` is not a path inside the job's directory");
            return Err(Fault::new(at!["collect", i], message));
        }
        if pattern.contains("{i}") {
            let message =
                "what is collected is named once for all jobs of a campaign: write `*` for `{i}`";
            return Err(Fault::new(at!["collect", i], message));
        }
    }
    let is_mesh = job.types.iter().any(|kind| kind == "mesh");
    for (key, is_asked) in [
        ("pair-bytes", job.expect.pair_bytes.0 > 0),
        ("relayed-as-predicted", job.expect.relayed_as_predicted),
    ] {
        if is_asked && !is_mesh {
            let message = format!("`{key}` needs the job type `mesh`");
            return Err(Fault::new(at!["expect", key], message));
        }
    }
    Ok(())
}
