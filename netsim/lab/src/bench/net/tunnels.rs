//! The peers: how each is set up between the two machines.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::load::Load;
use super::pair::{ADDRESSES, FAR_ADDRESSES, FAR_WIRE, Pair, WIRE, find, resident_kib};
use crate::program::{Place, Program};
use crate::wait;

/// How long a tunnel may take until packets pass.
const UP: Duration = Duration::from_secs(20);
/// The tunnels' device MTU: what fits an Ethernet with IPv6, UDP and WireGuard around it.
const MTU: &str = "1420";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// The wire alone.
    Bare,
    /// The agents' tunnel.
    Ours,
    /// A wire of 20 ms there and back alone.
    DistantBare,
    /// Ours over that.
    Distant,
    /// The same wire, with a packet in a hundred lost.
    LossyBare,
    /// Ours over that.
    Lossy,
    /// Ours through the relay.
    Relayed,
    /// Ours where UDP reaches the coordinator's control channel only.
    OverQuic,
    /// Ours where no UDP gets through.
    OverTls,
    /// WireGuard's own in Go.
    WireguardGo,
    /// The command of the library that our tunnel uses.
    BoringtunCli,
    /// A fork of that library, with a data path of its own.
    GotatunCli,
    /// With AES-GCM, the cipher that is faster on this hardware.
    Nebula,
    /// tinc 1.0.
    Tinc,
    /// n2n's edge.
    N2n,
}

/// What our tunnel is led over when the bare wire has been measured, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Another wire, 20 ms long there and back.
    Distant,
    /// The same with losses.
    Lossy,
    /// The coordinator's relay.
    Relay,
    /// The same where UDP reaches its control channel only.
    Quic,
    /// The same without UDP.
    Tls,
}

impl Way {
    pub(super) const ALL: [Self; 5] =
        [Self::Distant, Self::Lossy, Self::Relay, Self::Quic, Self::Tls];

    /// What it is put under: distant wires are there for one stream, ways through the relay for its share
    /// of everything.
    pub(super) fn loads(self) -> &'static [Load] {
        match self {
            Self::Distant | Self::Lossy => &[Load::Tcp],
            Self::Relay | Self::Quic | Self::Tls => &[Load::Tcp, Load::Udp, Load::Ping],
        }
    }

    /// What is measured there.
    pub(super) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Distant => &[Kind::DistantBare, Kind::Distant],
            Self::Lossy => &[Kind::LossyBare, Kind::Lossy],
            Self::Relay => &[Kind::Relayed],
            Self::Quic => &[Kind::OverQuic],
            Self::Tls => &[Kind::OverTls],
        }
    }
}

/// One side of a tunnel.
pub(super) struct End {
    /// Where programs use the tunnel.
    pub(super) place: Place,
    /// The tunnel's address here.
    pub(super) address: Ipv4Addr,
    /// The tunnel's device.
    pub(super) device: String,
    /// The programs that carry it.
    pub(super) processes: Vec<Pid>,
}

/// A tunnel that passes packets.
pub(super) struct Tunnel {
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) ends: [End; 2],
    /// The program in the middle, if there is one.
    pub(super) relay: Option<Pid>,
    /// They end with this.
    _programs: Vec<Program>,
}

impl Kind {
    pub(super) const ALL: [Self; 15] = [
        Self::Bare,
        Self::Ours,
        Self::DistantBare,
        Self::Distant,
        Self::LossyBare,
        Self::Lossy,
        Self::Relayed,
        Self::OverQuic,
        Self::OverTls,
        Self::WireguardGo,
        Self::BoringtunCli,
        Self::GotatunCli,
        Self::Nebula,
        Self::Tinc,
        Self::N2n,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare wire",
            Self::Ours => "Clouds@home",
            Self::DistantBare => "bare, 20 ms",
            Self::Distant => "Clouds@home, 20 ms",
            Self::LossyBare => "bare, 20 ms, 1 % loss",
            Self::Lossy => "Clouds@home, 20 ms, 1 % loss",
            Self::Relayed => "Clouds@home, relayed",
            Self::OverQuic => "Clouds@home, in QUIC datagrams",
            Self::OverTls => "Clouds@home, over TLS",
            Self::WireguardGo => "wireguard-go",
            Self::BoringtunCli => "boringtun-cli",
            Self::GotatunCli => "gotatun-cli",
            Self::Nebula => "nebula",
            Self::Tinc => "tinc",
            Self::N2n => "n2n",
        }
    }

    /// Whether a run goes on without it.
    pub(super) fn is_compared(self) -> bool {
        self >= Self::WireguardGo
    }
}

