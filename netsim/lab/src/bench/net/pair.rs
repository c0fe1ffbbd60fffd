//! Two machines and the wire between them, with our own tunnel already up.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use coordinator_api::mesh::MeshPair;
use netsim_sim::{LinkProfile, Loss, OneWay, Rate};
use netsim_wire::{Cable, LineId, LineSpec, Wires};
use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use super::floor;
use super::tunnels::{End, Tunnel, Way};
use crate::program::Place;
use crate::wait;
use crate::world::{Programs, RENDEZVOUS_PORT, Submission, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;

/// The wire's name at both ends.
pub(super) const WIRE: &str = "bench0";
/// The machines' addresses on the wire.
pub(super) const ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];
/// The distant wire's name at both ends.
pub(super) const FAR_WIRE: &str = "bench1";
/// The name of the wire to the relay's machine.
const RELAY_WIRE: &str = "bench2";
/// The machines' addresses on the distant wire.
pub(super) const FAR_ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 99, 1, 1), Ipv4Addr::new(10, 99, 1, 2)];
/// Where the other tunnels' addresses are.
const TUNNELS: &str = "10.98.0.0/16";
/// How long the distant wire is, there or back.
const FAR: Duration = Duration::from_millis(10);
/// How fast it is: what the thread that carries its frames does with ease. Its queue holds one round
/// trip's worth.
const FAR_RATE: Rate = Rate { bits_per_s: 300_000_000, queue_bytes: 750_000 };
/// How long commands and starts may take.
const SOON: Duration = Duration::from_secs(60);
/// How long our tunnel may take until it has settled on the wire.
const SETTLED: Duration = Duration::from_secs(20);
/// How long until it has given UDP up.
const GIVEN_UP: Duration = Duration::from_secs(90);
/// What the relay grants two nodes, Mbit/s: more than it can do here.
const UNLIMITED: &str = "100000";
/// The job lasts longer than any run.
const WALLTIME: Duration = Duration::from_secs(6 * 3600);

/// Two machines, joined.
pub(super) struct Pair {
    world: World,
    job: u64,
    far: Option<FarWire>,
    has_relay_wires: bool,
}

/// The distant wire, while it is there.
struct FarWire {
    wires: Wires,
    line: LineId,
}

