//! What a tunnel is put under, and what is measured of it.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pair::Pair;
use super::tunnels::{End, Kind, Tunnel};
use crate::bench::figures::median;
use crate::program::Program;

/// The port of iperf3's server.
const PORT: &str = "5201";
/// What a measurement may take beyond its length.
const AROUND: Duration = Duration::from_secs(20);
/// The payload that fills an inner packet of 1400 bytes.
const UDP_PAYLOAD: u16 = 1372;
/// The payload of a small packet.
const SMALL_PAYLOAD: u16 = 64;
/// Datagrams of one superpacket: below the 60,000 bytes that the mesh device takes whole.
const SUPERPACKET: usize = 42;

/// What the names of the relay's threads begin with.
const RELAY_THREADS: &str = "relay";

/// Headers of a datagram inside the tunnel.
const HEADERS: usize = 28;
/// What the segments of a superpacket have together, of the bytes that the device counts.
const SEALED_PER_COUNTED: f64 = (SUPERPACKET * (UDP_PAYLOAD as usize + HEADERS)) as f64
    / (SUPERPACKET * UDP_PAYLOAD as usize + HEADERS) as f64;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Load {
    /// One TCP stream, cubic.
    Tcp,
    /// Four of them.
    Tcp4,
    /// One stream, each machine's programs on a core of their own.
    TcpPinned,
    /// Datagrams of 1372 bytes, as fast as iperf3 sends.
    Udp,
    /// Datagrams of 64 bytes, as fast as iperf3 sends.
    UdpSmall,
    /// UDP superpackets into the tunnel, as fast as it takes them.
    Send,
    /// Echo requests on an idle tunnel.
    Ping,
    /// Echo requests beside a TCP stream.
    BusyPing,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Payload that arrived; for [`Load::Send`] what the tunnel took.
    pub(super) bits_per_second: f64,
    pub(super) packets_per_second: Option<f64>,
    /// Both ends' tunnel programs together.
    pub(super) cpu_seconds_per_gb: Option<f64>,
    /// The relay's threads in the program in the middle.
    pub(super) relay_seconds_per_gb: Option<f64>,
    /// What the sending tunnel program took in a second of its processor time.
    pub(super) sent_bits_per_cpu_second: Option<f64>,
    pub(super) rtt_min_ms: Option<f64>,
    pub(super) rtt_median_ms: Option<f64>,
}

impl Load {
    /// What is measured of everything; the short form keeps to what has a floor.
    pub(super) fn all(short: bool) -> Vec<Self> {
        if short {
            return vec![Self::Tcp, Self::Send];
        }
        let (udp, ping) = ([Self::Udp, Self::UdpSmall, Self::Send], [Self::Ping, Self::BusyPing]);
        [&[Self::Tcp, Self::Tcp4, Self::TcpPinned][..], &udp, &ping].concat()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP one stream",
            Self::Tcp4 => "TCP four streams",
            Self::TcpPinned => "TCP, one core per host",
            Self::Udp => "UDP 1372 bytes",
            Self::UdpSmall => "UDP 64 bytes",
            Self::Send => "sending UDP superpackets",
            Self::Ping => "RTT at rest",
            Self::BusyPing => "RTT under load",
        }
    }

    pub(super) fn measure(
        self,
        pair: &Pair,
        tunnel: &Tunnel,
        each: Duration,
    ) -> anyhow::Result<Measured> {
        let seconds = each.as_secs_f64().ceil().max(1.0).to_string();
        let stream = ["-t", &seconds, "-C", "cubic"];
        match self {
            Self::Tcp => iperf(pair, tunnel, &stream, each, None),
            Self::Tcp4 => iperf(pair, tunnel, &[&stream[..], &["-P", "4"]].concat(), each, None),
            Self::TcpPinned => {
                let _pinned = Pinned::new(tunnel)?;
                iperf(pair, tunnel, &stream, each, Some(["0", "1"]))
            }
            Self::Udp => udp(pair, tunnel, &seconds, UDP_PAYLOAD, each),
            Self::UdpSmall => udp(pair, tunnel, &seconds, SMALL_PAYLOAD, each),
            Self::Send => send(pair, tunnel, each),
            Self::Ping => ping(pair, tunnel, each),
            Self::BusyPing => {
                let server = serve(pair, &tunnel.ends[1], None)?;
                let longer = (each + Duration::from_secs(2)).as_secs().to_string();
                let stream = ["-t", &longer, "-C", "cubic"];
                let client = start_client(pair, tunnel, &stream, None)?;
                let measured = ping(pair, tunnel, each);
                drop((client, server));
                measured
            }
        }
    }
}

