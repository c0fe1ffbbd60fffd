//! Another implementation at the other end: Debian's `wireguard-go`, configured with `wg`.
//!
//! A plain program in namespaces of its own, as `device.rs`. Needs `/dev/net/tun`, iproute2, util-linux,
//! iputils-ping, wireguard-go and wireguard-tools.
//!
//! ```text
//!   mesh0 10.128.0.x ─ our driver ─ lan0 192.0.2.1 ──veth── lan1 192.0.2.2 ─ wireguard-go ─ wg0 10.128.0.y
//! ```

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use overlay_core::WireGuardKey;
use overlay_core::control::PathReport;
use overlay_core::netmap::{IPV4_PREFIX_LEN, IPV6_PREFIX_LEN};
use overlay_driver::tun::MeshDevice;
use overlay_driver::{MeshEvent, WireGuardSecret};
use support::{Coordinator, MESH, path_of, wait_for};

const MTU: u16 = 1412;
const LAN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const PORT: u16 = 51_820;
const TRANSFER_BYTES: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // The node with the lower id is the one that starts the handshake.
    runtime.block_on(traffic_is_exchanged(1, 2));
    runtime.block_on(traffic_is_exchanged(3, 2));
}

/// Our node and wireguard-go, by their numbers.
async fn traffic_is_exchanged(ours: u8, theirs: u8) {
    let starts = ours < theirs;
    let ranks = if starts { [0, 1] } else { [1, 0] };
    let [own, other] = ranks.map(|rank| MESH.ipv4(rank));
    let peer = Peer::start();

    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let endpoint = SocketAddr::from((LAN[1], PORT));
    coordinator.expect_stranger(theirs, WireGuardKey(peer.public), endpoint);
    let overlay = coordinator.node_at(ours, "0.0.0.0:0").await;
    let device = MeshDevice::open("mesh0", MTU).unwrap();
    let secret = WireGuardSecret::generate();
    let us = SocketAddr::from((LAN[0], overlay.local_addr().port()));
    peer.configure(secret.public(), own, other, us, !starts);

    let tun = device.descriptor().try_clone_to_owned().unwrap();
    let mut mesh = overlay.join(MESH, tun, secret).await.unwrap();
    let MeshEvent::Netmap(netmap) = mesh.event().await else { panic!("netmap first") };
    assert_eq!(netmap.members.len(), 2);
    device.set_addresses(own, IPV4_PREFIX_LEN, MESH.ipv6(ranks[0]), IPV6_PREFIX_LEN).unwrap();
    wait_for("the handshake", async || {
        path_of(&mesh.pairs().await) == PathReport::Direct { endpoint }
    })
    .await;

    let (from_us, to_us) = (other.to_string(), own.to_string());
    tokio::task::block_in_place(|| {
        run("ping", &["-n", "-c", "3", "-i", "0.2", "-W", "5", &from_us]);
        peer.run("ping", &["-n", "-c", "3", "-i", "0.2", "-W", "5", &to_us]);
        // The largest inner packet that may not be cut: 1412 less IPv4's and ICMP's headers.
        run("ping", &["-n", "-c", "1", "-W", "5", "-M", "do", "-s", "1384", &from_us]);
        transfer(Some(peer.pid()), other, None);
        transfer(None, own, Some(peer.pid()));
    });
    let stats = overlay.stats().await;
    assert_eq!((stats.spoofed_packets, stats.tun_write_errors), (0, 0));
    assert!(peer.transferred() > 2 * TRANSFER_BYTES as u64, "by wg's own count");
    overlay.shutdown().await;
}