impl Pair {
    /// Joins the machines, starts the system and a job that does nothing on both.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        // Tunnel programs keep their control sockets below /run: one of this lab's own, that vanishes.
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a /run of the lab's own")?;
        let settings = Coordinator { launch_deadline: SOON, ..Coordinator::default() };
        let mut world = World::new(dir, Programs::beside_this()?, &settings, Preset::None)?;
        // Ratios of ways are ratios of what they can do, not of what an operator grants.
        world.servers[0].place.env.push(("RELAY_RATE".into(), UNLIMITED.into()));
        world.servers[0].start()?;
        for _ in ADDRESSES {
            world.add_volunteer(Preset::None, 1)?;
        }
        world.enrol()?;
        let this = Self { world, job: 0, far: None, has_relay_wires: false };
        this.lay_wire()?;
        let mut world = this.world;
        (0..ADDRESSES.len()).try_for_each(|index| world.start_agent(index))?;
        world.log_in()?;
        world.wait_until_alive(ADDRESSES.len(), SOON)?;
        let idle = Submission {
            walltime: Some(WALLTIME),
            ..Submission::new("sleep 86400", 2, &["mesh", "spmd"])
        };
        let job = world.scientist().submit(&idle)?;
        let running = coordinator_api::job::JobState::Running;
        world.scientist().wait_for_job(job, "its start", SOON, |job| job.state == running)?;
        let mut this = Self { world, job, far: None, has_relay_wires: false };
        this.wait_for_wire()?;
        Ok(this)
    }

    /// A machine's place: 0 is the left one.
    pub(super) fn place(&self, side: usize) -> &Place {
        &self.world.volunteers[side].place
    }

    /// The ends of our own tunnel.
    pub(super) fn own_ends(&mut self) -> anyhow::Result<[End; 2]> {
        let networks = wait::until("the job's networks", SOON, || {
            self.world.job_networks().ok().filter(|found| found.len() == 2)
        })?;
        let mut end = |side: usize| {
            let volunteer = &mut self.world.volunteers[side];
            let agent = volunteer.agent()?.pid();
            let network = networks
                .iter()
                .find(|network| network.host == volunteer.host)
                .context("the job does not run on both machines")?;
            let place = Place { netns: network.netns.clone(), ..volunteer.place.clone() };
            let address = network.ipv4.context("the job has no address")?;
            anyhow::Ok(End { place, address, device: "mesh0".to_owned(), processes: vec![agent] })
        };
        Ok([end(0)?, end(1)?])
    }

    /// An installed program.
    pub(super) fn tool(&self, name: &str) -> anyhow::Result<PathBuf> {
        find(name, None)
    }

    /// Ends everything; what is left behind is an error.
    pub(super) fn stop(self, tunnels: Vec<Tunnel>) -> anyhow::Result<()> {
        drop(tunnels);
        self.world.scientist().oar(&["del", &self.job.to_string()])?;
        self.world.scientist().wait_for_end(self.job, SOON)?;
        self.world.stop()
    }

    fn lay_wire(&self) -> anyhow::Result<()> {
        let right = &self.world.volunteers[1].machine.netns;
        let there = format!("/proc/{}/fd/{}", std::process::id(), right.descriptor());
        let ip = self.tool("ip")?;
        let run =
            |side: usize, args: &[&str]| self.place(side).expect("ip", &ip, args, SOON).map(drop);
        run(0, &["link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", &there])?;
        for (side, address) in ADDRESSES.iter().enumerate() {
            run(side, &["address", "add", &format!("{address}/24"), "dev", WIRE])?;
            run(side, &["link", "set", WIRE, "up"])?;
            // The machines have public addresses too; a tunnel over their routers would measure those.
            let other = self.world.volunteers[1 - side].machine.address;
            let rules = format!(
                "table ip bench {{ chain in {{ type filter hook input priority 0; ip saddr {other} drop; }}; }}"
            );
            self.place(side).expect("nft", &self.tool("nft")?, [rules], SOON)?;
        }
        Ok(())
    }

    /// Our tunnel uses the wire, as the others do.
    fn wait_for_wire(&mut self) -> anyhow::Result<()> {
        self.wait_for_path("the wire", SETTLED, |pair| {
            let via = pair.via.as_deref().unwrap_or_default();
            ADDRESSES.iter().any(|address| via.starts_with(&address.to_string()))
        })
    }

    /// Leaves our tunnel no better way than that. To be called in the order of [`Way::ALL`]; the first
    /// ones may be left out.
    pub(super) fn open(&mut self, way: Way) -> anyhow::Result<()> {
        match way {
            Way::Distant => {
                self.close_wire()?;
                self.lay_far_wire()?;
                self.wait_for_path("the distant wire", SETTLED, |pair| {
                    let via = pair.via.as_deref().unwrap_or_default();
                    FAR_ADDRESSES.iter().any(|address| via.starts_with(&address.to_string()))
                })
            }
            Way::Lossy => {
                let far = self.far.as_ref().context("there is no distant wire")?;
                Ok(far.wires.set_profile(far.line, distant(0.01))?)
            }
            Way::Relay => {
                self.leave_the_relay()?;
                self.wait_for_path("the relay", SETTLED, |pair| pair.path == "relayed")
            }
            Way::Quic => {
                self.leave_the_relay()?;
                self.stop_udp(&format!("udp sport != {RENDEZVOUS_PORT}"))?;
                self.wait_for_path("QUIC datagrams", GIVEN_UP, |pair| {
                    pair.path == "relayed" && pair.explain.contains("in QUIC datagrams")
                })
            }
            Way::Tls => {
                self.leave_the_relay()?;
                self.stop_udp("meta l4proto udp")?;
                self.wait_for_path("TLS", GIVEN_UP, |pair| {
                    pair.path == "relayed" && pair.explain.contains("over TLS")
                })
            }
        }
    }

    /// Leaves no way but those over the relay. An idle pair would not notice by itself: its data has to find the
    /// wires closed, so they are before anything else is.
    fn leave_the_relay(&mut self) -> anyhow::Result<()> {
        if self.has_relay_wires {
            return Ok(());
        }
        if self.far.take().is_none() {
            self.close_wire()?;
        }
        self.lay_relay_wires()
    }

    /// Drops what matches as it arrives at the machines.
    fn stop_udp(&self, what: &str) -> anyhow::Result<()> {
        let rules = format!(
            "add table inet benchudp; \
             add chain inet benchudp in {{ type filter hook input priority 0; }}; \
             add rule inet benchudp in {what} drop"
        );
        for side in 0..ADDRESSES.len() {
            self.place(side).expect("nft", &self.tool("nft")?, [&rules], SOON)?;
        }
        Ok(())
    }

    /// The process that the relay runs in.
    pub(super) fn relay(&self) -> anyhow::Result<Pid> {
        self.world.servers[0].pid().context("the coordinator does not run")
    }

    /// Processor seconds per GB of a program that only passes datagrams on, where the relay runs.
    pub(super) fn relay_floor(&self, each: Duration) -> anyhow::Result<f64> {
        let [from, to] = [0, 1].map(|side| &self.world.volunteers[side].machine);
        let server = &self.world.servers[0].machine;
        floor::seconds_per_gb(
            [&from.netns, &server.netns, &to.netns],
            [server.address, to.address],
            each,
        )
    }

    /// Closes the wire to UDP, and the other tunnels, which would be direct ways, too.
    fn close_wire(&self) -> anyhow::Result<()> {
        let rules = format!(
            "add chain ip bench out {{ type filter hook output priority 0; }}; \
             add rule ip bench out oifname {WIRE} udp dport != 0 drop; \
             add rule ip bench out ip daddr {TUNNELS} udp dport != 0 drop"
        );
        for side in 0..ADDRESSES.len() {
            self.place(side).expect("nft", &self.tool("nft")?, [&rules], SOON)?;
        }
        Ok(())
    }

    /// Joins the machines by another wire, whose frames a thread of this process carries.
    fn lay_far_wire(&mut self) -> anyhow::Result<()> {
        let wires = Wires::new()?;
        let [near, far] = [0, 1].map(|side| &self.world.volunteers[side].machine.netns);
        let there = format!("/proc/{}/fd/{}", std::process::id(), far.descriptor());
        let ip = self.tool("ip")?;
        let run =
            |side: usize, args: &[&str]| self.place(side).expect("ip", &ip, args, SOON).map(drop);
        run(
            0,
            &["link", "add", FAR_WIRE, "type", "veth", "peer", "name", FAR_WIRE, "netns", &there],
        )?;
        let cable = Cable { near: near.borrowed(), name: FAR_WIRE, far: far.borrowed() };
        let spliced = cable.splice(None).context("cannot lay the distant wire")?;
        let spec = LineSpec { profile: distant(0.0), seed: 1, ..LineSpec::default() };
        let line = wires.add(spec, spliced)?;
        for (side, address) in FAR_ADDRESSES.iter().enumerate() {
            run(side, &["address", "add", &format!("{address}/24"), "dev", FAR_WIRE])?;
            run(side, &["link", "set", FAR_WIRE, "up"])?;
        }
        self.far = Some(FarWire { wires, line });
        Ok(())
    }

    /// Joins each machine and the relay's by a bare wire, as the machines are: the work of the routers between
    /// them would count as that of whoever sends.
    fn lay_relay_wires(&mut self) -> anyhow::Result<()> {
        self.has_relay_wires = true;
        let (ip, server) = (self.tool("ip")?, &self.world.servers[0]);
        let there =
            format!("/proc/{}/fd/{}", std::process::id(), server.machine.netns.descriptor());
        for side in 0..ADDRESSES.len() {
            let run = |args: &[&str]| self.place(side).expect("ip", &ip, args, SOON).map(drop);
            let run_there = |args: &[&str]| server.place.expect("ip", &ip, args, SOON).map(drop);
            let far_end = format!("{RELAY_WIRE}-{side}");
            let addresses = [&self.world.volunteers[side].machine, &server.machine];
            let [own, relay] = addresses.map(|machine| machine.address.to_string());
            run(&[
                "link", "add", RELAY_WIRE, "type", "veth", "peer", "name", &far_end, "netns",
                &there,
            ])?;
            run(&["link", "set", RELAY_WIRE, "up"])?;
            run_there(&["link", "set", &far_end, "up"])?;
            run_there(&["route", "replace", &own, "dev", &far_end, "src", &relay])?;
            run(&["route", "replace", &relay, "dev", RELAY_WIRE, "src", &own])?;
        }
        Ok(())
    }

    /// Waits while packets are sent: an idle pair does not find out that its path is gone.
    fn wait_for_path(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&MeshPair) -> bool,
    ) -> anyhow::Result<()> {
        let (ping, [from, to]) = (self.tool("ping")?, self.own_ends()?);
        let to = to.address.to_string();
        let mut seen = Vec::new();
        let waited = wait::until_every(Duration::from_millis(500), what, limit, || {
            let args = ["-n", "-c", "1", "-W", "1", &to];
            from.place.run("ping", &ping, args, SOON).ok()?;
            seen = self.world.scientist().mesh(self.job).ok()?.pairs;
            (seen.len() == 2 && seen.iter().all(&holds)).then_some(())
        });
        match waited {
            Ok(()) => Ok(()),
            Err(_) => bail!("our tunnel does not use {what}: {seen:?}"),
        }
    }
}

/// A process's resident memory.
pub(super) fn resident_kib(pid: Pid) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .context("the kernel tells no memory of the agent")
}

/// A link of [`FAR`] that loses that share of the packets, both ways.
fn distant(loss: f64) -> LinkProfile {
    let loss = if loss > 0.0 { Loss::Independent(loss) } else { Loss::None };
    let way = OneWay { delay: FAR, rate: Some(FAR_RATE), loss, ..OneWay::PERFECT };
    LinkProfile { up: way, down: way }
}

/// A program in `first`, in PATH, or where the system's programs are.
pub(super) fn find(name: &str, first: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    first
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed"))
}
