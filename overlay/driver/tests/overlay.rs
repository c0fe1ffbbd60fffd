//! Two nodes, a coordinator and a relay on loopback; datagram sockets stand for the TUN devices.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::MeshId;
use overlay_core::control::PathReport;
use overlay_core::ladder::Rung;
use overlay_core::netmap::{ObservedFiltering, ObservedMapping};
use overlay_driver::netcheck::Lifetime;
use overlay_driver::{Mesh, MeshEvent, Overlay, PingError, TunnelConfig, Via, WireGuardSecret};
use support::{Coordinator, MESH, Server, node_id, path_of, wait_for};
use tokio::net::UnixDatagram;
use tokio::time::{sleep, timeout};

/// The virtio header of a packet that needs nothing.
const VIRTIO: [u8; 10] = [0; 10];

struct Node {
    overlay: Overlay,
    mesh: Mesh,
    job: UnixDatagram,
    index: u16,
}

fn device() -> (StdUnixDatagram, UnixDatagram) {
    let (tun, job) = StdUnixDatagram::pair().unwrap();
    job.set_nonblocking(true).unwrap();
    (tun, UnixDatagram::from_std(job).unwrap())
}

async fn node(coordinator: &Coordinator, index: u16, bind: &str) -> Node {
    join(coordinator.node_at(index as u8 + 1, bind).await, index).await
}

async fn join(overlay: Overlay, index: u16) -> Node {
    let (tun, job) = device();
    let mesh = overlay.join(MESH, tun.into(), WireGuardSecret::generate()).await.unwrap();
    Node { overlay, mesh, job, index }
}

/// Two nodes on loopback whose mesh is open.
async fn open_mesh() -> (Arc<Coordinator>, Server, [Node; 2]) {
    open_mesh_at("127.0.0.1:0").await
}

async fn open_mesh_at(bind: &str) -> (Arc<Coordinator>, Server, [Node; 2]) {
    let coordinator = Coordinator::new();
    let server = coordinator.serve().await;
    let mut nodes = [node(&coordinator, 0, bind).await, node(&coordinator, 1, bind).await];
    for node in &mut nodes {
        let MeshEvent::Netmap(netmap) = node.mesh.event().await else { panic!("netmap first") };
        assert_eq!(netmap.members.len(), 2);
        assert!(matches!(node.mesh.event().await, MeshEvent::Open { .. }));
    }
    (coordinator, server, nodes)
}

/// An IPv4 packet that no checksum is asked of, with `payload` as experimental protocol 253.
fn packet(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = [0u8; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 253]);
    packet[12..16].copy_from_slice(&MESH.ipv4(from).octets());
    packet[16..20].copy_from_slice(&MESH.ipv4(to).octets());
    [&VIRTIO, &packet[..], payload].concat()
}

impl Node {
    async fn send(&self, to: &Node, payload: &[u8]) {
        self.job.send(&packet(self.index, to.index, payload)).await.unwrap();
    }

