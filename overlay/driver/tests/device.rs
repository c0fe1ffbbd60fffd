//! Real TUN devices in network namespaces, one thread each, with TCP through them.
//!
//! Entering a user namespace needs a process with one thread, so this is a plain program: it makes
//! the namespace first (unless it is root already), then the threads. Needs `/dev/net/tun`.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use nix::sched::{CloneFlags, unshare};
use overlay_core::control::PathReport;
use overlay_core::netmap::{IPV4_PREFIX_LEN, IPV6_PREFIX_LEN};
use overlay_driver::tun::MeshDevice;
use overlay_driver::{Mesh, MeshEvent, Overlay, WireGuardSecret};
use support::{Coordinator, MESH, path_of, wait_for};

/// The mesh's inner MTU in bytes.
const MTU: u16 = 1412;

const PORT: u16 = 5000;

/// Enough for thousands of segments, little enough for a slow machine.
const TRANSFER_BYTES: usize = 16 << 20;

/// What a job's thread is asked to do, in its own network namespace.
enum Task {
    Configure(u16),
    /// Take one connection and read it to its end.
    Serve,
    /// Connect to that member and write that many bytes.
    Send(u16, usize),
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
    runtime.block_on(tcp_crosses_relayed_and_direct());
}

async fn tcp_crosses_relayed_and_direct() {
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
    transfer(&job_b, &job_a);

    let stats = overlay_a.stats().await;
    assert_eq!((stats.spoofed_packets, stats.tun_write_errors), (0, 0));
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
            let mut listener = None;
            while let Ok(task) = asked.recv() {
                answers.send(perform(task, &device, &mut listener).expect("the task")).ok();
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
    listener: &mut Option<TcpListener>,
) -> io::Result<usize> {
    match task {
        Task::Configure(index) => {
            let (v4, v6) = (MESH.ipv4(index), MESH.ipv6(index));
            device.set_addresses(v4, IPV4_PREFIX_LEN, v6, IPV6_PREFIX_LEN)?;
            *listener = Some(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?);
            Ok(0)
        }
        Task::Serve => {
            let (mut stream, _) = listener.as_ref().expect("configured").accept()?;
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
