//! Many nodes: eight that all talk with each other, and one with 64 and with 256 peers.
//!
//! The peers' agents share this machine with it, so that throughput is what is left beside them; the
//! memory is that of one agent alone, with all handshakes done.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use coordinator_api::job::JobState;
use netsim_scenario::ScenarioFile;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use super::load::cpu_seconds;
use super::pair::resident_kib;
use super::{Plan, wanted};
use crate::bench::figures::{Better, Figure};
use crate::netns::Netns;
use crate::progress::Progress;
use crate::wait;
use crate::world::{JobNetwork, Programs, Submission, World};

/// Nodes of the largest mesh: one, and 256 peers.
const NODES: u16 = 257;
/// Their networks: the exchange has not room for each by itself. They ask for work seldom, as nodes outside do:
/// hundreds of questions a second would be what is measured.
const NETWORKS: &str = r#"
title = "many nodes on three campuses"
[coordinator]
poll-interval = "4s"
node-timeout = "240s"
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
/// A port where nobody listens in a job's network.
const UNUSED_PORT: u16 = 9;
/// Bytes written or read at a time.
const CHUNK: usize = 128 * 1024;

/// What `--only` calls these figures: all of them, and each.
pub(super) const NAMES: [&str; 4] = ["many nodes", "8 nodes", "64 peers", "256 peers"];

pub(super) fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Measures what the plan wants; what could not be measured says why.
pub(super) fn measure(plan: &Plan, progress: &mut Progress) -> Vec<Figure> {
    let [all, each @ ..] = NAMES;
    let wants = |name| wanted(&plan.only, all, &NAMES) || wanted(&plan.only, name, &NAMES);
    let mut figures = Vec::new();
    if let Err(error) = try_measure(plan, each.map(wants), progress, &mut figures) {
        progress.note(&format!("not all of the many nodes were measured: {error:#}"));
        if wants(each[2]) {
            figures.push(memory(None).note(format!("{error:#}")));
        }
    }
    figures
}

/// The figure that has a bound.
fn memory(mib: Option<f64>) -> Figure {
    let figure = Figure::new(
        "driver's memory with 256 peers",
        "MiB",
        Better::Lower,
        mib.into_iter().collect(),
    );
    figure.require(64.0, 24.0)
}

fn try_measure(
    plan: &Plan,
    [eight, sixty_four, all]: [bool; 3],
    progress: &mut Progress,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    progress.begin(format!("starting {NODES} nodes"));
    let dir = plan.dir.join("crowd");
    std::fs::create_dir_all(&dir)?;
    let file = ScenarioFile::parse(Path::new("crowd.toml"), NETWORKS.to_owned())?;
    let resolved = file.resolve(None)?;
    let mut world = World::build(&dir, Programs::beside_this()?, &resolved)?;
    world.servers[0].start()?;
    world.enrol()?;
    let nodes = if all { NODES } else { 65 };
    (0..usize::from(nodes)).try_for_each(|index| world.start_agent(index))?;
    world.log_in()?;
    world.wait_until_alive(nodes.into(), PATIENCE)?;

    if eight {
        progress.begin("8 nodes, all to all");
        let (job, networks) = start(&world, 8, &["mesh", "spmd"], 8)?;
        let pairs = |from: &JobNetwork| {
            let others = networks.iter().filter(|to| to.host != from.host).cloned();
            others.map(|to| (from.clone(), to)).collect::<Vec<_>>()
        };
        let all: Vec<_> = networks.iter().flat_map(pairs).collect();
        figures.extend(load(&mut world, plan, &all, "8 nodes all-to-all")?);
        end(&world, job)?;
    }
    if sixty_four {
        progress.begin("64 peers, traffic on 8");
        let (job, networks) = start(&world, 65, &["mesh=star", "spmd"], 65)?;
        let (centre, peers) = star(&networks)?;
        greet(&centre, 64)?;
        let some: Vec<_> =
            peers.iter().take(8).map(|peer| (centre.clone(), peer.clone())).collect();
        figures.extend(load(&mut world, plan, &some, "64 peers with traffic on 8")?);
        end(&world, job)?;
    }
    if all {
        progress.begin("256 peers");
        // The command runs on the first node, which is the centre: 256 more would only load the machine.
        let (job, networks) = start(&world, NODES, &["mesh=star"], 1)?;
        let (centre, _) = star(&networks)?;
        let before = resident_kib(agent_of(&mut world, &centre.host)?)?;
        greet(&centre, NODES - 1)?;
        let kib = resident_kib(agent_of(&mut world, &centre.host)?)?;
        let note = format!(
            "resident, the whole agent, after a round trip with each; {:.1} MiB before the first",
            before as f64 / 1024.0
        );
        figures.push(memory(Some(kib as f64 / 1024.0)).note(note));
        end(&world, job)?;
    }
    if let Err(error) = world.stop() {
        progress.note(&format!("not all ended: {error:#}"));
    }
    Ok(())
}

/// Makes a round trip with each peer, which only a finished handshake lets through: nobody listens there, and
/// the peer's kernel says so.
fn greet(centre: &JobNetwork, peers: u16) -> anyhow::Result<()> {
    let answers = centre.netns.run(move || {
        let address = |index: u16| {
            let [high, low] = (index + 1).to_be_bytes();
            Ipv4Addr::new(10, 128, high, low)
        };
        let ask = |at| TcpStream::connect_timeout(&SocketAddr::from((at, UNUSED_PORT)), STREAM);
        (1..=peers).map(address).find_map(|at| match ask(at) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
            other => Some((at, other.map(drop))),
        })
    })?;
    match answers {
        None => Ok(()),
        Some((at, answer)) => bail!("no round trip with {at}: {answer:?}"),
    }
}

/// Starts a job that does nothing, and finds the networks of that many processes of it.
fn start(
    world: &World,
    nodes: u16,
    types: &[&str],
    processes: usize,
) -> anyhow::Result<(u64, Vec<JobNetwork>)> {
    let idle = Submission {
        walltime: Some(Duration::from_secs(3600)),
        ..Submission::new("sleep 86400", nodes, types)
    };
    let job = world.scientist().submit(&idle)?;
    world
        .scientist()
        .wait_for_job(job, "its start", PATIENCE, |job| job.state == JobState::Running)?;
    let networks = wait::until_every(STREAM / 10, "the job's networks", PATIENCE, || {
        let all_there = |found: &Vec<JobNetwork>| {
            found.len() >= processes && found.iter().all(|n| n.ipv4.is_some())
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
