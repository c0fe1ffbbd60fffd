//! Many nodes: eight that all talk with each other, and one with 64 and with 256 peers.
//!
//! The peers' agents share this machine with it, so that throughput is what is left beside them; the
//! memory is that of one agent alone.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coordinator_api::job::JobState;
use netsim_scenario::ScenarioFile;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use super::Plan;
use super::load::cpu_seconds;
use super::pair::resident_kib;
use crate::bench::figures::{Better, Figure};
use crate::netns::Netns;
use crate::progress::Progress;
use crate::wait;
use crate::world::{JobNetwork, Programs, Submission, World};

/// Nodes of the largest mesh: one, and 256 peers.
const NODES: u16 = 257;
/// Their networks: the exchange has not room for each by itself.
const NETWORKS: &str = r#"
title = "many nodes on three campuses"
[coordinator]
launch-deadline = "240s"
[[routers]]
name = "first"
[[routers]]
name = "second"
[[routers]]
name = "third"
[[volunteers]]
router = "first"
count = 86
[[volunteers]]
router = "second"
count = 86
[[volunteers]]
router = "third"
count = 85
[[job]]
command = "true"
"#;
/// How long many nodes may take to be there, and a job of all of them to start.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long a stream may take to connect and to end.
const STREAM: Duration = Duration::from_secs(10);
/// The first port of the streams' servers.
const PORT: u16 = 7000;
/// Bytes written or read at a time.
const CHUNK: usize = 128 * 1024;

/// Measures; what could not be measured says why.
pub(super) fn measure(plan: &Plan, progress: &mut Progress) -> Vec<Figure> {
    let memory = || {
        Figure::new("driver's memory with 256 peers", "MiB", Better::Lower, Vec::new())
            .note("resident, the whole agent")
    };
    let mut figures = Vec::new();
    match try_measure(plan, progress, &mut figures) {
        Ok(mib) => {
            let with = Figure { rounds: vec![mib], value: Some(mib), ..memory() };
            figures.insert(0, with.require(64.0, 24.0));
        }
        Err(error) => {
            progress.note(&format!("many nodes were not measured: {error:#}"));
            figures.insert(0, memory().require(64.0, 24.0).note(format!("{error:#}")));
        }
    }
    figures
}

