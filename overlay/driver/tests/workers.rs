//! Several workers: many peers, every flow in order, on either kind of path, after a peer has moved.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU16;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::control::PathReport;
use overlay_driver::{Mesh, MeshEvent, Overlay, OverlayConfig, WireGuardSecret};
use support::{Coordinator, MESH, wait_for};

/// Two for each of four workers.
const PEERS: usize = 8;

/// Packets of a flow that are under way at a time.
const WINDOW: u32 = 8;

const ROUNDS: u32 = 50;

struct Member {
    index: u16,
    overlay: Overlay,
    mesh: Mesh,
    job: UnixDatagram,
    tun: UnixDatagram,
    secret: WireGuardSecret,
}

async fn start(
    coordinator: &Coordinator,
    index: u16,
    workers: u16,
    (tun, job): (UnixDatagram, UnixDatagram),
    secret: WireGuardSecret,
) -> Member {
    let bind = "127.0.0.1:0".parse().unwrap();
    let config = coordinator.config(index as u8 + 1, bind, coordinator.address, None);
    let workers = NonZeroU16::new(workers).unwrap();
    let overlay = Overlay::start(OverlayConfig { workers, ..config }).await.unwrap();
    let device = tun.try_clone().unwrap();
    let mesh = overlay.join(MESH, device.into(), secret.clone()).await.unwrap();
    Member { index, overlay, mesh, job, tun, secret }
}

fn device() -> (UnixDatagram, UnixDatagram) {
    let (tun, job) = UnixDatagram::pair().unwrap();
    job.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (tun, job)
}

impl Member {
    fn send(&self, to: &Self, number: u32) {
        let mut packet = [0u8; 34];
        packet[10] = 0x45;
        packet[12..14].copy_from_slice(&24u16.to_be_bytes());
        packet[18..20].copy_from_slice(&[64, 253]);
        packet[22..26].copy_from_slice(&MESH.ipv4(self.index).octets());
        packet[26..30].copy_from_slice(&MESH.ipv4(to.index).octets());
        packet[30..].copy_from_slice(&number.to_be_bytes());
        self.job.send(&packet).unwrap();
    }

    /// The next packet whose number is at least that: its sender and its number.
    fn receive(&self, least: u32) -> (u16, u32) {
        loop {
            let mut packet = [0u8; 64];
            assert_eq!(self.job.recv(&mut packet).unwrap(), 34);
            let number = u32::from_be_bytes(packet[30..34].try_into().unwrap());
            if number >= least {
                let [high, low] = packet[24..26].try_into().unwrap();
                return (u16::from_be_bytes([high, low]) - 1, number);
            }
        }
    }

    async fn wait_until_all_direct(&self, peers: usize) {
        wait_for("direct paths", async || {
            let pairs = self.mesh.pairs().await;
            let direct = pairs.iter().filter(|p| matches!(p.path, PathReport::Direct { .. }));
            direct.count() == peers
        })
        .await;
    }
}

/// Everybody sends to everybody at once; returns the number to go on with.
fn exchange(center: &Member, peers: &[Member], from: u32) -> u32 {
    for round in 0..ROUNDS {
        let from = from + round * WINDOW;
        for number in from..from + WINDOW {
            for peer in peers {
                center.send(peer, number);
                peer.send(center, number);
            }
        }
        for peer in peers {
            for number in from..from + WINDOW {
                assert_eq!(peer.receive(from), (0, number), "to {}", peer.index);
            }
        }
        let mut next: BTreeMap<u16, u32> = peers.iter().map(|peer| (peer.index, from)).collect();
        for _ in 0..WINDOW as usize * peers.len() {
            let (source, number) = center.receive(from);
            let expected = next.get_mut(&source).unwrap();
            assert_eq!(number, *expected, "from {source}");
            *expected += 1;
        }
    }
    from + ROUNDS * WINDOW
}

