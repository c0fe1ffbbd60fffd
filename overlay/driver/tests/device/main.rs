//! Real TUN devices in network namespaces, one thread each, with TCP and UDP through them: on this kernel,
//! and on ones that lack one or another offload (see [`kernel`]).
//!
//! Entering a user namespace needs a process with one thread, so this is a plain program: it makes
//! the namespace first (unless it is root already), then the threads. Needs `/dev/net/tun`.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod kernel;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use kernel::Lack;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use overlay_core::control::PathReport;
use overlay_core::netmap::{IPV4_PREFIX_LEN, IPV6_PREFIX_LEN};
use overlay_driver::tun::MeshDevice;
use overlay_driver::{Mesh, MeshEvent, Overlay, WireGuardSecret};
use support::{Coordinator, MESH, path_of, wait_for};

/// The mesh's inner MTU in bytes.
const MTU: u16 = 1412;

const PORT: u16 = 5000;

/// Enough for thousands of segments, little enough for a slow machine.
const TRANSFER_BYTES: usize = 8 << 20;

/// Datagrams that are sent as one superpacket, where the kernel can.
const DATAGRAMS: usize = 30;
const DATAGRAM_BYTES: usize = 1000;

/// Sockets of the test that may each learn for themselves that batches are refused, with some to spare.
const SOCKETS: u64 = 8;

/// What a job's thread is asked to do, in its own network namespace.
enum Task {
    Configure(u16),
    /// Take one connection and read it to its end.
    Serve,
    /// Connect to that member and write that many bytes.
    Send(u16, usize),
    /// Take so many datagrams.
    Take,
    /// Send so many to that member.
    Throw(u16),
}

/// A thread that stands for a job.
struct Job {
    index: u16,
    tasks: Option<Sender<Task>>,
    /// The number of bytes of each task, all of them right.
    done: Receiver<usize>,
    thread: Option<JoinHandle<()>>,
}

fn main() {
    if !nix::unistd::geteuid().is_root() {
        enter_user_namespace().expect("enter a user namespace");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for lack in [
        Lack::Nothing,
        Lack::UdpSegmentation,
        Lack::Offload,
        Lack::UdpSuperpackets,
        Lack::VirtioHeader,
        Lack::SoundBatches,
    ] {
        kernel::become_one_without(lack);
        runtime.block_on(packets_cross_relayed_and_direct(lack));
    }
}

async fn packets_cross_relayed_and_direct(lack: Lack) {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let [(job_a, overlay_a, mesh_a), (job_b, overlay_b, mesh_b)] =
        [member(&coordinator, 0).await, member(&coordinator, 1).await];
    let mut meshes = [mesh_a, mesh_b];
    for (index, (mesh, job)) in meshes.iter_mut().zip([&job_a, &job_b]).enumerate() {
        let MeshEvent::Netmap(_) = mesh.event().await else { panic!("netmap first") };
        job.ask(Task::Configure(index as u16));
        assert!(matches!(mesh.event().await, MeshEvent::Open { .. }));
    }
    assert_eq!([job_a.answer(), job_b.answer()], [0, 0]);

    let relay = coordinator.relay_address();
    assert_eq!(path_of(&meshes[0].pairs().await), PathReport::Relayed { relay });
    transfer(&job_a, &job_b);

    coordinator.share_candidates();
    for (mesh, peer) in [(&meshes[0], &overlay_b), (&meshes[1], &overlay_a)] {
        let direct = PathReport::Direct { endpoint: peer.local_addr() };
        wait_for("a direct path", async || path_of(&mesh.pairs().await) == direct).await;
    }
    let (relayed, _) = kernel::counts();
    transfer(&job_b, &job_a);
    throw(&job_b, &job_a);

    let (batches, refused) = kernel::counts();
    match lack {
        Lack::Nothing => assert!(batches > relayed && refused == 0, "{batches} {refused}"),
        Lack::UdpSegmentation => assert!(batches == 0 && refused > 0, "{batches} {refused}"),
        // Nobody asks for ever.
        Lack::Offload => assert!(batches == 0 && (1..=SOCKETS).contains(&refused), "{refused}"),
        // Two devices are made without; the first superpacket that is refused is the last.
        Lack::UdpSuperpackets => assert!(batches > relayed && refused == 3, "{refused}"),
        Lack::VirtioHeader => assert!(batches > relayed && refused == 2, "{refused}"),
        // The relay, which runs here too, is idle meanwhile.
        Lack::SoundBatches => assert_eq!((batches, refused), (relayed, 0)),
    }
    for overlay in [&overlay_a, &overlay_b] {
        let stats = overlay.stats().await;
        let lost = stats.tun_write_errors + stats.udp_send_errors + stats.dropped_packets;
        assert_eq!((stats.spoofed_packets, lost), (0, 0), "{lack:?}: {stats:?}");
    }
    let stats = overlay_a.stats().await;
    let both_ways = 2 * TRANSFER_BYTES as u64;
    assert!(stats.tun_sent_bytes + stats.tun_received_bytes > both_ways);
    for overlay in [overlay_a, overlay_b] {
        overlay.shutdown().await;
    }
}

async fn member(coordinator: &Arc<Coordinator>, index: u16) -> (Job, Overlay, Mesh) {
    let (job, descriptor) = Job::start(index);
    let overlay = coordinator.node(index as u8 + 1).await;
    let mesh = overlay.join(MESH, descriptor, WireGuardSecret::generate()).await.expect("join");
    (job, overlay, mesh)
}

/// One task at both ends, and the right number of right bytes.
fn transfer(from: &Job, to: &Job) {
    to.ask(Task::Serve);
    from.ask(Task::Send(to.index, TRANSFER_BYTES));
    assert_eq!(from.answer(), TRANSFER_BYTES);
    assert_eq!(to.answer(), TRANSFER_BYTES);
}

/// A superpacket of UDP, or as many datagrams.
fn throw(from: &Job, to: &Job) {
    to.ask(Task::Take);
    from.ask(Task::Throw(to.index));
    assert_eq!(from.answer(), DATAGRAMS * DATAGRAM_BYTES);
    assert_eq!(to.answer(), DATAGRAMS * DATAGRAM_BYTES);
}

impl Job {
    /// Starts the thread, and gives the descriptor of the device that it opened.
    fn start(index: u16) -> (Self, OwnedFd) {
        let (tasks, asked) = mpsc::channel();
        let (answers, done) = mpsc::channel();
        let (opened, descriptor) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            let device = MeshDevice::open("mesh0", MTU).expect("a TUN device");
            opened.send(device.descriptor().try_clone_to_owned().expect("a duplicate")).ok();
            let mut bound = None;
            while let Ok(task) = asked.recv() {
                answers.send(perform(task, &device, &mut bound).expect("the task")).ok();
            }
        });
        let descriptor = descriptor.recv().expect("the device's descriptor");
        (Self { index, tasks: Some(tasks), done, thread: Some(thread) }, descriptor)
    }

    fn ask(&self, task: Task) {
        self.tasks.as_ref().expect("running").send(task).expect("the job's thread");
    }

    fn answer(&self) -> usize {
        self.done.recv_timeout(Duration::from_secs(60)).expect("an answer within a minute")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().expect("the job's thread");
        }
    }
}

