//! The whole system at work: coordinators, volunteers and scientists, each on a machine of its own.
//!
//! Everything here goes through the real programs and the real API. Methods fail with a message that
//! names the program and shows the end of its log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use coordinator_api::job::JobState;
use coordinator_client::client::JobFilter;

use crate::netns::Netns;
use crate::processes;
use crate::program::Place;
use crate::topology::{Machine, Topology};
use crate::wait;
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;

mod coordinator;
mod enrolment;
mod networks;
mod power;
pub(crate) mod proxies;
mod relays;
mod scenery;
mod scientist;
mod volunteers;

pub(crate) use coordinator::RENDEZVOUS_PORT;
pub use coordinator::Server;
pub use networks::JobNetwork;
use relays::LoneRelay;
pub use scientist::{Scientist, Submission};
pub use volunteers::Volunteer;

/// Where a coordinator's API listens.
const API_PORT: u16 = 6443;
/// The same where a network lets only the web's ports through.
const WEB_PORT: u16 = 443;

/// How long a command that talks with the coordinator may take.
const COMMAND: Duration = Duration::from_secs(30);
/// How long a program may take from SIGTERM to its end.
const STOP: Duration = Duration::from_secs(15);

/// Letters of a command line that an error shows.
const SHOWN: usize = 120;

/// The states whose jobs an error shows: a list without any shows the unfinished ones only.
const STATES: [JobState; 6] = [
    JobState::Waiting,
    JobState::ToLaunch,
    JobState::Launching,
    JobState::Running,
    JobState::Terminated,
    JobState::Error,
];

/// The folder of the system's programs.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

/// A running system. Dropping it kills its programs.
pub struct World {
    // Fields are dropped in this order: programs before the networks.
    /// The volunteers, in the order of enrolment.
    pub volunteers: Vec<Volunteer>,
    /// The coordinators, the first one first.
    pub servers: Vec<Server>,
    /// The HTTP proxies of networks that let nothing else out.
    proxies: Vec<proxies::Proxy>,
    relays: Vec<LoneRelay>,
    scientists: Vec<Scientist>,
    /// The run directory.
    pub dir: PathBuf,
    programs: Programs,
    topology: Topology,
}

impl Programs {
    /// The programs beside this one (tests lie one folder deeper).
    pub fn beside_this() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let folder = own.parent().context("this program lies in no folder")?;
        let is_test = folder.file_name().is_some_and(|name| name == "deps");
        let folder = if is_test { folder.parent().unwrap_or(folder) } else { folder };
        let programs = Self(folder.to_owned());
        for name in ["coordinator", "agent", "oar"] {
            if !programs.path(name).is_file() {
                bail!(
                    "{} is missing: build it with `cargo build --workspace --bins`",
                    programs.path(name).display()
                );
            }
        }
        Ok(programs)
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl World {
    /// Builds the networks of a coordinator and of a scientist behind `behind`. Nothing runs yet.
    pub fn new(
        dir: &Path,
        programs: Programs,
        settings: &Coordinator,
        behind: Preset,
    ) -> anyhow::Result<Self> {
        let topology = Topology::new()?;
        let machine = topology.add(&settings.name, Preset::None)?;
        let place = place(dir, &settings.name, &machine.netns)?;
        let file = programs.path("coordinator");
        let server = Server::new(machine, place, settings.clone(), file, API_PORT);
        let mut world = Self {
            volunteers: Vec::new(),
            servers: vec![server],
            proxies: Vec::new(),
            relays: Vec::new(),
            scientists: Vec::new(),
            dir: dir.to_owned(),
            programs,
            topology,
        };
        world.add_scientist("scientist", "alice", behind)?;
        Ok(world)
    }

    /// A world with a running coordinator, a logged-in scientist and volunteers that are all alive.
    pub fn start(
        dir: &Path,
        settings: &Coordinator,
        volunteers: &[(Preset, u16)],
    ) -> anyhow::Result<Self> {
        let mut world = Self::new(dir, Programs::beside_this()?, settings, Preset::Home)?;
        if volunteers.iter().any(|(behind, _)| *behind == Preset::WebOnly) {
            world.servers[0].api_port = WEB_PORT;
        }
        world.servers[0].start()?;
        for (behind, cores) in volunteers {
            world.add_volunteer(*behind, *cores)?;
        }
        world.enrol()?;
        (0..world.volunteers.len()).try_for_each(|index| world.start_agent(index))?;
        world.log_in()?;
        world.wait_until_alive(volunteers.len(), Duration::from_secs(30))?;
        Ok(world)
    }

    /// Adds the machine of a scientist of the first coordinator, which does not know the user yet.
    pub fn add_scientist(
        &mut self,
        machine: &str,
        user: &str,
        behind: Preset,
    ) -> anyhow::Result<()> {
        let (machine, place) = self.add_machine(machine, behind)?;
        let coordinator = self.servers[0].name();
        let programs = self.programs.clone();
        self.scientists.push(Scientist::new(user, coordinator, place, machine, programs));
        Ok(())
    }

    /// The first scientist.
    pub fn scientist(&self) -> &Scientist {
        &self.scientists[0]
    }

    /// The scientists.
    pub fn scientists(&self) -> &[Scientist] {
        &self.scientists
    }

    /// The scientists that a coordinator knows.
    pub fn scientists_of(&self, coordinator: &str) -> impl Iterator<Item = &Scientist> {
        self.scientists.iter().filter(move |scientist| scientist.coordinator == coordinator)
    }

    /// The first scientist that each coordinator knows.
    pub(crate) fn first_scientists(&self) -> impl Iterator<Item = &Scientist> {
        self.servers.iter().filter_map(|server| self.scientists_of(server.name()).next())
    }

    /// Makes the scientists known to their coordinators, and logs them in.
    pub fn log_in(&mut self) -> anyhow::Result<()> {
        for index in 0..self.scientists.len() {
            let Scientist { user, coordinator, .. } = &self.scientists[index];
            let login = self.server(coordinator)?.add_user(user)?;
            self.scientists[index].log_in(&login)?;
        }
        Ok(())
    }

    /// The path of one of the system's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// Adds a machine that belongs to none of the parts.
    pub fn add_machine(&self, name: &str, behind: Preset) -> anyhow::Result<(Machine, Place)> {
        let machine = self.topology.add(name, behind)?;
        let place = place(&self.dir, name, &machine.netns)?;
        Ok((machine, place))
    }

    /// The HTTP proxies of networks that let nothing else out.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &proxies::Proxy> {
        self.proxies.iter()
    }

