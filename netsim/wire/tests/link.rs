//! Wires in user space, and the kernel's netem where there is one, behave as their profiles say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{FAR, NEAR, Netns, Pair};
use netsim_sim::conformance::link::{Aspect, Heard, LinkProbe, Passed, Shot, examine_link};
use netsim_sim::{LinkProfile, OneWay};
use netsim_wire::{LineSpec, Wires, netem};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// Bytes of an IPv4 and a UDP header.
const HEADERS: u32 = 28;
/// Silence after which nothing more will come: far more than any profile of the suite delays.
const SILENCE: Duration = Duration::from_millis(600);
const PORT: u16 = 7000;

/// Who emulates the link.
enum By {
    Wire,
    Netem,
}

struct Real(By);

impl LinkProbe for Real {
    type Error = io::Error;

    /// Chosen for a machine that does other things besides: `make bench` measures, this test holds.
    fn lateness(&self) -> Duration {
        Duration::from_millis(40)
    }

    fn cannot(&self, way: &OneWay) -> bool {
        matches!(self.0, By::Netem) && netem::commands("eth0", way).is_err()
    }

    fn send(&mut self, way: &OneWay, train: &[Shot]) -> io::Result<Passed> {
        let pair = Pair::new();
        let wires = Wires::new()?;
        match self.0 {
            By::Wire => {
                let profile = LinkProfile { up: *way, down: OneWay::PERFECT };
                let spliced = pair.cable().splice(None)?;
                wires.add(LineSpec { profile, seed: 11, ..LineSpec::default() }, spliced)?;
            }
            By::Netem => {
                let commands = netem::commands("eth0", way).map_err(io::Error::other)?;
                netem::apply(pair.near.borrowed(), &commands)?;
            }
        }
        // Neighbours know each other: their talk is not asked about.
        let [of_near, of_far] = [(&pair.near, "eth0"), (&pair.far, "v1")].map(hardware);
        pair.near.ip(&format!("neigh replace {FAR} lladdr {of_far} dev eth0"));
        pair.far.ip(&format!("neigh replace {NEAR} lladdr {of_near} dev v1"));
        let (sender, receiver) = (pair.near.udp(NEAR, PORT), pair.far.udp(FAR, PORT));
        sender.connect((FAR, PORT))?;
        // Never in fragments, as overlays send.
        never_fragment(&sender)?;
        setsockopt(&receiver, sockopt::RcvBufForce, &(16 << 20))?;
        receiver.set_read_timeout(Some(SILENCE))?;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let listening = scope.spawn(|| listen(&receiver, begun, train));
            shoot(&sender, begun, train)?;
            let mut heard = listening.join().unwrap()?;
            heard.sort_by_key(|heard| heard.at);
            let mtu = told_mtu(&sender);
            Ok(Passed { heard, told_mtu: (mtu < 1500).then_some(mtu) })
        })
    }
}

