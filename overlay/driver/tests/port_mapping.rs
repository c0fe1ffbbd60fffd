//! Routers that open ports on request, Debian's `miniupnpd`: behind two NATs that give a new random port for each
//! destination, a pair goes direct; the lease is renewed, and at the end the port is shut again. By NAT-PMP and PCP,
//! then by UPnP alone. And a port that its owner has forwarded by hand (`agent run --advertise`); and two that meet by chance
//! (`agent run --allow-birthday-probing`).
//!
//! ```text
//!   node 1 ─ router 1 (nft, random ports; miniupnpd) ─ this namespace ─ router 2 (the same without) ─ node 2
//!   192.168.71.2            11.77.1.2                 coordinator, relay            192.168.72.2
//! ```
//!
//! A plain program in namespaces of its own, as `device.rs`. Needs iproute2, nftables, util-linux and
//! miniupnpd-nftables. Nothing leaves the namespaces: the addresses are such as miniupnpd takes for public.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use overlay_core::CandidateKind;
use overlay_core::control::PathReport;
use overlay_driver::{Leases, Mesh, Overlay, WireGuardSecret};
use support::{Coordinator, MESH, path_of};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);

/// What every home router does; in place of PORTS, how it chooses a flow's port.
const NAT: &str = "
table inet filter {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname \"wan\" ct state established,related accept
    iifname \"wan\" drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname \"lan\" oifname \"wan\" accept
    jump miniupnpd
  }
  chain miniupnpd { }
  chain prerouting {
    type nat hook prerouting priority dstnat;
    jump prerouting_miniupnpd
  }
  chain prerouting_miniupnpd { }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    jump postrouting_miniupnpd
    oifname \"wan\" masquerade PORTS
  }
  chain postrouting_miniupnpd { }
}
";

/// A new random port for each flow.
const RANDOM: &str = "random,fully-random";

/// What the router offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offers {
    NatPmpAndPcp,
    Upnp,
    /// Nothing: the owner has forwarded this port to the machine.
    Forwarded(u16),
    /// Nothing: the volunteer allows to try many ports.
    Chance,
}

impl Offers {
    fn settings(self) -> &'static str {
        match self {
            Self::NatPmpAndPcp => "enable_natpmp=yes\nenable_upnp=no\nmin_lifetime=2",
            Self::Upnp => "enable_natpmp=no\nenable_upnp=yes",
            Self::Forwarded(_) | Self::Chance => "enable_natpmp=no\nenable_upnp=no",
        }
    }

    /// What miniupnpd writes when it hears requests, and at each that opens a port.
    fn log(self) -> (&'static str, &'static str) {
        match self {
            Self::NatPmpAndPcp => ("NAT-PMP/PCP traffic", "PCP MAP: "),
            Self::Upnp => ("HTTP listening on port", "AddPortMapping: "),
            Self::Forwarded(_) | Self::Chance => ("", ""),
        }
    }
}

/// Leases that are renewed while somebody looks.
const SHORT: Leases = Leases {
    lifetime: Duration::from_secs(4),
    least_pause: Duration::from_secs(1),
    look: Duration::from_millis(200),
    retry: Duration::from_secs(1),
};

const MINIUPNPD: &str = "
ext_ifname=wan
listening_ip=lan
secure_mode=yes
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.71.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
";

fn main() {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("enter a network namespace");
    if !uid.is_root() {
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    }
    run("ip", &["link", "set", "lo", "up"]);
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    for offers in [Offers::NatPmpAndPcp, Offers::Upnp, Offers::Forwarded(41_700)] {
        a_pair_behind_random_ports_goes_direct_by_a_port_that_the_router_opens(offers);
    }
    // One attempt in sixty comes to nothing, by chance.
    let met = (0..3).any(|_| a_pair_behind_random_ports_and_a_home_meets_by_chance());
    assert!(met, "three attempts in a row: once in 200,000");
}

/// The coordinator and its relay, for as long as the second part lives.
fn coordinate(outside: &Runtime) -> (Arc<Coordinator>, impl Sized) {
    outside.block_on(async {
        let coordinator = Coordinator::new();
        coordinator.share_candidates();
        let server = coordinator.serve_at("11.77.1.1:6443".parse().unwrap()).await;
        let relay = coordinator.relay_at("11.77.1.1:6444".parse().unwrap());
        *coordinator.advertised.lock().unwrap() = relay.local_addr();
        (coordinator, (relay, server))
    })
}