/// Bytes over TCP, from a namespace to a listener in another; none is the test's own.
fn transfer(at: Option<u32>, address: Ipv4Addr, from: Option<u32>) {
    let listener = inside(at, move || TcpListener::bind((IpAddr::from(address), 5000)).unwrap());
    let writer = thread::spawn(move || {
        inside(from, move || {
            let mut stream = TcpStream::connect_timeout(&(address, 5000).into(), PATIENCE).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            let bytes: Vec<u8> = (0..TRANSFER_BYTES).map(byte).collect();
            stream.write_all(&bytes).unwrap();
        });
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), TRANSFER_BYTES);
    assert!(bytes.iter().enumerate().all(|(place, value)| *value == byte(place)));
    writer.join().unwrap();
}

fn byte(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}

/// Does it on a thread that is in the network namespace of that process.
fn inside<T: Send + 'static>(pid: Option<u32>, act: impl FnOnce() -> T + Send + 'static) -> T {
    let work = move || {
        if let Some(pid) = pid {
            let namespace = File::open(format!("/proc/{pid}/ns/net")).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        }
        act()
    };
    thread::spawn(work).join().unwrap()
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
    text.trim().to_owned()
}

/// A wireguard-go in namespaces of its own, at the other end of a veth pair. Ends when dropped.
struct Peer {
    process: Child,
    secret: String,
    public: [u8; 32],
}

impl Peer {
    fn start() -> Self {
        let secret = output(Command::new("wg").arg("genkey"), "");
        let public = output(Command::new("wg").arg("pubkey"), &secret);
        let public = data_encoding::BASE64.decode(public.as_bytes()).unwrap();
        // Its socket for `wg` is a file, which no other test may find.
        let script = "mount -t tmpfs none /run && exec wireguard-go -f wg0";
        let process = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", script])
            .env("WG_PROCESS_FOREGROUND", "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self { process, secret, public: public.try_into().unwrap() };
        // wg0 is not in this namespace, so once it is seen it is in the other one.
        peer.wait_until_it_answers();
        let pid = peer.pid().to_string();
        run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
        run("ip", &["link", "set", "lan1", "netns", &pid]);
        for (address, device) in [(LAN[0], "lan0"), (LAN[1], "lan1")] {
            let ip = |arguments: &[&str]| {
                if device == "lan0" { run("ip", arguments) } else { peer.run("ip", arguments) }
            };
            ip(&["addr", "add", &format!("{address}/24"), "dev", device]);
            ip(&["link", "set", device, "up"]);
        }
        peer
    }

    fn wait_until_it_answers(&self) {
        let end = std::time::Instant::now() + PATIENCE;
        let asks = || self.command("wg").args(["show", "wg0"]).stderr(Stdio::null()).output();
        while !asks().is_ok_and(|told| told.status.success()) {
            assert!(std::time::Instant::now() < end, "wireguard-go does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `begins`: it sends of itself, and so starts the handshake.
    fn configure(
        &self,
        key: WireGuardKey,
        us: Ipv4Addr,
        own: Ipv4Addr,
        endpoint: SocketAddr,
        begins: bool,
    ) {
        let key = data_encoding::BASE64.encode(&key.0);
        let config = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n\
             [Peer]\nPublicKey = {key}\nAllowedIPs = {us}/32\n{}",
            self.secret,
            if begins {
                format!("Endpoint = {endpoint}\nPersistentKeepalive = 1\n")
            } else {
                String::new()
            }
        );
        output(self.command("wg").args(["setconf", "wg0", "/dev/stdin"]), &config);
        self.run("ip", &["addr", "add", &format!("{own}/16"), "dev", "wg0"]);
        self.run("ip", &["link", "set", "wg0", "mtu", &MTU.to_string(), "up"]);
    }

    /// Bytes in both directions.
    fn transferred(&self) -> u64 {
        let text = output(self.command("wg").args(["show", "wg0", "transfer"]), "");
        text.split_whitespace().skip(1).map(|count| count.parse::<u64>().unwrap()).sum()
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        output(self.command(program).args(arguments), "");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--net", "--mount", program]);
        command
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its end goes with its namespace, some time later.
        let _ = Command::new("ip").args(["link", "del", "lan0"]).stderr(Stdio::null()).status();
    }
}