/// Sends each packet when its time has come, with its number and the time at which it is really sent.
fn shoot(sender: &UdpSocket, begun: Instant, train: &[Shot]) -> io::Result<()> {
    for (index, shot) in (0u32..).zip(train) {
        while let Some(left) = shot.at.checked_sub(begun.elapsed()) {
            std::thread::sleep(left.min(Duration::from_micros(200)));
        }
        let mut bytes = vec![0; usize::try_from(shot.bytes - HEADERS).unwrap()];
        bytes[..4].copy_from_slice(&index.to_be_bytes());
        let now = u64::try_from(begun.elapsed().as_nanos()).unwrap();
        bytes[4..12].copy_from_slice(&now.to_be_bytes());
        let is_told = |error: &io::Error| error.raw_os_error() == Some(libc::EMSGSIZE);
        // The first refusal may be the news about the packet before.
        match sender
            .send(&bytes)
            .or_else(|error| if is_told(&error) { sender.send(&bytes) } else { Err(error) })
        {
            Ok(_) => {}
            Err(error) if is_told(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn listen(receiver: &UdpSocket, begun: Instant, train: &[Shot]) -> io::Result<Vec<Heard>> {
    let last = train.last().map_or(Duration::ZERO, |shot| shot.at);
    let mut heard = Vec::new();
    let mut bytes = [0; 2048];
    loop {
        match receiver.recv(&mut bytes) {
            Ok(_) => {
                let at = begun.elapsed();
                let index = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                let sent =
                    Duration::from_nanos(u64::from_be_bytes(bytes[4..12].try_into().unwrap()));
                let shot = usize::try_from(index).unwrap();
                heard.push(Heard { shot, took: at.saturating_sub(sent), at });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if begun.elapsed() > last + SILENCE {
                    return Ok(heard);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// A namespace's interfaces, one a line.
fn links(netns: &Netns) -> String {
    let output = netns.run(|| Command::new("ip").args(["-o", "link"]).output().expect("iproute2"));
    String::from_utf8(output.stdout).unwrap()
}

fn never_fragment(socket: &UdpSocket) -> io::Result<()> {
    let discover = libc::IP_PMTUDISC_DO;
    // SAFETY: the descriptor is open, and the value lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const discover).cast(),
            4,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel believes to be the largest packet on the way.
fn told_mtu(socket: &UdpSocket) -> u32 {
    let (mut mtu, mut length): (libc::c_int, libc::socklen_t) = (0, 4);
    // SAFETY: the descriptor is open, and both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0);
    u32::try_from(mtu).unwrap()
}

fn hardware((netns, interface): (&Netns, &str)) -> String {
    let script =
        format!("ip -o link show {interface} | sed 's/.*link.ether \\([0-9a-f:]*\\).*/\\1/'");
    let output = netns.run(|| Command::new("sh").args(["-c", &script]).output().unwrap());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn wires_in_user_space_are_what_their_profiles_say() {
    let _alone = common::alone();
    let report = examine_link(&mut Real(By::Wire)).unwrap();
    assert_eq!(report.asked, Aspect::ALL);
    assert_eq!(report.differences, []);
}

/// Whether netem is here is detected by trying; `tc` itself is asked whether that is true.
#[test]
fn netem_is_what_profiles_say_where_the_kernel_has_it() {
    let _alone = common::alone();
    let netns = Netns::new();
    let tc = netns.run(|| {
        let words = ["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"];
        Command::new("tc").args(words).output().expect("iproute2")
    });
    assert_eq!(netem::is_here(), tc.status.success(), "{}", String::from_utf8_lossy(&tc.stderr));
    if !netem::is_here() {
        let said = String::from_utf8_lossy(&tc.stderr);
        assert!(
            said.contains("qdisc kind is unknown"),
            "another reason than a kernel without: {said}"
        );
        println!(
            "netem: 0 of {} aspects, this kernel has none: {}",
            Aspect::ALL.len(),
            said.trim()
        );
        return;
    }
    let report = examine_link(&mut Real(By::Netem)).unwrap();
    println!("netem: {} of {} aspects", report.asked.len(), Aspect::ALL.len());
    // What it has no words for is made in user space, and nothing else.
    assert_eq!(report.skipped, [Aspect::Mtu, Aspect::BlackHole, Aspect::Reorder]);
    assert_eq!(report.differences, []);
}

#[test]
fn both_ends_keep_their_addresses_and_links_vanish_with_their_thread() {
    let _alone = common::alone();
    let pair = Pair::new();
    pair.near.ip(&format!("route add 10.8.0.0/16 via {FAR}"));
    pair.near.ip("address add fd00::2/64 dev eth0 nodad");
    pair.near.ip("route add default via fd00::1 dev eth0");
    // Without a carrier, as routes are for a moment when everything is new.
    pair.far.ip("link set v1 down");
    let wires = Wires::new().unwrap();
    let before = hardware((&pair.near, "eth0"));
    wires.add(LineSpec::default(), pair.cable().splice(None).unwrap()).unwrap();
    assert_eq!(hardware((&pair.near, "eth0")), before);
    pair.far.ip("address add 10.8.0.1/16 dev v1");
    pair.far.ip("address add fd00::1/64 dev v1 nodad");
    let (near, far) = (pair.near.udp(NEAR, 0), pair.far.udp("10.8.0.1", PORT));
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    near.send_to(b"hello", ("10.8.0.1", PORT)).unwrap();
    assert_eq!(far.recv(&mut [0; 16]).unwrap(), 5);
    let six = [(&pair.near, "fd00::2"), (&pair.far, "fd00::1")];
    let [near, far] = six.map(|(end, address)| end.udp(&format!("[{address}]"), PORT));
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    near.send_to(b"hello", ("fd00::1", PORT)).unwrap();
    assert_eq!(far.recv(&mut [0; 16]).unwrap(), 5);
    drop(wires);
    assert!(!links(&pair.near).contains("eth0"), "{}", links(&pair.near));
}

#[test]
fn killed_processes_leave_no_interface() {
    let _alone = common::alone();
    let mut held = Command::new(std::env::current_exe().unwrap())
        .env(common::HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(held.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let ends: Vec<Netns> = said
        .split_whitespace()
        .map(|end| Netns(File::open(format!("/proc/{}/fd/{end}", held.id())).unwrap()))
        .collect();
    let has = |interface: &str| ends.iter().any(|end| links(end).contains(interface));
    assert!(ends.len() == 2 && has("eth0") && has("v1"), "{said}");
    // SIGKILL: nobody can tidy up.
    held.kill().unwrap();
    held.wait().unwrap();
    assert!(!has("eth0") && !has("v1"));
}