fn perform(
    task: Task,
    device: &MeshDevice,
    bound: &mut Option<(TcpListener, UdpSocket)>,
) -> io::Result<usize> {
    match task {
        Task::Configure(index) => {
            let (v4, v6) = (MESH.ipv4(index), MESH.ipv6(index));
            device.set_addresses(v4, IPV4_PREFIX_LEN, v6, IPV6_PREFIX_LEN)?;
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
            let datagrams = UdpSocket::bind((v4, PORT))?;
            datagrams.set_read_timeout(Some(Duration::from_secs(20)))?;
            *bound = Some((listener, datagrams));
            Ok(0)
        }
        Task::Serve => {
            let (listener, _) = bound.as_ref().expect("configured");
            let (mut stream, _) = listener.accept()?;
            let mut bytes = vec![0u8; 64 * 1024];
            let mut total = 0;
            loop {
                let len = stream.read(&mut bytes)?;
                if len == 0 {
                    return Ok(total);
                }
                let right = bytes[..len].iter().enumerate().all(|(i, b)| *b == byte(total + i));
                assert!(right, "wrong bytes after {total}");
                total += len;
            }
        }
        Task::Send(index, len) => {
            let mut stream = TcpStream::connect((MESH.ipv4(index), PORT))?;
            let bytes: Vec<u8> = (0..len).map(byte).collect();
            stream.write_all(&bytes)?;
            Ok(len)
        }
        Task::Take => {
            let (_, socket) = bound.as_ref().expect("configured");
            let mut buffer = [0u8; 2 * DATAGRAM_BYTES];
            for number in 0..DATAGRAMS {
                let len = socket.recv(&mut buffer)?;
                assert!(len == DATAGRAM_BYTES && buffer[..len].iter().all(|b| *b == number as u8));
            }
            Ok(DATAGRAMS * DATAGRAM_BYTES)
        }
        Task::Throw(index) => {
            let (_, socket) = bound.as_ref().expect("configured");
            socket.connect((MESH.ipv4(index), PORT))?;
            let bytes: Vec<u8> = (0..DATAGRAMS).flat_map(|n| [n as u8; DATAGRAM_BYTES]).collect();
            if setsockopt(socket, sockopt::UdpGsoSegment, &(DATAGRAM_BYTES as i32)).is_ok() {
                return socket.send(&bytes);
            }
            bytes.chunks(DATAGRAM_BYTES).map(|datagram| socket.send(datagram)).sum()
        }
    }
}

/// The byte at a place of the stream.
fn byte(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}

/// Becomes root of a new user namespace, in which network namespaces may be made.
fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}