fn try_measure(
    plan: &Plan,
    progress: &mut Progress,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<f64> {
    progress.begin(format!("starting {NODES} nodes"));
    let dir = plan.dir.join("crowd");
    std::fs::create_dir_all(&dir)?;
    let file = ScenarioFile::parse(Path::new("crowd.toml"), NETWORKS.to_owned())?;
    let resolved = file.resolve(None)?;
    let mut world = World::build(&dir, Programs::beside_this()?, &resolved)?;
    world.servers[0].start()?;
    world.enrol()?;
    (0..usize::from(NODES)).try_for_each(|index| world.start_agent(index))?;
    world.log_in()?;
    world.wait_until_alive(NODES.into(), PATIENCE)?;

    progress.begin("8 nodes, all to all");
    let (job, networks) = start(&world, 8, "mesh")?;
    let pairs = |from: &JobNetwork| {
        let others: Vec<_> = networks.iter().filter(|to| to.host != from.host).cloned().collect();
        others.into_iter().map(|to| (from.clone(), to)).collect::<Vec<_>>()
    };
    let all: Vec<_> = networks.iter().flat_map(pairs).collect();
    figures.extend(load(&mut world, plan, &all, "8 nodes all-to-all")?);
    end(&world, job)?;

    progress.begin("64 peers, traffic on 8");
    let (job, networks) = start(&world, 65, "mesh=star")?;
    let (centre, peers) = star(&networks)?;
    let some: Vec<_> = peers.iter().take(8).map(|peer| (centre.clone(), peer.clone())).collect();
    figures.extend(load(&mut world, plan, &some, "64 peers with traffic on 8")?);
    end(&world, job)?;

    progress.begin("256 peers");
    let (job, networks) = start(&world, NODES, "mesh=star")?;
    let (centre, _) = star(&networks)?;
    let kib = resident_kib(agent_of(&mut world, &centre.host)?)?;
    end(&world, job)?;
    if let Err(error) = world.stop() {
        progress.note(&format!("not all ended: {error:#}"));
    }
    Ok(kib as f64 / 1024.0)
}

/// Starts a job that does nothing, and finds its networks.
fn start(world: &World, nodes: u16, mesh: &str) -> anyhow::Result<(u64, Vec<JobNetwork>)> {
    let idle = Submission {
        walltime: Some(Duration::from_secs(3600)),
        ..Submission::new("sleep 86400", nodes, &[mesh, "spmd"])
    };
    let job = world.scientist().submit(&idle)?;
    world
        .scientist()
        .wait_for_job(job, "its start", PATIENCE, |job| job.state == JobState::Running)?;
    let networks = wait::until_every(STREAM / 10, "the job's networks", PATIENCE, || {
        let all_there = |found: &Vec<JobNetwork>| {
            found.len() == usize::from(nodes) && found.iter().all(|n| n.ipv4.is_some())
        };
        world.job_networks().ok().filter(all_there)
    })?;
    Ok((job, networks))
}

fn end(world: &World, job: u64) -> anyhow::Result<()> {
    world.scientist().oar(&["del", &job.to_string()])?;
    world.scientist().wait_for_end(job, PATIENCE)?;
    wait::until_every(STREAM / 10, "the end of the job's networks", PATIENCE, || {
        world.job_networks().ok().filter(Vec::is_empty).map(drop)
    })?;
    Ok(())
}

/// The node that has all others for peers, and those.
fn star(networks: &[JobNetwork]) -> anyhow::Result<(JobNetwork, Vec<JobNetwork>)> {
    let (centre, peers): (Vec<_>, Vec<_>) = networks
        .iter()
        .cloned()
        .partition(|network| network.ipv4 == Some(Ipv4Addr::new(10, 128, 0, 1)));
    Ok((centre.into_iter().next().context("the star has no centre")?, peers))
}

fn agent_of(world: &mut World, host: &str) -> anyhow::Result<Pid> {
    let volunteer = world.volunteers.iter_mut().find(|volunteer| volunteer.host == host);
    Ok(volunteer.with_context(|| format!("there is no {host}"))?.agent()?.pid())
}

/// Runs one TCP stream for each pair at once.
fn load(
    world: &mut World,
    plan: &Plan,
    pairs: &[(JobNetwork, JobNetwork)],
    name: &str,
) -> anyhow::Result<Vec<Figure>> {
    let mut agents = Vec::new();
    for host in pairs.iter().flat_map(|(from, to)| [&from.host, &to.host]) {
        let agent = agent_of(world, host)?;
        if !agents.contains(&agent) {
            agents.push(agent);
        }
    }
    let before = cpu_seconds(agents.iter().copied());
    let started = Instant::now();
    let mut streams = Vec::new();
    for (number, (from, to)) in (0..).zip(pairs) {
        let address = to.ipv4.context("the job has no address")?;
        streams.push(stream(&from.netns, &to.netns, (address, PORT + number), plan.each)?);
    }
    let mut bytes = 0;
    for stream in streams {
        bytes += stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))??;
    }
    let took = started.elapsed().as_secs_f64();
    let spent = cpu_seconds(agents.into_iter()) - before;
    let goodput = bytes as f64 * 8.0 / took / 1e9;
    let per_gb = spent / (bytes as f64 / 1e9);
    let streams = pairs.len();
    Ok(vec![
        Figure::new(format!("{name}: goodput"), "Gbit/s", Better::Higher, vec![goodput])
            .note(format!("{streams} TCP streams, all ends on this machine")),
        Figure::new(format!("{name}: daemons"), "s/GB", Better::Lower, vec![per_gb]),
    ])
}

/// One TCP stream, cubic; the thread returns the bytes that arrived.
fn stream(
    from: &Netns,
    to: &Netns,
    at: (Ipv4Addr, u16),
    during: Duration,
) -> anyhow::Result<JoinHandle<io::Result<io::Result<u64>>>> {
    let listener = to.run(move || TcpListener::bind(at))??;
    let sending = from.spawn("stream", move || send(at, during))?;
    Ok(to.spawn("sink", move || {
        // Whoever should connect may fail to.
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(STREAM).unwrap_or(PollTimeout::MAX))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(during + STREAM))?;
        let (mut chunk, mut bytes) = (vec![0; CHUNK], 0);
        loop {
            match stream.read(&mut chunk)? {
                0 => break,
                len => bytes += len as u64,
            }
        }
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))??;
        Ok(bytes)
    })?)
}

fn send(at: (Ipv4Addr, u16), during: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&at.into(), STREAM)?;
    setsockopt(&stream, sockopt::TcpCongestion, &"cubic".into())?;
    stream.set_write_timeout(Some(during + STREAM))?;
    let (chunk, started) = (vec![0x5a; CHUNK], Instant::now());
    while started.elapsed() < during {
        stream.write_all(&chunk)?;
    }
    Ok(())
}
