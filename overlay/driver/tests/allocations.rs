//! The data plane allocates nothing per packet: its threads' allocations are counted.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU16;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use overlay_core::control::PathReport;
use overlay_driver::{Mesh, MeshEvent, Overlay, OverlayConfig, WireGuardSecret};
use support::{Coordinator, MESH, path_of, wait_for};

/// Packets whose cost is counted.
const PACKETS: u64 = 20_000;

/// Packets under way at a time.
const WINDOW: u64 = 32;

/// Packets that are counted together. Timers and probes allocate now and then; what packets cost would show in
/// every such run, were it one allocation in so many packets.
const RUN: u64 = 320;

/// Threads of each data plane: packets are handed over, too. The second node's peer belongs to its second one.
const WORKERS: NonZeroU16 = NonZeroU16::new(2).unwrap();

/// How the names of the data plane's threads begin.
const WORKER: &[u8] = b"overlay";

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this is a thread of the data plane; none before the first allocation asks.
    static IS_WORKER: Cell<Option<bool>> = const { Cell::new(None) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: by this function's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by this function's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: by this function's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    let is_worker = IS_WORKER.try_with(|known| {
        let is_worker = known.get().unwrap_or_else(is_named_worker);
        known.set(Some(is_worker));
        is_worker
    });
    if is_worker.unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// The kernel knows the name, and telling it allocates nothing.
fn is_named_worker() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { nix::libc::prctl(nix::libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(WORKER)
}

struct Side {
    overlay: Overlay,
    mesh: Mesh,
    job: UnixDatagram,
}

async fn side(coordinator: &Coordinator, number: u8) -> Side {
    let bind = "127.0.0.1:0".parse().unwrap();
    let config = coordinator.config(number, bind, coordinator.address, None);
    let config = OverlayConfig { workers: WORKERS, ..config };
    let overlay = Overlay::start(config).await.unwrap();
    let (tun, job) = UnixDatagram::pair().unwrap();
    job.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mesh = overlay.join(MESH, tun.into(), WireGuardSecret::generate()).await.unwrap();
    Side { overlay, mesh, job }
}

/// A packet without a checksum to finish: virtio header, IPv4 header, protocol 253, payload.
fn packet(from: u16, to: u16) -> [u8; 230] {
    let mut packet = [0u8; 230];
    packet[10] = 0x45;
    packet[12..14].copy_from_slice(&220u16.to_be_bytes());
    packet[18..20].copy_from_slice(&[64, 253]);
    packet[22..26].copy_from_slice(&MESH.ipv4(from).octets());
    packet[26..30].copy_from_slice(&MESH.ipv4(to).octets());
    packet
}

/// Sends and receives packets from one job to the other, a window at a time.
fn stream(from: &UnixDatagram, to: &UnixDatagram, packets: u64) {
    let (packet, mut buffer) = (packet(0, 1), [0u8; 2048]);
    for _ in 0..packets / WINDOW {
        for _ in 0..WINDOW {
            from.send(&packet).unwrap();
        }
        for _ in 0..WINDOW {
            assert_eq!(to.recv(&mut buffer).unwrap(), packet.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_cost_no_allocation_on_either_kind_of_path() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let mut sides = [side(&coordinator, 1).await, side(&coordinator, 2).await];
    for side in &mut sides {
        let MeshEvent::Netmap(_) = side.mesh.event().await else { panic!("netmap first") };
        assert!(matches!(side.mesh.event().await, MeshEvent::Open { .. }));
    }
    let relay = coordinator.relay_address();
    assert_eq!(path_of(&sides[0].mesh.pairs().await), PathReport::Relayed { relay });
    let count_on = |kind: &str| {
        // The tables and buffers grow to their size first.
        stream(&sides[0].job, &sides[1].job, PACKETS / 10);
        let mut spent: Vec<u64> = (0..PACKETS / RUN)
            .map(|_| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                stream(&sides[0].job, &sides[1].job, RUN);
                ALLOCATIONS.load(Ordering::Relaxed) - before
            })
            .collect();
        spent.sort_unstable();
        let median = spent[spent.len() / 2];
        assert_eq!(median, 0, "allocations in runs of {RUN} packets, {kind}: {spent:?}");
    };
    count_on("relayed");

    coordinator.share_candidates();
    for (this, other) in [(0, 1), (1, 0)] {
        let direct = PathReport::Direct { endpoint: sides[other].overlay.local_addr() };
        wait_for("a direct path", async || path_of(&sides[this].mesh.pairs().await) == direct)
            .await;
    }
    count_on("direct");
    // The counter works: the threads' start was counted at least.
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 0);
    for side in sides {
        side.overlay.shutdown().await;
    }
}