impl Tunnel {
    /// Sets a tunnel up and waits until packets pass.
    pub(super) fn start(kind: Kind, pair: &mut Pair, tools: &Path) -> anyhow::Result<Self> {
        let (ends, programs, version) = match kind {
            Kind::Bare => (wire(pair, WIRE, ADDRESSES), Vec::new(), String::new()),
            Kind::DistantBare | Kind::LossyBare => {
                (wire(pair, FAR_WIRE, FAR_ADDRESSES), Vec::new(), String::new())
            }
            Kind::Ours
            | Kind::Distant
            | Kind::Lossy
            | Kind::Relayed
            | Kind::OverQuic
            | Kind::OverTls => (pair.own_ends()?, Vec::new(), env!("CARGO_PKG_VERSION").to_owned()),
            Kind::WireguardGo => {
                wireguard(pair, kind, &find("wireguard-go", Some(tools))?, &["-f"])?
            }
            Kind::BoringtunCli | Kind::GotatunCli => {
                let name = if kind == Kind::GotatunCli { "gotatun" } else { "boringtun-cli" };
                let options = ["--foreground", "--disable-drop-privileges"];
                wireguard(pair, kind, &find(name, Some(tools))?, &options)?
            }
            Kind::Nebula => nebula(pair)?,
            Kind::Tinc => tinc(pair)?,
            Kind::N2n => n2n(pair)?,
        };
        let is_relayed = matches!(kind, Kind::Relayed | Kind::OverQuic | Kind::OverTls);
        let relay = if is_relayed { Some(pair.relay()?) } else { None };
        let tunnel = Self { kind, version, ends, relay, _programs: programs };
        tunnel.wait_until_up(pair)?;
        Ok(tunnel)
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = Pid> {
        self.ends.iter().flat_map(|end| end.processes.iter().copied())
    }

    /// Resident memory of one end's programs; none of the bare wire.
    pub(super) fn memory_kib(&self) -> Option<u64> {
        let sizes = self.ends[0].processes.iter().filter_map(|pid| resident_kib(*pid).ok());
        Some(sizes.sum()).filter(|sum| *sum > 0)
    }

    fn wait_until_up(&self, pair: &Pair) -> anyhow::Result<()> {
        let ping = pair.tool("ping")?;
        let [from, to] = &self.ends;
        let to = to.address.to_string();
        wait::until(format!("a packet through {}", self.kind.name()), UP, || {
            let args = ["-n", "-c", "1", "-W", "1", &to];
            let told = from.place.run("ping", &ping, args, UP).ok()?;
            told.status.success().then_some(())
        })?;
        Ok(())
    }
}

type Started = ([End; 2], Vec<Program>, String);

fn wire(pair: &Pair, device: &str, addresses: [Ipv4Addr; 2]) -> [End; 2] {
    [0, 1].map(|side| End {
        place: pair.place(side).clone(),
        address: addresses[side],
        device: device.to_owned(),
        processes: Vec::new(),
    })
}

/// The address of a side in the tunnel of that kind.
fn address(kind: Kind, side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, kind as u8, if side == 0 { 1 } else { 2 })
}

fn end(pair: &Pair, kind: Kind, side: usize, device: &str, program: &Program) -> End {
    End {
        place: pair.place(side).clone(),
        address: address(kind, side),
        device: device.to_owned(),
        processes: vec![program.pid()],
    }
}

