//! Running a scenario with the real programs, from an empty directory to the report.
//!
//! ```text
//!   build: networks, coordinator, enrolment, agents ─> work: submit, watch, let things happen,
//!   gather ─> judge: expectations, the routers' word ─> end: nothing may be left
//! ```
//! What is decided is decided without a clock (`agenda`, `workload`); `work` asks them what is
//! due, and does it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use netsim_report::{Recorder, Role, What};
use netsim_scenario::Resolved;
use netsim_scenario::file::Coordinator;

use crate::disk;
use crate::expect::{self, LanCounters};
use crate::nodes::Nodes;
use crate::progress::Progress;
use crate::report::Report;
use crate::world::{Programs, World};

mod act;
mod agenda;
mod gather;
mod mesh_log;
mod oracle;
mod outcome;
mod watch;
mod work;
mod workload;

pub(crate) use oracle::Predictions;
pub(crate) use outcome::{EndedJob, Outcome};

/// From the start of the agents until all of them are alive, and for each of them besides.
const ALIVE: Duration = Duration::from_secs(30);
const ALIVE_EACH: Duration = Duration::from_millis(500);

/// What is to be done when the machines are there, before the first program starts.
pub type WhenBuilt<'a> = dyn FnMut(&World) -> anyhow::Result<()> + 'a;

/// Runs a scenario; the programs' files and logs lie in `dir`. Everything that was started goes on for
/// as long as the world that is given back.
pub fn run(
    resolved: &Resolved,
    dir: &Path,
    recorder: &Recorder,
    progress: &mut Progress,
    when_built: &mut WhenBuilt<'_>,
) -> (anyhow::Result<Report>, Option<World>) {
    let deadline = Instant::now() + resolved.duration;
    let explain = |error| disk::explain(dir, error);
    match build(resolved, dir, recorder, progress, when_built) {
        Ok(mut world) => {
            let report = conduct(resolved, &mut world, deadline, recorder, progress);
            (report.map_err(explain), Some(world))
        }
        Err(error) => (Err(explain(error)), None),
    }
}

/// Builds the world of a scenario, with all programs started and all volunteers alive.
pub(crate) fn build(
    resolved: &Resolved,
    dir: &Path,
    recorder: &Recorder,
    progress: &mut Progress,
    when_built: &mut WhenBuilt<'_>,
) -> anyhow::Result<World> {
    let count = resolved.volunteers.len();
    step(progress, recorder, format!("building the networks of {count} volunteers"));
    let mut world = World::build(dir, Programs::beside_this()?, resolved)?;
    Nodes::of(&world).publish(dir).context("cannot write the list of nodes")?;
    describe_nodes(resolved, recorder);
    when_built(&world)?;
    for server in &mut world.servers {
        let name = server.name().to_owned();
        let whose = if name == Coordinator::NAME { "the coordinator" } else { &name };
        step(progress, recorder, format!("starting {whose} with an empty data directory"));
        server.start()?;
        if !server.output().0.contains("join token: ") {
            bail!("the first start of {whose} printed no join token");
        }
        recorder.record(What::Up { node: name });
    }
    for relay in &resolved.relays {
        step(progress, recorder, format!("starting the relay {}", relay.host));
        world.start_relay(&relay.host)?;
        recorder.record(What::Up { node: relay.host.clone() });
    }
    step(progress, recorder, format!("enrolling {count} volunteers"));
    world.enrol()?;
    world.log_in()?;
    step(progress, recorder, "starting the agents and waiting until oarnodes shows them alive");
    let absent: Vec<String> = resolved
        .presences()
        .into_iter()
        .filter(|(_, presence)| !presence.starts_on)
        .map(|(host, _)| host)
        .collect();
    for index in shuffled(count, resolved.seed) {
        let name = world.volunteers[index].machine.name.clone();
        if absent.contains(&name) {
            world.switch_off(index)?;
        } else {
            world.start_agent(index)?;
            recorder.record(What::Up { node: name });
        }
    }
    let limit = ALIVE + ALIVE_EACH * u32::try_from(count).unwrap_or(u32::MAX);
    let alive = world.wait_until_alive(count - absent.len(), limit);
    // The cause, where it is that.
    disk::check(dir).and(alive)?;
    Ok(world)
}

fn conduct(
    resolved: &Resolved,
    world: &mut World,
    deadline: Instant,
    recorder: &Recorder,
    progress: &mut Progress,
) -> anyhow::Result<Report> {
    step(progress, recorder, "trying to submit without identity");
    check_strangers(world)?;
    let lan = LanCounters::install(resolved, world)?;
    let outcome = work::work(resolved, world, deadline, recorder, progress)?;
    step(progress, recorder, "looking at what the scenario expects");
    let report = expect::judge(resolved, world, &lan, outcome)?;
    for checked in &report.expectations {
        let (text, found) = (checked.text.clone(), checked.found.clone());
        recorder.record(What::Expectation { text, met: checked.met, found });
    }
    for text in &report.failures {
        recorder.record(What::Failure { text: text.clone() });
    }
    Ok(report)
}

/// Begins a step, on the screen and in the event log.
fn step(progress: &mut Progress, recorder: &Recorder, name: impl Into<String>) {
    let name = name.into();
    recorder.record(What::Step { name: name.clone() });
    progress.begin(name);
}

/// A submission without identity must be refused, by every coordinator.
fn check_strangers(world: &World) -> anyhow::Result<()> {
    for scientist in world.first_scientists() {
        match scientist.submit_anonymously()? {
            Err(error) if error.status() == Some(401) => {}
            Err(error) => {
                let what = "an anonymous submission got another answer than 401";
                return Err(error).context(what);
            }
            Ok(()) => bail!("an anonymous submission was accepted"),
        }
    }
    Ok(())
}

fn describe_nodes(resolved: &Resolved, recorder: &Recorder) {
    let (regions, clusters) = (resolved.topology.regions_by_name(), resolved.clusters());
    let region = |name: &str| regions.get(name).map(|&region| region.to_owned());
    for router in &resolved.topology.routers {
        recorder.record(What::Node {
            node: router.name.clone(),
            role: Role::Router,
            behind: router.nat.profile().map_or("no NAT", |_| "NAT").to_owned(),
            router: router.behind.clone(),
            region: region(&router.name),
            coordinator: None,
            cores: None,
        });
    }
    for host in &resolved.topology.hosts {
        let volunteer = resolved.volunteers.iter().find(|v| v.host == host.name);
        let scientist = resolved.scientists.iter().find(|s| s.host == host.name);
        let role = match (volunteer, scientist) {
            (Some(_), _) => Role::Volunteer,
            (None, Some(_)) => Role::Scientist,
            (None, None) if resolved.coordinators.iter().any(|it| it.name == host.name) => {
                Role::Coordinator
            }
            (None, None) if resolved.relays.iter().any(|r| r.host == host.name) => Role::Relay,
            (None, None) => Role::Machine,
        };
        let behind = volunteer
            .map(|v| v.behind.clone())
            .or_else(|| scientist.map(|s| s.behind.name().to_owned()));
        recorder.record(What::Node {
            node: host.name.clone(),
            role,
            behind: behind.unwrap_or_default(),
            router: host.behind.clone(),
            region: region(&host.name),
            coordinator: clusters.get(&host.name).cloned(),
            cores: volunteer.and_then(|v| u16::try_from(v.cores).ok()),
        });
    }
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