    /// Sends as a job does that waits for an answer: again and again.
    async fn send_until_received(&self, to: &Node, payload: &[u8]) {
        let sending = async {
            loop {
                self.send(to, payload).await;
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            received = to.receive() => assert_eq!(received, payload),
            () = sending => {}
        }
    }

    /// The next payload of the job; packets repeated on two paths have been dropped before.
    async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0u8; 2048];
        let received = timeout(Duration::from_secs(20), self.job.recv(&mut buffer)).await;
        let len = received.expect("a packet within 20 s").unwrap();
        buffer[30..len].to_vec()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_cross_relayed_and_then_direct() {
    let (coordinator, _server, [a, b]) = open_mesh().await;
    a.send(&b, b"over the relay").await;
    assert_eq!(b.receive().await, b"over the relay");
    b.send(&a, b"and back").await;
    assert_eq!(a.receive().await, b"and back");
    let relay = coordinator.relay_address();
    for node in [&a, &b] {
        assert_eq!(path_of(&node.mesh.pairs().await), PathReport::Relayed { relay });
    }

    coordinator.share_candidates();
    for (node, peer) in [(&a, &b), (&b, &a)] {
        let direct = PathReport::Direct { endpoint: peer.overlay.local_addr() };
        wait_for("a direct path", async || path_of(&node.mesh.pairs().await) == direct).await;
    }
    // Nothing is lost or reordered around the change of path.
    for number in 0..100u8 {
        a.send(&b, &[number; 200]).await;
        assert_eq!(b.receive().await, [number; 200]);
    }
    let bytes = a.mesh.pairs().await[0].sent_bytes;
    assert_eq!(bytes, 100 * 220 + 34);
    assert_eq!(b.mesh.pairs().await[0].received_bytes, bytes);
    for node in [a, b] {
        node.overlay.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dual_stack_socket_reaches_an_ipv4_coordinator_and_relay() {
    let (coordinator, _server, [a, b]) = open_mesh_at("[::]:0").await;
    let relay = coordinator.relay_address();
    assert_eq!(path_of(&a.mesh.pairs().await), PathReport::Relayed { relay });
    a.send(&b, b"mapped").await;
    assert_eq!(b.receive().await, b"mapped");
    b.send(&a, b"both ways").await;
    assert_eq!(a.receive().await, b"both ways");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_gives_both_sides_the_final_report() {
    let (coordinator, _server, [a, b]) = open_mesh().await;
    a.send(&b, b"x").await;
    assert_eq!(b.receive().await, b"x");
    let report = a.mesh.leave().await;
    assert_eq!(report[0].sent_bytes, 21);
    assert!(report[0].established);
    let told = async || coordinator.final_report(node_id(1)) == Some(report.clone());
    wait_for("the coordinator's copy", told).await;

    let other = MeshId { job: 2, generation: 1 };
    let (tun, _job) = device();
    let joined = a.overlay.join(other, tun.into(), WireGuardSecret::generate()).await.unwrap();
    let (tun, _job) = device();
    assert!(a.overlay.join(other, tun.into(), WireGuardSecret::generate()).await.is_err());
    drop(joined);
    let (tun, _job) = device();
    assert!(a.overlay.join(other, tun.into(), WireGuardSecret::generate()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_session_comes_back_and_the_mesh_does_not_notice() {
    let (coordinator, server, [a, b]) = open_mesh().await;
    assert_eq!(coordinator.sessions(), 2);
    drop(server);
    wait_for("the loss is seen", async || !a.overlay.connected() && !b.overlay.connected()).await;

    a.send(&b, b"without a coordinator").await;
    assert_eq!(b.receive().await, b"without a coordinator");

    let _server = coordinator.serve().await;
    wait_for("both are back", async || a.overlay.connected() && b.overlay.connected()).await;
    a.send(&b, b"with it").await;
    assert_eq!(b.receive().await, b"with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_again_takes_its_mesh_back() {
    for restarted in 0..2u16 {
        let coordinator = Coordinator::new();
        let _server = coordinator.serve().await;
        let secret = WireGuardSecret::generate();
        let (tun, job) = device();
        let tun_again = tun.try_clone().unwrap();
        let overlay = coordinator.node(restarted as u8 + 1).await;
        let mut mesh = overlay.join(MESH, tun.into(), secret.clone()).await.unwrap();
        let mut peer = node(&coordinator, 1 - restarted, "127.0.0.1:0").await;
        for mesh in [&mut mesh, &mut peer.mesh] {
            while !matches!(mesh.event().await, MeshEvent::Open { .. }) {}
        }
        let first = Node { overlay, mesh, job, index: restarted };
        first.send(&peer, b"before").await;
        assert_eq!(peer.receive().await, b"before");

        let Node { overlay, mesh, job, index } = first;
        overlay.shutdown().await;
        drop(mesh);
        let overlay = coordinator.node(restarted as u8 + 1).await;
        let mesh = overlay.join(MESH, tun_again.into(), secret).await.unwrap();
        let again = Node { overlay, mesh, job, index };
        again.send_until_received(&peer, b"after").await;
        peer.send_until_received(&again, b"and back").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_the_socket_is_counted_and_harmless() {
    let (_coordinator, _server, [a, b]) = open_mesh().await;
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rubbish: [&[u8]; 8] = [
        b"",
        &[0; 1],
        &[
            4, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0,
        ],
        &[0x05, 0x52, 0x4c, 0x59, 0, 0, 0, 7, 0xff],
        &[0x0b, 0x43, 0x48, 0x01, 2],
        &[0x40; 30],
        &[0xc0; 1200],
        &[0x3f; 100],
    ];
    for datagram in rubbish {
        stranger.send_to(datagram, a.overlay.local_addr()).await.unwrap();
    }
    let counted = async || {
        let stats = a.overlay.stats().await;
        stats.unknown_sessions >= 1 && stats.unknown_datagrams >= 3
    };
    wait_for("the rubbish is counted", counted).await;
    b.send(&a, b"still here").await;
    assert_eq!(a.receive().await, b"still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_nobody_waits_for_is_taken_back() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let overlay = coordinator.node(1).await;
    let (tun, _job) = device();
    // Asked for, and forgotten before the answer is looked at.
    tokio::select! {
        biased;
        _ = overlay.join(MESH, tun.into(), WireGuardSecret::generate()) => {}
        () = std::future::ready(()) => {}
    }
    let (tun, _job) = device();
    overlay.join(MESH, tun.into(), WireGuardSecret::generate()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_sees_the_mesh_and_pings_its_peers() {
    let (coordinator, _server, [a, b]) = open_mesh().await;
    let relay = coordinator.relay_address();
    let view = a.overlay.view().await.unwrap();
    assert_eq!(view.seen.unwrap().reflector, relay);
    let mesh = &view.meshes[0];
    assert!(mesh.is_open && mesh.netmap.as_ref().unwrap().members.len() == 2);
    assert_eq!(path_of(&mesh.pairs), PathReport::Relayed { relay });

    let patience = Duration::from_secs(20);
    let ping = async |via, size| a.overlay.ping(node_id(2), via, size, patience).await;
    let relayed = ping(Via::Current, 1412).await.unwrap();
    assert_eq!((relayed.relayed, relayed.endpoint), (true, relay));

    coordinator.share_candidates();
    let endpoint = b.overlay.local_addr();
    let direct = PathReport::Direct { endpoint };
    wait_for("a direct path", async || path_of(&a.mesh.pairs().await) == direct).await;
    let answered = ping(Via::Current, 56).await.unwrap();
    assert_eq!((answered.relayed, answered.endpoint), (false, endpoint));
    assert_eq!(ping(Via::Relay, 56).await.unwrap().endpoint, relay);
    let refused = a.overlay.ping(node_id(9), Via::Current, 56, patience).await;
    assert_eq!(refused, Err(PingError::NoSession));
    assert_eq!(a.overlay.view().await.unwrap().node.stats.probes_refused, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn netcheck_on_loopback_finds_no_nat_and_nothing_in_the_way() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let overlay = coordinator.node(1).await;
    let report = overlay.netcheck(&[Duration::from_millis(20)]).await;
    assert_eq!(report.observed, Some(overlay.local_addr()));
    assert_eq!(report.mapping, ObservedMapping::None);
    assert_eq!(report.filtering, ObservedFiltering::ByAddress);
    assert_eq!((report.port_preserved, report.hairpin), (Some(true), None));
    assert_eq!(report.mapping_lifetime, Some(Lifetime { at_least_s: 0, below_s: None }));
    assert!(report.udp && report.round_trip_us.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn netcheck_without_an_answer_says_that_udp_is_blocked() {
    let coordinator = Coordinator::new();
    let overlay = coordinator.node(1).await;
    let report = overlay.netcheck(&[]).await;
    assert!(!report.udp);
    assert!(report.to_string().contains("blocked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_is_swallowed_everything_goes_over_tls_until_udp_is_back() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    // Nobody reads there.
    let swallow = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (control, relay) = (swallow(), swallow());
    let server = control.local_addr().unwrap();
    let advertised = relay.local_addr().unwrap();
    *coordinator.advertised.lock().unwrap() = advertised;
    let tls = coordinator.serve_tunnels().await.to_string();
    let recheck = Duration::from_millis(100);
    let mut nodes = two_with_other_ways(&coordinator, server, &tls, recheck).await;
    for node in &mut nodes {
        while !matches!(node.mesh.event().await, MeshEvent::Open { .. }) {}
        assert!(node.overlay.tunnelled());
    }
    let [a, b] = nodes.try_into().ok().unwrap();
    for size in [1, 1000, 1380] {
        a.send_until_received(&b, &vec![7; size]).await;
        b.send_until_received(&a, &vec![8; size]).await;
    }
    let report = &a.mesh.pairs().await[0];
    assert_eq!(report.path, PathReport::Relayed { relay: advertised });
    assert!(report.explain.contains("does not get through"), "{}", report.explain);
    assert!(!a.overlay.netcheck(&[]).await.udp);

    // From now on somebody answers there: the reflector, and the coordinator.
    drop((control, relay));
    let _relay = coordinator.relay_at(advertised);
    let _control = coordinator.serve_at(server).await;
    for node in [&a, &b] {
        let by_udp = async || node.overlay.connected() && !node.overlay.tunnelled();
        wait_for("UDP again", by_udp).await;
    }
    a.send_until_received(&b, b"by UDP").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_reaches_the_coordinator_alone_relay_frames_go_in_quic_datagrams() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    // Nobody reads there.
    let swallow = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = swallow.local_addr().unwrap();
    *coordinator.advertised.lock().unwrap() = relay;
    // The API's port is closed: there is no other way.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let recheck = Duration::from_millis(100);
    let mut nodes = two_with_other_ways(&coordinator, coordinator.address, &closed, recheck).await;
    for node in &mut nodes {
        while !matches!(node.mesh.event().await, MeshEvent::Open { .. }) {}
        assert!(!node.overlay.tunnelled(), "the control session goes by UDP");
        let way = node.overlay.way();
        assert_eq!(way.rung, Some(Rung::Quic));
        assert!(way.steps.iter().any(|step| step.what.contains("QUIC")), "{way:?}");
    }
    let [a, b] = nodes.try_into().ok().unwrap();
    // The longest is more than a QUIC datagram of a new connection takes.
    for size in [1, 1000, 1380] {
        a.send_until_received(&b, &vec![7; size]).await;
        b.send_until_received(&a, &vec![8; size]).await;
    }
    let report = &a.mesh.pairs().await[0];
    assert_eq!(report.path, PathReport::Relayed { relay });
    assert!(report.explain.contains("QUIC datagrams"), "{}", report.explain);

    drop(swallow);
    let _relay = coordinator.relay_at(relay);
    for node in [&a, &b] {
        let by_udp = async || node.overlay.way().rung == Some(Rung::Udp);
        wait_for("UDP again", by_udp).await;
    }
    a.send_until_received(&b, b"by UDP").await;
    b.send_until_received(&a, b"and back").await;
}

/// Two nodes of one mesh that know the control channel's address, and the API's for tunnels.
async fn two_with_other_ways(
    coordinator: &Coordinator,
    server: SocketAddr,
    api: &impl ToString,
    recheck: Duration,
) -> Vec<Node> {
    let mut nodes = Vec::new();
    for index in 0..2u8 {
        let tunnel = TunnelConfig { recheck, ..TunnelConfig::new(api.to_string(), None) };
        let overlay = coordinator.node_with(index + 1, "127.0.0.1:0", server, Some(tunnel)).await;
        nodes.push(join(overlay, u16::from(index)).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_that_loses_a_third_of_a_jobs_packets_is_left_for_quic_datagrams() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let relay = thinned(coordinator.relay_address()).await;
    *coordinator.advertised.lock().unwrap() = relay;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let recheck = Duration::from_secs(1);
    let mut nodes = two_with_other_ways(&coordinator, coordinator.address, &closed, recheck).await;
    for node in &mut nodes {
        while !matches!(node.mesh.event().await, MeshEvent::Open { .. }) {}
    }
    let [a, b] = nodes.try_into().ok().unwrap();
    let by_quic = async || {
        for _ in 0..10 {
            a.send(&b, &[7; 1000]).await;
        }
        [&a, &b].iter().all(|node| node.overlay.way().rung == Some(Rung::Quic))
    };
    wait_for("both have measured it", by_quic).await;
    let report = &a.mesh.pairs().await[0];
    assert!(report.explain.contains("QUIC datagrams"), "{}", report.explain);
}

/// Passes datagrams on to `target` and back, all but every third.
async fn thinned(target: SocketAddr) -> SocketAddr {
    let near = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let mut fars = HashMap::new();
        let (mut buffer, mut count) = ([0; 2048], 0u32);
        loop {
            let (len, from) = near.recv_from(&mut buffer).await.unwrap();
            if let Entry::Vacant(place) = fars.entry(from) {
                let far = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
                far.connect(target).await.unwrap();
                place.insert(Arc::clone(&far));
                let near = Arc::clone(&near);
                tokio::spawn(async move {
                    let mut buffer = [0; 2048];
                    while let Ok(len) = far.recv(&mut buffer).await {
                        near.send_to(&buffer[..len], from).await.unwrap();
                    }
                });
            }
            count += 1;
            if !count.is_multiple_of(3) {
                fars[&from].send(&buffer[..len]).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_breaks_is_made_again() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let swallow = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = swallow.local_addr().unwrap();
    let (tls, cut) = cutter(coordinator.serve_tunnels().await).await;
    let tunnel = TunnelConfig::new(tls.to_string(), None);
    let overlay = coordinator.node_with(1, "127.0.0.1:0", server, Some(tunnel)).await;
    wait_for("the session", async || overlay.connected() && overlay.tunnelled()).await;
    cut.send(()).unwrap();
    wait_for("its end", async || overlay.way().steps.len() >= 2).await;
    wait_for("another one", async || overlay.connected() && overlay.tunnelled()).await;
}

/// Passes TCP connections on to `target`, and cuts all that there are when told so.
async fn cutter(target: SocketAddr) -> (SocketAddr, tokio::sync::broadcast::Sender<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, _) = tokio::sync::broadcast::channel(1);
    let cuts = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut is_cut = cuts.subscribe();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = is_cut.recv() => {}
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_works_no_tunnel_is_made() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let tunnel = TunnelConfig::new(coordinator.serve_tunnels().await.to_string(), None);
    let address = coordinator.address;
    let overlay = coordinator.node_with(1, "127.0.0.1:0", address, Some(tunnel)).await;
    wait_for("the session", async || overlay.connected()).await;
    wait_for("proof", async || overlay.way().rung == Some(Rung::Udp)).await;
    assert!(!overlay.tunnelled());
}