    /// How everything stands, for an error: the jobs, and the end of each log.
    pub fn state(&self) -> String {
        let jobs: String = self.first_scientists().map(jobs_of).collect();
        let agents: String = self
            .volunteers
            .iter()
            .map(|volunteer| format!("\n  {}:{}", volunteer.host, volunteer.tail()))
            .collect();
        let servers = self.servers.iter().map(|it| format!("\n{}:{}", it.name(), it.tail()));
        let servers: String = servers.collect();
        let proxies: String = self.proxies.iter().map(proxies::Proxy::tail).collect();
        format!("jobs: {jobs}{servers}{proxies}\nthe agents:{agents}")
    }

    /// Ends everything in order; whatever is left behind by a program is an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        processes::resume_all();
        // Jobs that are over go with their nodes' next polls; those of agents that stop wait for a minute.
        let _ = wait::until("the end of all jobs", STOP, || {
            self.job_networks().ok()?.is_empty().then_some(())
        });
        // All are told before the first is waited for.
        self.volunteers.iter().for_each(Volunteer::tell_agent_to_stop);
        self.volunteers.iter_mut().try_for_each(Volunteer::stop_agent)?;
        self.stop_relays()?;
        self.servers.iter_mut().try_for_each(Server::stop)?;
        self.proxies.drain(..).try_for_each(|proxy| proxy.program.stop(STOP))?;
        let left = wait::until("the end of all processes", STOP, || {
            processes::of_lab().is_empty().then_some(())
        });
        if left.is_err() {
            let left: Vec<String> = processes::of_lab()
                .iter()
                .map(|p| {
                    format!("\n    {} {}", p.pid, p.command.chars().take(SHOWN).collect::<String>())
                })
                .collect();
            bail!("processes were left behind after a clean end:{}", left.concat());
        }
        Ok(())
    }
}

/// How the jobs of a scientist's coordinator stand, for an error.
fn jobs_of(scientist: &Scientist) -> String {
    let jobs = scientist.api(|client| async move {
        let every = JobFilter { states: STATES.to_vec(), ..JobFilter::default() };
        client.job_details(&every).await
    });
    match jobs {
        Ok(jobs) => jobs
            .items
            .iter()
            .map(|job| format!("\n  job {}: {}", job.id, scientist::describe(job)))
            .collect(),
        Err(error) => format!("\n  unknown at {}: {error:#}", scientist.coordinator),
    }
}

fn place(dir: &Path, name: &str, netns: &Netns) -> anyhow::Result<Place> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(Place { netns: netns.clone(), dir, env: Vec::new() })
}