fn udp(
    pair: &Pair,
    tunnel: &Tunnel,
    seconds: &str,
    payload: u16,
    each: Duration,
) -> anyhow::Result<Measured> {
    let payload = payload.to_string();
    iperf(pair, tunnel, &["-t", seconds, "-u", "-b", "0", "-l", &payload], each, None)
}

/// Starts iperf3's server for one test and waits until it listens.
fn serve(pair: &Pair, end: &End, core: Option<&str>) -> anyhow::Result<Program> {
    let address = end.address.to_string();
    let mut args = vec!["-s", "-1", "-p", PORT, "-B", &address, "--forceflush"];
    args.extend(core.iter().flat_map(|core| ["-A", core]));
    let mut server = end.place.start("iperf3-server", &pair.tool("iperf3")?, args)?;
    server.wait_for("listening", AROUND, |program| {
        program.stdout().contains("Server listening").then_some(())
    })?;
    Ok(server)
}

fn start_client(
    pair: &Pair,
    tunnel: &Tunnel,
    args: &[&str],
    core: Option<&str>,
) -> anyhow::Result<Program> {
    let [from, to] = &tunnel.ends;
    let address = to.address.to_string();
    let mut all = vec!["-c", &address, "-p", PORT, "-J", "--connect-timeout", "5000"];
    all.extend(args);
    all.extend(core.iter().flat_map(|core| ["-A", core]));
    Ok(from.place.start("iperf3-client", &pair.tool("iperf3")?, all)?)
}

fn iperf(
    pair: &Pair,
    tunnel: &Tunnel,
    args: &[&str],
    each: Duration,
    cores: Option<[&str; 2]>,
) -> anyhow::Result<Measured> {
    let mut server = serve(pair, &tunnel.ends[1], cores.map(|cores| cores[1]))?;
    let relay = || tunnel.relay.map_or(0.0, |pid| thread_seconds(pid, RELAY_THREADS));
    let (before, relay_before) = (cpu_seconds(tunnel.processes()), relay());
    let mut client = start_client(pair, tunnel, args, cores.map(|cores| cores[0]))?;
    let status = client.wait_for_end(each + AROUND)?;
    let spent = cpu_seconds(tunnel.processes()) - before;
    let relay_spent = relay() - relay_before;
    if !status.success() {
        let said = client.stdout();
        let error = serde_json::from_str::<Value>(&said).ok();
        let error = error.as_ref().and_then(|json| json["error"].as_str()).unwrap_or(&said);
        bail!("iperf3: {error}");
    }
    let client: Value = serde_json::from_str(&client.stdout()).context("iperf3 printed no JSON")?;
    server.wait_for_end(AROUND)?;
    let end = &client["end"];
    let number = |value: &Value| value.as_f64();
    let is_udp = args.contains(&"-u");
    let sum = if is_udp { &end["sum"] } else { &end["sum_received"] };
    let (Some(bytes), Some(seconds)) = (number(&sum["bytes"]), number(&sum["seconds"])) else {
        bail!("iperf3 reported no bytes");
    };
    let (mut bytes, mut packets) = (bytes, None);
    if is_udp {
        let (Some(sent), Some(lost)) = (number(&sum["packets"]), number(&sum["lost_packets"]))
        else {
            bail!("iperf3 reported no packets");
        };
        packets = Some((sent - lost) / seconds);
        bytes *= (sent - lost) / sent;
    }
    Ok(Measured {
        bits_per_second: bytes * 8.0 / seconds,
        packets_per_second: packets,
        cpu_seconds_per_gb: (tunnel.kind != Kind::Bare).then_some(spent / (bytes / 1e9)),
        relay_seconds_per_gb: tunnel.relay.map(|_| relay_spent / (bytes / 1e9)),
        ..Measured::default()
    })
}