/// Gives a tunnel's device its address.
fn configure(pair: &Pair, kind: Kind, side: usize, device: &str, mtu: &str) -> anyhow::Result<()> {
    let ip = pair.tool("ip")?;
    let place = pair.place(side);
    let prefix = format!("{}/24", address(kind, side));
    wait::until(format!("the device {device}"), UP, || {
        place.expect("ip", &ip, ["link", "set", device, "mtu", mtu, "up"], UP).ok()
    })?;
    place.expect("ip", &ip, ["address", "add", &prefix, "dev", device], UP)?;
    Ok(())
}

/// The first line that a program prints when it is asked for its version.
fn version(place: &Place, program: &Path, args: &[&str]) -> String {
    let told = place.run("version", program, args, UP);
    let text = told.map(|told| format!("{}{}", told.stdout, told.stderr)).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Everything that `wg` can configure.
fn wireguard(pair: &Pair, kind: Kind, program: &Path, options: &[&str]) -> anyhow::Result<Started> {
    let (wg, sh) = (pair.tool("wg")?, pair.tool("sh")?);
    let port = 51_000 + kind as u16;
    let mut keys = Vec::new();
    for side in [0, 1] {
        let make = format!("{0} genkey | tee wg-{1}.key | {0} pubkey", wg.display(), kind as u8);
        let made = pair.place(side).expect("wg", &sh, ["-c", &make], UP)?;
        let secret =
            std::fs::read_to_string(pair.place(side).dir.join(format!("wg-{}.key", kind as u8)))?;
        keys.push((secret.trim().to_owned(), made.stdout.trim().to_owned()));
    }
    let mut ends = Vec::new();
    let mut programs = Vec::new();
    for side in [0, 1] {
        let (place, other) = (pair.place(side), 1 - side);
        // The control sockets of both sides lie in one folder.
        let device = format!("wg{}{}", kind as u8, ["l", "r"][side]);
        let args = options.iter().copied().chain([device.as_str()]);
        let started = place.start(kind.name(), program, args)?;
        let socket = Path::new("/var/run/wireguard").join(format!("{device}.sock"));
        wait::until(format!("the control socket of {}", kind.name()), UP, || {
            socket.exists().then_some(())
        })
        .with_context(|| started.tail().to_string())?;
        let file = place.dir.join(format!("wg-{}.conf", kind as u8));
        std::fs::write(
            &file,
            format!(
                "[Interface]\nPrivateKey = {}\nListenPort = {port}\n[Peer]\nPublicKey = {}\n\
                 AllowedIPs = 10.98.{}.0/24\nEndpoint = {}:{port}\n",
                keys[side].0, keys[other].1, kind as u8, ADDRESSES[other]
            ),
        )?;
        let file = file.display().to_string();
        place.expect("wg", &wg, ["setconf", &device, &file], UP)?;
        configure(pair, kind, side, &device, MTU)?;
        ends.push(end(pair, kind, side, &device, &started));
        programs.push(started);
    }
    let version = version(pair.place(0), program, &["--version"]);
    Ok((both(ends)?, programs, version))
}

fn nebula(pair: &Pair) -> anyhow::Result<Started> {
    let kind = Kind::Nebula;
    let (cert, program) = (pair.tool("nebula-cert")?, pair.tool("nebula")?);
    let place = pair.place(0);
    place.expect("nebula-cert", &cert, ["ca", "-name", "bench"], UP)?;
    let mut ends = Vec::new();
    let mut programs = Vec::new();
    for side in [0, 1] {
        let name = ["left", "right"][side];
        let ip = format!("{}/24", address(kind, side));
        place.expect("nebula-cert", &cert, ["sign", "-name", name, "-ip", &ip], UP)?;
        let dir = place.dir.display();
        let lighthouse = address(kind, 0);
        let (am, hosts, map) = if side == 0 {
            ("true", String::new(), "{}".to_owned())
        } else {
            let map = format!("{{\"{lighthouse}\": [\"{}:4242\"]}}", ADDRESSES[0]);
            ("false", format!("\n  hosts: [\"{lighthouse}\"]"), map)
        };
        let device = format!("neb{}", ["l", "r"][side]);
        let text = format!(
            "pki: {{ca: {dir}/ca.crt, cert: {dir}/{name}.crt, key: {dir}/{name}.key}}\n\
             static_host_map: {map}\nlighthouse:\n  am_lighthouse: {am}{hosts}\n\
             listen: {{host: 0.0.0.0, port: 4242}}\ncipher: aes\n\
             tun: {{dev: {device}, mtu: {MTU}}}\n\
             firewall:\n  outbound: [{{port: any, proto: any, host: any}}]\n  \
             inbound: [{{port: any, proto: any, host: any}}]\n"
        );
        let file = pair.place(side).dir.join("nebula.yml");
        std::fs::write(&file, text)?;
        let file = file.display().to_string();
        let started = pair.place(side).start("nebula", &program, ["-config", &file])?;
        ends.push(end(pair, kind, side, &device, &started));
        programs.push(started);
    }
    let version = version(place, &program, &["-version"]);
    Ok((both(ends)?, programs, version))
}

fn tinc(pair: &Pair) -> anyhow::Result<Started> {
    let kind = Kind::Tinc;
    let program = pair.tool("tincd")?;
    let names = ["left", "right"];
    for side in [0, 1] {
        let dir = pair.place(side).dir.join("tinc");
        std::fs::create_dir_all(dir.join("hosts"))?;
        let connect = if side == 1 { "ConnectTo = left\n" } else { "" };
        let device = format!("tinc{}", ["l", "r"][side]);
        std::fs::write(
            dir.join("tinc.conf"),
            format!(
                "Name = {}\nInterface = {device}\nAddressFamily = ipv4\n{connect}",
                names[side]
            ),
        )?;
        std::fs::write(
            dir.join("hosts").join(names[side]),
            format!("Address = {}\nSubnet = {}/32\n", ADDRESSES[side], address(kind, side)),
        )?;
        let dir = dir.display().to_string();
        pair.place(side)
            .expect("tincd-keys", &program, ["-c", &dir, "-n", "bench", "-K2048"], UP)
            .or_else(|_| {
                pair.place(side).expect("tincd-keys", &program, ["-c", &dir, "-K2048"], UP)
            })?;
    }
    for side in [0, 1] {
        let from = pair.place(side).dir.join("tinc/hosts").join(names[side]);
        let to = pair.place(1 - side).dir.join("tinc/hosts").join(names[side]);
        std::fs::copy(from, to)?;
    }
    let mut ends = Vec::new();
    let mut programs = Vec::new();
    for side in [0, 1] {
        let place = pair.place(side);
        let dir = place.dir.join("tinc").display().to_string();
        let pid = format!("--pidfile={}", place.dir.join("tinc.pid").display());
        let started = place.start("tincd", &program, ["-c", &dir, "-D", &pid])?;
        let device = format!("tinc{}", ["l", "r"][side]);
        configure(pair, kind, side, &device, "1400")?;
        ends.push(end(pair, kind, side, &device, &started));
        programs.push(started);
    }
    let version = version(pair.place(0), &program, &["--version"]);
    Ok((both(ends)?, programs, version))
}

fn n2n(pair: &Pair) -> anyhow::Result<Started> {
    let kind = Kind::N2n;
    let (supernode, edge) = (pair.tool("supernode")?, pair.tool("edge")?);
    let mut programs = vec![pair.place(0).start("supernode", &supernode, ["-l", "7654"])?];
    let mut ends = Vec::new();
    for side in [0, 1] {
        let device = format!("n2n{}", ["l", "r"][side]);
        let ip = address(kind, side).to_string();
        let at = format!("{}:7654", ADDRESSES[0]);
        let args =
            ["-d", &device, "-a", &ip, "-c", "bench", "-k", "secret", "-l", &at, "-M", "1400"];
        let started = pair.place(side).start("edge", &edge, args)?;
        ends.push(end(pair, kind, side, &device, &started));
        programs.push(started);
    }
    let version = version(pair.place(0), &edge, &["-h"]);
    Ok((both(ends)?, programs, version))
}

fn both(ends: Vec<End>) -> anyhow::Result<[End; 2]> {
    ends.try_into().ok().context("a tunnel has two ends")
}
