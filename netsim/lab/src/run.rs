//! Running a scenario from an empty directory to the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use coordinator_api::job::JobState;

use crate::expect;
use crate::nodes::Nodes;
use crate::progress::Progress;
use crate::report::{JobReport, NodeReport, PairReport, Report};
use crate::world::{Programs, Submission, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::{Job, Resolved, Start};

/// From the start of the agents until all of them are alive.
const ALIVE: Duration = Duration::from_secs(30);
/// What a job may take beyond its walltime: queueing, launching, staging.
const AROUND: Duration = Duration::from_secs(120);

/// Runs `scenario`; the programs' files and logs lie in `dir`.
pub fn run(scenario: &Resolved, dir: &Path, progress: &mut Progress) -> anyhow::Result<Report> {
    let mut world = start(scenario, dir, progress)?;
    let report = work(&mut world, scenario, progress)?;
    world.stop()?;
    Ok(report)
}

/// [`run`], but everything that was started goes on for as long as the world that is given back.
pub fn run_and_leave(
    scenario: &Resolved,
    dir: &Path,
    progress: &mut Progress,
) -> (anyhow::Result<Report>, Option<World>) {
    match start(scenario, dir, progress) {
        Ok(mut world) => (work(&mut world, scenario, progress), Some(world)),
        Err(error) => (Err(error), None),
    }
}

fn work(world: &mut World, scenario: &Resolved, progress: &mut Progress) -> anyhow::Result<Report> {
    check_strangers(world, progress)?;

    let ids = submit_all(world, scenario, progress)?;
    let mut jobs = Vec::new();
    let mut failures = Vec::new();
    for (job, id) in scenario.jobs.iter().zip(ids) {
        follow(world, id, job, progress)?;
        progress.begin(format!("fetching the results of job {id}"));
        let output = first_output(world, id)?;
        let report = job_report(world, id, job, &output)?;
        failures.extend(expect::failures(job, &report, &output));
        jobs.push(report);
    }
    progress.begin("ending everything and looking for leftovers");
    failures.extend(audit(world)?);
    Ok(Report {
        scenario: scenario.file.display().to_string(),
        seed: scenario.seed,
        passed: failures.is_empty(),
        failures,
        steps: Vec::new(),
        jobs,
    })
}

fn start(scenario: &Resolved, dir: &Path, progress: &mut Progress) -> anyhow::Result<World> {
    check(scenario)?;
    progress.begin("building the public network");
    let behind = scenario.scientists.first().map_or(Preset::Home, |first| first.behind);
    let mut world = World::new(dir, Programs::beside_this()?, behind)?;
    progress.begin("starting the coordinator with an empty data directory");
    world.start_coordinator(&scenario.coordinator)?;
    if !world.coordinator_output().0.contains("join token: ") {
        bail!("the coordinator's first start printed no join token");
    }

    let machines = &scenario.volunteers;
    progress.begin(format!("wiring {} volunteers", machines.len()));
    for machine in machines {
        let behind = machine.preset.context("only presets can be wired yet")?;
        world.add_volunteer(behind, u16::try_from(machine.cores)?)?;
    }
    progress.begin(format!("enrolling {} volunteers", machines.len()));
    world.enrol()?;
    Nodes::of(&world).publish(dir).context("cannot write the list of nodes")?;
    progress.begin("starting the agents and waiting until oarnodes shows all of them alive");
    for index in shuffled(machines.len(), scenario.seed) {
        world.start_agent(index)?;
    }
    world.log_in()?;
    world.wait_until_alive(machines.len(), ALIVE)?;
    Ok(world)
}

/// Refuses what is not done yet, so that nothing is left out in silence.
fn check(scenario: &Resolved) -> anyhow::Result<()> {
    let waits = |job: &Job| job.start != Start::At(Duration::ZERO) || job.array.is_some();
    let is_plain = scenario.timeline.is_empty()
        && scenario.expectations.is_empty()
        && scenario.gatherings.is_empty()
        && scenario.topology.hosts.iter().all(|host| host.churn.is_none())
        && !scenario.jobs.iter().any(waits);
    if !is_plain {
        bail!("the laboratory cannot run events, churn, campaigns and [[expect]] yet");
    }
    Ok(())
}

/// A submission without identity must be refused.
fn check_strangers(world: &World, progress: &mut Progress) -> anyhow::Result<()> {
    progress.begin("trying to submit without identity");
    match world.scientist().submit_anonymously()? {
        Err(error) if error.status() == Some(401) => Ok(()),
        Err(error) => Err(error).context("an anonymous submission got another answer than 401"),
        Ok(()) => bail!("an anonymous submission was accepted"),
    }
}

fn submit_all(
    world: &World,
    scenario: &Resolved,
    progress: &mut Progress,
) -> anyhow::Result<Vec<u64>> {
    let submit = |(index, job): (usize, &Job)| {
        progress.begin(format!("oarsub: {}", job.command));
        let stagein =
            stage(world, &scenario.file, job, &world.dir.join(format!("stagein-{index}")))?;
        let id = world.scientist().submit(&Submission {
            command: job.command.clone(),
            nodes: u16::try_from(job.nodes)?,
            cores: job.cores.map(u16::try_from).transpose()?,
            types: job.types.clone(),
            stagein,
            walltime: Some(job.walltime),
        })?;
        progress.note(&format!("job {id}"));
        Ok(id)
    };
    scenario.jobs.iter().enumerate().map(submit).collect()
}

/// Makes the folder that a job's directory starts as.
fn stage(world: &World, file: &Path, job: &Job, to: &Path) -> anyhow::Result<Option<PathBuf>> {
    if job.files.is_empty() {
        return Ok(None);
    }
    std::fs::create_dir_all(to)?;
    for name in &job.files {
        let from = if name.components().count() > 1 {
            file.parent().unwrap_or(Path::new(".")).join(name)
        } else {
            world.program(&name.to_string_lossy())
        };
        let base = from.file_name().with_context(|| format!("{} is no file", from.display()))?;
        std::fs::copy(&from, to.join(base))
            .with_context(|| format!("cannot copy {} for the job", from.display()))?;
    }
    Ok(Some(to.to_owned()))
}

/// Waits for a job's launch and end.
fn follow(world: &World, id: u64, job: &Job, progress: &mut Progress) -> anyhow::Result<()> {
    let limit = job.walltime + AROUND;
    progress.begin(format!("job {id}: launching on {} nodes", job.nodes));
    let launched = world.scientist().wait_for_job(id, "its start", limit, |job| {
        job.state == JobState::Running || job.state.is_final()
    });
    launched.map_err(|error| with_tails(world, error))?;
    progress.begin(format!("job {id}: running"));
    let seconds = format!("{}s", limit.as_secs());
    // Its exit status is the job's, which the expectations look at.
    let args = ["wait", &id.to_string(), "--timeout", &seconds];
    let place = &world.scientist().place;
    place.run("oar-wait", &world.program("oar"), args, limit + AROUND)?;
    world
        .scientist()
        .wait_for_end(id, Duration::from_secs(10))
        .map(drop)
        .map_err(|e| with_tails(world, e))
}

/// Adds the end of the coordinator's log.
fn with_tails(world: &World, error: anyhow::Error) -> anyhow::Error {
    error.context(format!("the coordinator's last lines:{}", world.coordinator_tail()))
}

fn first_output(world: &World, id: u64) -> anyhow::Result<String> {
    let dir = world.scientist().fetch(id)?;
    let name = world.scientist().job(id)?.stdout_file;
    let file = dir.join("rank-0").join(name);
    std::fs::read_to_string(&file).with_context(|| format!("no output in {}", file.display()))
}

fn job_report(world: &World, id: u64, wanted: &Job, output: &str) -> anyhow::Result<JobReport> {
    let job = world.scientist().job(id)?;
    let mut report = JobReport {
        id,
        command: job.command,
        state: format!("{:?}", job.state),
        exit: job.exit_code.map(|status| status >> 8),
        solutions: wanted.expect.queens.and_then(|_| expect::solutions(output)),
        submitted: job.submission_time,
        started: job.start_time,
        ended: job.stop_time,
        mesh_ready_after_ms: None,
        nodes: Vec::new(),
        pairs: Vec::new(),
    };
    if !wanted.types.iter().any(|kind| kind == "mesh") {
        return Ok(report);
    }
    let mesh = world.scientist().mesh(id)?;
    report.mesh_ready_after_ms = mesh.open_ms.map(|open| open.saturating_sub(mesh.assigned_ms));
    let behind = |host: &str| {
        world.volunteers.iter().find(|v| v.host == host).and_then(|v| v.machine.behind)
    };
    for member in &mesh.members {
        let sum = |count: &dyn Fn(&coordinator_api::mesh::MeshPair) -> u64| {
            mesh.pairs.iter().filter(|pair| pair.from == member.rank).map(count).sum()
        };
        report.nodes.push(NodeReport {
            rank: member.rank,
            host: member.name.clone(),
            behind: behind(&member.name).map_or("?", Preset::name),
            sent_bytes: sum(&|pair| pair.sent_bytes),
            received_bytes: sum(&|pair| pair.received_bytes),
        });
    }
    for (i, low) in mesh.members.iter().enumerate() {
        for high in &mesh.members[i + 1..] {
            let find = |from: u16, to: u16| {
                mesh.pairs.iter().find(|pair| pair.from == from && pair.to == to).cloned()
            };
            let (Some(a), Some(b)) = (behind(&low.name), behind(&high.name)) else {
                bail!("job {id} ran on a node that is none of the volunteers: {:?}", mesh.members);
            };
            report.pairs.push(PairReport {
                ranks: (low.rank, high.rank),
                predicted: expect::predicted(a, b),
                forth: find(low.rank, high.rank),
                back: find(high.rank, low.rank),
            });
        }
    }
    Ok(report)
}

/// The routers' word that nothing was opened from outside where nothing may be.
fn audit(world: &mut World) -> anyhow::Result<Vec<String>> {
    let mut failures = Vec::new();
    for router in world.volunteers.iter().flat_map(|v| &v.machine.routers) {
        let audit = router.audit()?;
        let name = &router.name;
        failures.extend(audit.port_forwards.iter().map(|rule| format!("{name} forwards: {rule}")));
        if router.is_shut() && audit.opened_from_outside > 0 {
            let count = audit.opened_from_outside;
            failures.push(format!("{name} let {count} flows be opened from outside"));
        }
    }
    Ok(failures)
}

/// The numbers below `count` in an order that `seed` decides (Fisher and Yates, by splitmix64).
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed;
    for last in (1..count).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = last as u64 + 1;
        order.swap(last, usize::try_from(mixed % bound).unwrap_or(0));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::shuffled;

    #[test]
    fn the_order_is_a_permutation_and_the_seeds() {
        let mut sorted = shuffled(6, 1);
        assert_eq!(sorted, shuffled(6, 1));
        assert_ne!(sorted, shuffled(6, 2));
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
    }
}