/// Pushes superpackets into the tunnel, faster than any tunnel takes them. Nobody reads them.
fn send(pair: &Pair, tunnel: &Tunnel, each: Duration) -> anyhow::Result<Measured> {
    let [from, to] = &tunnel.ends;
    let _pinned = Pinned::new(tunnel)?;
    let target = SocketAddrV4::new(to.address, 9);
    let _sink = to.place.netns.run(move || UdpSocket::bind(SocketAddr::V4(target)))??;
    let before = (taken(pair, from)?, cpu_seconds(from.processes.iter().copied()));
    from.place.netns.run(move || flood(target, each))??;
    let after = (taken(pair, from)?, cpu_seconds(from.processes.iter().copied()));
    // The device counts a superpacket's headers once, and the tunnel seals them with every segment.
    let bits = (after.0 - before.0) * 8.0 * SEALED_PER_COUNTED;
    let spent = after.1 - before.1;
    Ok(Measured {
        bits_per_second: bits / each.as_secs_f64(),
        sent_bits_per_cpu_second: (spent > 0.0).then_some(bits / spent),
        ..Measured::default()
    })
}

fn flood(target: SocketAddrV4, each: Duration) -> io::Result<()> {
    let mut other = CpuSet::new();
    other.set(1)?;
    // One core only: then the flood shares it with the tunnel, and costs throughput but no ratio.
    let _ = sched_setaffinity(Pid::from_raw(0), &other);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(target)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(UDP_PAYLOAD))?;
    let superpacket = vec![0x5a; usize::from(UDP_PAYLOAD) * SUPERPACKET];
    let start = Instant::now();
    while start.elapsed() < each {
        match socket.send(&superpacket) {
            Ok(_) => {}
            // The device's queue is full, or an answer said that nobody listens.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => thread::yield_now(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes that the tunnel program took from its device so far.
fn taken(pair: &Pair, end: &End) -> anyhow::Result<f64> {
    let args = ["-s", "-j", "link", "show", "dev", &end.device];
    let shown = end.place.expect("ip", &pair.tool("ip")?, args, AROUND)?;
    let links: Value = serde_json::from_str(&shown.stdout).context("ip printed no JSON")?;
    links[0]["stats64"]["tx"]["bytes"].as_f64().context("ip showed no counters")
}

fn ping(pair: &Pair, tunnel: &Tunnel, each: Duration) -> anyhow::Result<Measured> {
    let [from, to] = &tunnel.ends;
    let address = to.address.to_string();
    let deadline = each.as_secs_f64().ceil().to_string();
    let args = ["-n", "-i", "0.005", "-w", &deadline, &address];
    let told = from.place.run("ping", &pair.tool("ping")?, args, each + AROUND)?;
    let times: Vec<f64> = told
        .stdout
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split_whitespace().next()?.parse().ok())
        .collect();
    let (Some(median), Some(min)) = (median(&times), times.iter().copied().min_by(f64::total_cmp))
    else {
        bail!("no echo came back: {}", told.stdout.trim());
    };
    Ok(Measured { rtt_min_ms: Some(min), rtt_median_ms: Some(median), ..Measured::default() })
}

/// Processor time that processes have spent so far.
pub(super) fn cpu_seconds(processes: impl Iterator<Item = Pid>) -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    processes.filter_map(|pid| spent_ticks(&format!("/proc/{pid}"))).sum::<f64>() / ticks
}

/// Processor time that the threads of those names have spent so far.
fn thread_seconds(pid: Pid, names: &str) -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let folders = threads(pid).into_iter().map(|thread| format!("/proc/{pid}/task/{thread}"));
    let ours = folders.filter(|folder| {
        let name = std::fs::read_to_string(format!("{folder}/comm"));
        name.is_ok_and(|name| name.starts_with(names))
    });
    ours.filter_map(|folder| spent_ticks(&folder)).sum::<f64>() / ticks
}

/// Of the process or thread that has that folder below /proc.
fn spent_ticks(folder: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
    // The fields behind the name, which stands in parentheses: 14 and 15 are user and system time.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Keeps each end's tunnel programs on a core of its own, and frees them when dropped.
struct Pinned(Vec<Pid>);

impl Pinned {
    fn new(tunnel: &Tunnel) -> anyhow::Result<Self> {
        let mut pinned = Self(Vec::new());
        for (core, end) in tunnel.ends.iter().enumerate() {
            let mut set = CpuSet::new();
            set.set(core)?;
            for thread in end.processes.iter().flat_map(|pid| threads(*pid)) {
                sched_setaffinity(thread, &set).context("two cores are needed")?;
                pinned.0.push(thread);
            }
        }
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut all = CpuSet::new();
        for core in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            let _ = all.set(core);
        }
        for thread in &self.0 {
            let _ = sched_setaffinity(*thread, &all);
        }
    }
}

fn threads(pid: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    let names = tasks.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok().map(Pid::from_raw)).collect()
}