/// How often each of the further workers has gone to sleep.
fn hands() -> BTreeMap<String, u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let hand = |path: std::path::PathBuf| {
        // A thread may end meanwhile.
        let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
        let status = fs::read_to_string(path.join("status")).ok()?;
        let sleeps = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
        name.starts_with("overlay-").then(|| (name, sleeps.trim().parse().unwrap()))
    };
    tasks.filter_map(|task| hand(task.unwrap().path())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_keep_their_order_with_any_number_of_workers() {
    for workers in [2, 4] {
        with_workers(workers).await;
        wait_for("the workers' end", async || hands().is_empty()).await;
    }
}

async fn with_workers(workers: u16) {
    let coordinator: Arc<Coordinator> = Coordinator::of_nodes(1 + PEERS);
    let _server = coordinator.serve().await;
    let mut center = start(&coordinator, 0, workers, device(), WireGuardSecret::generate()).await;
    let mut peers = Vec::new();
    for index in 1..=PEERS as u16 {
        let secret = WireGuardSecret::generate();
        peers.push(start(&coordinator, index, 1, device(), secret).await);
    }
    for member in peers.iter_mut().chain([&mut center]) {
        while !matches!(member.mesh.event().await, MeshEvent::Open { .. }) {}
    }
    let before = hands();
    assert_eq!(before.len(), usize::from(workers) - 1);
    let number = exchange(&center, &peers, 0);

    coordinator.share_candidates();
    for member in peers.iter().chain([&center]) {
        member.wait_until_all_direct(PEERS).await;
    }
    let number = exchange(&center, &peers, number);
    for (hand, sleeps) in hands() {
        let turns = sleeps - before[&hand];
        assert!(turns > u64::from(ROUNDS), "{hand} had something to do {turns} times only");
    }
    let stats = center.overlay.stats().await;
    assert_eq!(
        (stats.unknown_sessions, stats.spoofed_packets, stats.dropped_packets),
        (0, 0, 0),
        "{stats:?}"
    );
    let packets = u64::from(2 * ROUNDS * WINDOW) * PEERS as u64;
    wait_for("the counters", async || {
        let stats = center.overlay.stats().await;
        (stats.tun_sent_packets, stats.tun_received_packets) == (packets, packets)
    })
    .await;
    let bytes: u64 = center.mesh.pairs().await.iter().map(|pair| pair.received_bytes).sum();
    assert_eq!(bytes, packets * 24);

    // Two peers start again at other ports, as if they had moved: one's worker is the first, one's is not.
    for slot in [0, 1] {
        let Member { index, overlay, mesh, job, tun, secret } = peers.remove(slot);
        overlay.shutdown().await;
        drop(mesh);
        let again = start(&coordinator, index, 1, (tun, job), secret).await;
        let (there, back) = (number, number + 1);
        again.job.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        wait_for("a packet to the peer that moved", async || {
            center.send(&again, there);
            again.job.recv(&mut [0; 64]).is_ok()
        })
        .await;
        again.job.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        again.send(&center, back);
        assert_eq!(center.receive(back), (index, back));
        peers.insert(slot, again);
    }
    for member in peers.iter().chain([&center]) {
        member.wait_until_all_direct(PEERS).await;
    }
    exchange(&center, &peers, number + 2);

    // The end comes while everybody is busy.
    let busy: Vec<_> = peers.iter().map(|peer| peer.index).collect();
    let Member { index, overlay, mesh, job, tun, .. } = center;
    drop(tun);
    job.set_nonblocking(true).unwrap();
    let flood = std::thread::spawn(move || {
        let mut packet = [0u8; 34];
        packet[10] = 0x45;
        packet[12..14].copy_from_slice(&24u16.to_be_bytes());
        packet[18..20].copy_from_slice(&[64, 253]);
        packet[22..26].copy_from_slice(&MESH.ipv4(index).octets());
        // Until the device is gone.
        for to in busy.into_iter().cycle() {
            packet[26..30].copy_from_slice(&MESH.ipv4(to).octets());
            match job.send(&packet) {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {}
            }
        }
    });
    for overlay in peers.into_iter().map(|peer| peer.overlay).chain([overlay]) {
        let ended = tokio::time::timeout(Duration::from_secs(20), overlay.shutdown()).await;
        assert!(ended.is_ok(), "the shutdown waits for ever");
    }
    drop(mesh);
    let flooded = tokio::task::spawn_blocking(move || flood.join().unwrap());
    tokio::time::timeout(Duration::from_secs(20), flooded).await.unwrap().unwrap();
}