/// Both volunteers allow to try many ports. Whether the pair went direct.
fn a_pair_behind_random_ports_and_a_home_meets_by_chance() -> bool {
    let homes = [Home::build(1, RANDOM), Home::build(2, "")];
    let outside = Runtime::new().unwrap();
    let (coordinator, serving) = coordinate(&outside);
    let nodes = [0, 1].map(|index: usize| homes[index].node(&coordinator, Some(Offers::Chance)));
    let is_direct = |node: &Node| {
        let path = path_of(&node.runtime.block_on(node.mesh.pairs()));
        matches!(path, PathReport::Direct { .. })
    };
    let end = Instant::now() + Duration::from_secs(40);
    let mut met = false;
    while !met && Instant::now() < end {
        for (node, other) in [(&nodes[0], 1u16), (&nodes[1], 0)] {
            node.job.send(&packet(1 - other, other)).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        met = nodes.iter().all(is_direct);
    }
    let view = nodes[0].runtime.block_on(nodes[0].overlay.view()).unwrap();
    assert_eq!(view.node.stats.chances, 1, "{:?} {:?}", view.node.mapping, view.node.candidates);
    for node in nodes {
        node.runtime.block_on(node.overlay.shutdown());
    }
    drop(serving);
    met
}

fn a_pair_behind_random_ports_goes_direct_by_a_port_that_the_router_opens(offers: Offers) {
    let homes = [Home::build(1, RANDOM), Home::build(2, RANDOM)];
    let daemon = homes[0].offer(offers);
    let outside = Runtime::new().unwrap();
    let (coordinator, serving) = coordinate(&outside);
    let nodes = [homes[0].node(&coordinator, Some(offers)), homes[1].node(&coordinator, None)];

    let kind = match offers {
        Offers::NatPmpAndPcp | Offers::Upnp => CandidateKind::PortMapped,
        Offers::Forwarded(_) | Offers::Chance => CandidateKind::OperatorSet,
    };
    let mapped = |node: &Node| {
        let candidates = node.runtime.block_on(node.overlay.view()).unwrap().node.candidates;
        let all = candidates.into_iter().flat_map(|own| own.candidates);
        all.filter(|c| c.kind == kind).map(|c| c.endpoint).collect::<Vec<_>>()
    };
    until("a mapped port is announced", || !mapped(&nodes[0]).is_empty());
    let endpoint = mapped(&nodes[0])[0];
    assert_eq!(endpoint.ip(), "11.77.1.2".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(mapped(&nodes[1]), [], "its router opens none");
    assert!(homes[0].rules().contains(&endpoint.port().to_string()));
    if let Some(daemon) = &daemon {
        // Each lasts four seconds.
        until("the lease is renewed thrice", || daemon.opened(offers, endpoint.port()) >= 4);
        assert!(homes[0].rules().contains(&endpoint.port().to_string()));
        assert_eq!(mapped(&nodes[0]), [endpoint]);
    }

    // Data, or the pair would rest on the relay.
    until("a direct path at the mapped port", || {
        for (node, other) in [(&nodes[0], 1u16), (&nodes[1], 0)] {
            node.job.send(&packet(1 - other, other)).unwrap();
        }
        path_of(&nodes[1].runtime.block_on(nodes[1].mesh.pairs()))
            == PathReport::Direct { endpoint }
    });

    let [first, second] = nodes;
    for node in [first, second] {
        node.runtime.block_on(node.overlay.shutdown());
    }
    if daemon.is_some() {
        let rules = homes[0].rules();
        assert!(!rules.contains(&endpoint.port().to_string()), "{rules}");
    }
    drop((serving, daemon));
}

/// An IPv4 packet of the job, UDP to a port where nobody listens, with the header that a device wants.
fn packet(from: u16, to: u16) -> Vec<u8> {
    let mut packet = vec![0u8; 10];
    packet.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(MESH.ipv4(from).octets());
    packet.extend(MESH.ipv4(to).octets());
    packet.extend([0x13, 0x88, 0x13, 0x88, 0, 8, 0, 0]);
    packet
}

struct Node {
    runtime: Runtime,
    overlay: Overlay,
    mesh: Mesh,
    job: UnixDatagram,
}

/// A router and a machine behind it. Both end when dropped.
struct Home {
    number: u8,
    router: Child,
    machine: Child,
}

impl Home {
    fn build(number: u8, ports: &str) -> Self {
        let home = Self { number, router: namespace(), machine: namespace() };
        let (router, machine) = (home.router.id().to_string(), home.machine.id().to_string());
        let (outer, own) = (format!("11.77.{number}"), format!("192.168.7{number}"));
        let out = format!("out{number}");
        run("ip", &["link", "add", &out, "type", "veth", "peer", "name", "wan", "netns", &router]);
        run("ip", &["addr", "add", &format!("{outer}.1/24"), "dev", &out]);
        run("ip", &["link", "set", &out, "up"]);
        at(&home.router, "ip link set lo up");
        at(&home.router, &format!("ip addr add {outer}.2/24 dev wan"));
        at(&home.router, "ip link set wan up");
        at(&home.router, &format!("ip link add lan type veth peer name eth0 netns {machine}"));
        at(&home.router, &format!("ip addr add {own}.1/24 dev lan"));
        at(&home.router, "ip link set lan up");
        at(&home.router, &format!("ip route add default via {outer}.1"));
        at(&home.router, "sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'");
        let nat = NAT.replace("PORTS", ports);
        output(home.enter(&home.router).args(["nft", "-f", "-"]), &nat);
        at(&home.machine, "ip link set lo up");
        at(&home.machine, &format!("ip addr add {own}.2/24 dev eth0"));
        at(&home.machine, "ip link set eth0 up");
        at(&home.machine, &format!("ip route add default via {own}.1"));
        home
    }

    fn enter(&self, at: &Child) -> Command {
        enter(at)
    }

    /// What the router does, in nft's words.
    fn rules(&self) -> String {
        output(enter(&self.router).args(["nft", "list", "ruleset"]), "")
    }

    /// Makes the router offer that; the program that does, if one is needed.
    fn offer(&self, offers: Offers) -> Option<Daemon> {
        if let Offers::Forwarded(port) = offers {
            let to = format!("192.168.7{}.2", self.number);
            at(
                &self.router,
                &format!(
                    "nft add rule inet filter prerouting iifname wan udp dport {port} dnat ip to {to}:{port}"
                ),
            );
            at(
                &self.router,
                &format!("nft add rule inet filter forward iifname wan udp dport {port} accept"),
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("miniupnpd.conf");
        fs::write(&config, format!("{MINIUPNPD}{}\n", offers.settings())).unwrap();
        let log = folder.path().join("log");
        let process = enter(&self.router)
            .args(["miniupnpd", "-d", "-P"])
            .arg(folder.path().join("pid"))
            .arg("-f")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let daemon = Daemon { process, log, _folder: folder };
        until("miniupnpd listens", || daemon.said().contains(offers.log().0));
        Some(daemon)
    }

    /// A node whose sockets are all in the machine's namespace: so are its runtime's threads.
    fn node(&self, coordinator: &Arc<Coordinator>, asks: Option<Offers>) -> Node {
        let namespace = File::open(format!("/proc/{}/ns/net", self.machine.id())).unwrap();
        let (coordinator, number) = (Arc::clone(coordinator), self.number);
        let start = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = Runtime::new().unwrap();
            let server = SocketAddr::from(([11, 77, 1, 1], 6443));
            let (tun, job) = UnixDatagram::pair().unwrap();
            job.set_nonblocking(true).unwrap();
            let (overlay, mesh) = runtime.block_on(async {
                let mut config =
                    coordinator.config(number, "0.0.0.0:0".parse().unwrap(), server, None);
                match asks {
                    Some(Offers::Forwarded(port)) => {
                        config.bind.set_port(port);
                        config.advertise = vec![SocketAddr::from(([11, 77, 1, 2], port))];
                    }
                    Some(Offers::NatPmpAndPcp | Offers::Upnp) => config.port_mapping = Some(SHORT),
                    Some(Offers::Chance) => config.birthday_probing = true,
                    None => {}
                }
                let overlay = Overlay::start(config).await.unwrap();
                let secret = WireGuardSecret::generate();
                let mesh = overlay.join(MESH, tun.into(), secret).await.unwrap();
                (overlay, mesh)
            });
            Node { runtime, overlay, mesh, job }
        };
        thread::spawn(start).join().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The namespaces go when the kernel comes to it; the next homes' links have the same names.
        let _ = Command::new("ip").args(["link", "del", &format!("out{}", self.number)]).status();
        for process in [&mut self.machine, &mut self.router] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

struct Daemon {
    process: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// How often it was asked to open that port.
    fn opened(&self, offers: Offers, port: u16) -> usize {
        let port = port.to_string();
        let said = self.said();
        said.lines().filter(|line| line.contains(offers.log().1) && line.contains(&port)).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that does nothing, in a network namespace of its own with its /proc/sys.
fn namespace() -> Child {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let process = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", process.id());
    until("a namespace", || fs::read_link(&path).is_ok_and(|other| other != own));
    process
}

fn enter(process: &Child) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &process.id().to_string(), "--net"]);
    command
}

fn at(process: &Child, line: &str) {
    output(enter(process).args(["sh", "-c", line]), "");
}

fn run(program: &str, arguments: &[&str]) {
    output(Command::new(program).args(arguments), "");
}

/// What a program says, given that text.
fn output(command: &mut Command, input: &str) -> String {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let told = child.wait_with_output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{command:?}: {}\n{text}", told.status);
    text
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(100));
    }
}
