//! Two planes over loopback, without a core: the test says what the core would.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use overlay_core::wire::relay;
use quinn_udp::{EcnCodepoint, RecvMeta};
use std::os::fd::AsFd;
use tokio::sync::mpsc;

use super::*;
use crate::WireGuardSecret;
use crate::offload::ecn;
use crate::offload::samples::{cut, mend, packet, pattern, payload, plain_frame, superpacket};
use crate::socket::{Socket, plain};
use crate::worker::receive::{Receiver, datagrams};

const MESH: MeshId = MeshId { job: 1, generation: 1 };
const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const INDEX: [u16; 2] = [0, 1];

struct Side {
    plane: Plane,
    socket: Arc<Socket>,
    receiver: Receiver,
    job: UnixDatagram,
    secret: WireGuardSecret,
    node: NodeId,
    index: u16,
}

fn side(index: u16) -> Side {
    let socket = Arc::new(Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    let net = Net::new(Arc::clone(&socket));
    let mut plane =
        Plane::new(net, Arc::default(), Instant::now(), Share::whole(), Crew::default());
    let (tun, job) = UnixDatagram::pair().unwrap();
    for end in [&tun, &job] {
        end.set_nonblocking(true).unwrap();
    }
    let secret = WireGuardSecret::generate();
    let mut port = MeshPort::new(MESH, tun.into(), secret.clone(), mpsc::channel(1).0);
    port.set_own_index(index);
    plane.add_mesh(port);
    let node = NodeId([index as u8; 32]);
    Side { plane, socket, receiver: Receiver::new(), job, secret, node, index }
}

impl Side {
    fn path(&self) -> Path {
        Path::Direct(self.socket.local_addr())
    }

    fn key_of(&self, peer: &Self) -> SessionKey {
        SessionKey { mesh: MESH, peer: peer.node }
    }

    fn meet(&mut self, peer: &Self) {
        let (key, initiator) = (self.key_of(peer), self.index < peer.index);
        let role = Role { initiator, lazy: false };
        let (peer_key, index) = (peer.secret.public(), peer.index);
        let names = SessionNames { key, peer_key, index, role };
        self.plane.add_session(Instant::now(), names, Arc::default());
    }

    /// Waits for datagrams and handles them, until `done`.
    fn receive_until(&mut self, mut done: impl FnMut(&mut Plane) -> bool) {
        while !done(&mut self.plane) {
            wait_readable(&self.socket.as_fd());
            let Self { plane, socket, receiver, .. } = self;
            receiver
                .receive(socket, |meta, message| {
                    let from = plain(meta.addr);
                    for datagram in datagrams(meta, message) {
                        plane.on_wireguard(Instant::now(), Path::Direct(from), meta.ecn, datagram);
                    }
                })
                .unwrap();
            while plane.has_handshakes() {
                plane.shake_hands();
            }
            plane.flush_devices();
            plane.net.flush();
        }
    }

    /// The job sends a frame.
    fn job_sends(&mut self, frame: &[u8]) {
        self.job.send(frame).unwrap();
        let slot = self.plane.mesh_slots[&MESH];
        self.plane.on_device_readable(Instant::now(), slot);
        self.plane.net.flush();
    }

    /// The packets that the job has received.
    fn job_receives(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0u8; FRAME_BYTES];
        let mut packets = Vec::new();
        while let Ok(len) = self.job.recv(&mut buffer) {
            packets.extend(cut(&buffer[..len]));
        }
        packets
    }
}

fn wait_readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(Duration::from_secs(10)).unwrap()).unwrap();
    assert_eq!(ready, 1, "nothing arrived within 10 s");
}

fn v4(index: u16) -> IpAddr {
    MESH.ipv4(index).into()
}

fn v6(index: u16) -> IpAddr {
    MESH.ipv6(index).into()
}

fn saw_authenticated(plane: &mut Plane) -> bool {
    plane.notices.iter().any(|notice| matches!(notice, Notice::Authenticated { .. }))
}

/// Two sides whose session has keys and a direct path.
fn connected() -> [Side; 2] {
    let (mut a, mut b) = (side(INDEX[0]), side(INDEX[1]));
    a.meet(&b);
    b.meet(&a);
    a.plane.initiate(a.key_of(&b), vec![b.path()]);
    a.plane.shake_hands();
    a.plane.net.flush();
    b.receive_until(|plane| plane.net.stats.udp_sent_datagrams == 1);
    a.receive_until(saw_authenticated);
    b.receive_until(saw_authenticated);
    a.plane.use_path(b.node, b.path(), None);
    b.plane.use_path(a.node, a.path(), None);
    for side in [&mut a, &mut b] {
        side.plane.notices.clear();
    }
    [a, b]
}

#[test]
fn superpackets_cross_in_both_directions_and_families() {
    let [mut a, mut b] = connected();
    let bytes = pattern(50_000);
    for (from, to) in [(v4(0), v4(1)), (v6(0), v6(1))] {
        for protocol in [TCP, UDP] {
            let whole = packet((from, to), protocol, 9, ACK, &bytes);
            a.job_sends(&superpacket(whole, protocol, 1352));
            let before = b.plane.net.stats.tun_received_packets;
            b.receive_until(|plane| plane.net.stats.tun_received_packets == before + 37);
            let together: Vec<u8> =
                b.job_receives().iter().flat_map(|segment| payload(segment).to_vec()).collect();
            assert_eq!(together, bytes);
        }
    }
    b.job_sends(&plain_frame(&packet((v4(1), v4(0)), UDP, 0, 0, b"answer")));
    a.receive_until(|plane| plane.net.stats.tun_received_packets == 1);
    assert_eq!(payload(&a.job_receives()[0]), b"answer");

    let (sent, received) = (a.plane.net.stats.tun_sent_bytes, b.plane.net.stats.tun_received_bytes);
    assert_eq!(sent, received);
}

#[test]
fn counts_are_per_session_and_outlive_it() {
    let [mut a, b] = connected();
    let state = PairState {
        established: true,
        settled: false,
        path: Some(b.path()),
        rtt_us: None,
        established_after_ms: None,
        explain: String::new(),
    };
    a.plane.pair_changed(a.key_of(&b), state);
    let datagram = packet((v4(0), v4(1)), UDP, 0, 0, b"12345");
    a.job_sends(&plain_frame(&datagram));
    assert_eq!(a.plane.pairs(MESH)[0].sent_bytes, datagram.len() as u64);
    a.plane.remove_session(a.key_of(&b));
    assert_eq!(a.plane.pairs(MESH)[0].sent_bytes, datagram.len() as u64);
}

#[test]
fn packets_that_wait_for_keys_are_delivered_once_they_exist() {
    let (mut a, mut b) = (side(INDEX[0]), side(INDEX[1]));
    a.meet(&b);
    b.meet(&a);
    b.plane.use_path(a.node, a.path(), None);
    a.job_sends(&plain_frame(&packet((v4(0), v4(1)), UDP, 0, 0, b"early")));
    a.plane.use_path(b.node, b.path(), None);
    // The initiator's timers see the waiting packet and start the handshake.
    a.plane.tick(Instant::now());
    a.plane.net.flush();
    b.receive_until(|plane| plane.net.stats.udp_sent_datagrams == 1);
    a.receive_until(saw_authenticated);
    b.receive_until(|plane| plane.net.stats.tun_received_packets == 1);
    assert_eq!(payload(&b.job_receives()[0]), b"early");
}

/// The peer slept, and holds a channel at its own home relay only.
#[test]
fn packets_that_wait_for_keys_leave_through_the_relay_that_the_keys_came_by() {
    let (mut a, mut b, relay, other) = (side(INDEX[0]), side(INDEX[1]), Sink::new(), Sink::new());
    a.meet(&b);
    b.meet(&a);
    a.plane.use_path(b.node, other.channel(), None);
    a.job_sends(&plain_frame(&packet((v4(0), v4(1)), UDP, 0, 0, b"early")));
    a.plane.initiate(a.key_of(&b), vec![relay.channel()]);
    for side in [&mut a, &mut b] {
        side.plane.shake_hands();
        side.plane.net.flush();
    }
    for receiver in [&mut b, &mut a] {
        let frame = relay.receive();
        let (_, message) = relay::parse(&frame).unwrap();
        receiver.plane.on_wireguard(Instant::now(), relay.channel(), None, message);
        receiver.plane.shake_hands();
        receiver.plane.net.flush();
    }
    for _ in 0..2 {
        let frame = relay.receive();
        let (_, message) = relay::parse(&frame).unwrap();
        b.plane.on_wireguard(Instant::now(), relay.channel(), None, message);
        b.plane.flush_devices();
    }
    assert_eq!(payload(&b.job_receives()[0]), b"early");
    other.0.set_nonblocking(true).unwrap();
    assert!(other.0.recv(&mut [0; 64]).is_err(), "nobody is bound there");
}

#[test]
fn copies_of_an_initiation_get_the_same_answer() {
    let (mut a, mut b) = (side(INDEX[0]), side(INDEX[1]));
    a.meet(&b);
    b.meet(&a);
    a.plane.initiate(a.key_of(&b), vec![b.path(), b.path()]);
    a.plane.shake_hands();
    a.plane.net.flush();
    b.receive_until(|plane| plane.net.stats.udp_sent_datagrams == 2);
    assert_eq!(b.plane.net.stats.refused_packets, 0);
    let mut responses = Vec::new();
    while responses.len() < 2 {
        wait_readable(&a.socket.as_fd());
        let mut push = |meta: &RecvMeta, message: &[u8]| {
            responses.extend(datagrams(meta, message).map(<[u8]>::to_vec));
        };
        a.receiver.receive(&a.socket, &mut push).unwrap();
    }
    assert_eq!(responses[0], responses[1]);
}

#[test]
fn both_paths_carry_a_packet_and_one_copy_arrives() {
    let [mut a, mut b] = connected();
    a.plane.use_path(b.node, b.path(), Some(b.path()));
    a.job_sends(&plain_frame(&packet((v4(0), v4(1)), UDP, 0, 0, b"twice")));
    b.receive_until(|plane| plane.net.stats.refused_packets == 1);
    assert_eq!(b.job_receives().len(), 1);
}

/// Takes the datagrams that a job's packet became, and passes them on with another mark.
fn pass_on(
    router: &Socket,
    to: SocketAddr,
    mark: Option<EcnCodepoint>,
) -> Vec<Option<EcnCodepoint>> {
    let (mut receiver, mut seen) = (Receiver::new(), Vec::new());
    wait_readable(&router.as_fd());
    let each = |meta: &RecvMeta, message: &[u8]| {
        for datagram in datagrams(meta, message) {
            seen.push(meta.ecn);
            router.send((to, mark), datagram, None).unwrap();
        }
    };
    receiver.receive(router, each).unwrap();
    seen
}

#[test]
fn a_jobs_mark_goes_outside_and_a_routers_mark_comes_inside() {
    use EcnCodepoint::{Ce, Ect0, Ect1};

    let [mut a, mut b] = connected();
    let router = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    a.plane.use_path(b.node, Path::Direct(router.local_addr()), None);
    let to = b.socket.local_addr();
    let sends = |a: &mut Side, addresses, mark: Option<EcnCodepoint>| {
        let mut whole = packet(addresses, UDP, 0, 0, &pattern(3000));
        let shift = if whole[0] >> 4 == 4 { 0 } else { 4 };
        whole[1] |= mark.map_or(0, |mark| mark as u8) << shift;
        mend(&mut whole);
        a.job_sends(&superpacket(whole, UDP, 1000));
    };
    for addresses in [(v4(0), v4(1)), (v6(0), v6(1))] {
        for (mark, seen, inside) in [
            (Some(Ect0), None, Some(Ect0)),
            (Some(Ect0), Some(Ce), Some(Ce)),
            (Some(Ect1), Some(Ce), Some(Ce)),
            (Some(Ce), None, Some(Ce)),
            (None, Some(Ect0), None),
        ] {
            sends(&mut a, addresses, mark);
            let mut outside = Vec::new();
            while outside.len() < 3 {
                outside.extend(pass_on(&router, to, seen));
            }
            assert_eq!(outside, [mark; 3]);
            let before = b.plane.net.stats.tun_received_packets;
            b.receive_until(|plane| plane.net.stats.tun_received_packets == before + 3);
            let arrived = b.job_receives();
            assert_eq!(
                arrived.iter().map(|packet| ecn::mark(packet)).collect::<Vec<_>>(),
                [inside; 3]
            );
            // The checksums are right, too.
            assert_eq!(
                arrived.iter().flat_map(|p| payload(p).to_vec()).collect::<Vec<_>>(),
                pattern(3000)
            );
        }
    }
    // A job that knows nothing of marks must not miss that it has to slow down: a loss tells it.
    sends(&mut a, (v4(0), v4(1)), None);
    let mut outside = 0;
    while outside < 3 {
        outside += pass_on(&router, to, Some(Ce)).len();
    }
    b.receive_until(|plane| plane.net.stats.congested_packets == 3);
    assert!(b.job_receives().is_empty());
}

#[test]
fn a_job_uses_only_its_own_addresses_and_reaches_only_members() {
    let [mut a, _] = connected();
    let sent = a.plane.net.stats.udp_sent_datagrams;
    let unroutable = [(v4(5), v4(1)), (v4(0), v4(9)), (v6(5), v6(1))];
    for addresses in unroutable {
        a.job_sends(&plain_frame(&packet(addresses, UDP, 0, 0, b"no")));
    }
    let probe = overlay_core::wire::Probe::Ping { transaction: [1; 8], size: 100 };
    a.job_sends(&plain_frame(&probe.encode()));
    assert_eq!(a.plane.net.stats.unroutable_packets, 4);
    a.job_sends(&plain_frame(&packet((v6(0), "ff02::1".parse().unwrap()), UDP, 0, 0, b"noise")));
    assert_eq!(a.plane.net.stats.unroutable_packets, 4);
    assert_eq!(a.plane.net.stats.udp_sent_datagrams, sent);
    for rubbish in [&[0; 5][..], &[0; 10], &[0xff; 30], &[0xff; 100]] {
        a.job_sends(rubbish);
    }
    assert_eq!(a.plane.net.stats.udp_sent_datagrams, sent);
}

/// A member that may seal what it likes.
struct Attacker {
    tunn: Tunn,
    path: Path,
}

impl Attacker {
    /// Becomes a member of the victim's mesh and shakes hands.
    fn join(victim: &mut Side) -> Self {
        let secret = WireGuardSecret::generate();
        let key = SessionKey { mesh: MESH, peer: NodeId([9; 32]) };
        let role = Role { initiator: false, lazy: false };
        let names = SessionNames { key, peer_key: secret.public(), index: INDEX[1], role };
        victim.plane.add_session(Instant::now(), names, Arc::default());
        let victim_key = PublicKey::from(victim.secret.public().0);
        let tunn = Tunn::new(secret.inner().clone(), victim_key, None, None, 77, None);
        let receiver = Sink::new();
        let via = receiver.path();
        let mut attacker = Self { tunn, path: via };
        let mut buffer = [0u8; 256];
        let TunnResult::WriteToNetwork(packet) =
            attacker.tunn.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        victim.plane.on_wireguard(Instant::now(), via, None, packet);
        victim.plane.shake_hands();
        victim.plane.net.flush();
        let response = receiver.receive();
        let TunnResult::WriteToNetwork(keepalive) =
            attacker.tunn.decapsulate(None, &response, &mut buffer)
        else {
            panic!("no keys")
        };
        victim.plane.on_wireguard(Instant::now(), via, None, keepalive);
        attacker
    }

    fn sends(&mut self, victim: &mut Side, inner: &[u8]) {
        let mut buffer = [0u8; 2048];
        let TunnResult::WriteToNetwork(packet) = self.tunn.encapsulate(inner, &mut buffer) else {
            panic!("not sealed")
        };
        victim.plane.on_wireguard(Instant::now(), self.path, None, packet);
        victim.plane.flush_devices();
    }
}

/// Where the victim's answers go.
struct Sink(std::net::UdpSocket);

impl Sink {
    fn new() -> Self {
        Self(std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    fn path(&self) -> Path {
        Path::Direct(self.0.local_addr().unwrap())
    }

    fn channel(&self) -> Path {
        Path::Relayed { relay: self.0.local_addr().unwrap(), channel: 1 }
    }

    fn receive(&self) -> Vec<u8> {
        self.0.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0u8; 2048];
        let len = self.0.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }
}

#[test]
fn a_member_cannot_speak_for_another_or_to_another() {
    let mut victim = side(INDEX[0]);
    let mut attacker = Attacker::join(&mut victim);
    attacker.sends(&mut victim, &packet((v4(1), v4(0)), UDP, 0, 0, b"genuine"));
    assert_eq!(victim.job_receives().len(), 1);

    for (source, destination) in [(v4(2), v4(0)), (v6(2), v6(0)), (v4(0), v4(0)), (v4(1), v4(2))] {
        attacker.sends(&mut victim, &packet((source, destination), UDP, 0, 0, b"spoofed"));
    }
    assert_eq!(victim.plane.net.stats.spoofed_packets, 4);
    assert!(victim.job_receives().is_empty());
}

#[test]
fn probes_go_to_the_core_and_never_to_the_job() {
    let mut victim = side(INDEX[0]);
    let mut attacker = Attacker::join(&mut victim);
    victim.plane.notices.clear();
    let probe = overlay_core::wire::Probe::Ping { transaction: [1; 8], size: 100 }.encode();
    attacker.sends(&mut victim, &probe);
    assert!(victim.job_receives().is_empty());
    assert_eq!(victim.plane.net.stats.tun_received_packets, 0);
    let got = victim.plane.notices.iter().any(
        |notice| matches!(notice, Notice::Probe { bytes, via, .. } if *bytes == probe && *via == attacker.path),
    );
    assert!(got);
}

#[test]
fn packets_for_no_session_and_foreign_handshakes_are_counted() {
    let [mut a, b] = connected();
    let mut unknown = vec![0u8; 64];
    unknown[0] = 4;
    a.plane.on_wireguard(Instant::now(), b.path(), None, &unknown);
    assert_eq!(a.plane.net.stats.unknown_sessions, 1);

    // Made with the right public key of this node, by a stranger to the mesh.
    let to = PublicKey::from(a.secret.public().0);
    let stranger = WireGuardSecret::generate();
    let mut tunn = Tunn::new(stranger.inner().clone(), to, None, None, 5, None);
    let mut buffer = [0u8; 256];
    let TunnResult::WriteToNetwork(initiation) =
        tunn.format_handshake_initiation(&mut buffer, true)
    else {
        panic!("no initiation")
    };
    a.plane.on_wireguard(Instant::now(), b.path(), None, initiation);
    initiation[140] ^= 1;
    a.plane.on_wireguard(Instant::now(), b.path(), None, initiation);
    a.plane.shake_hands();
    assert_eq!(a.plane.net.stats.unknown_sessions, 3);
}

/// Members beside the one that has data, as when a large job begins.
const CROWD: u16 = 80;

#[test]
fn data_goes_on_between_the_handshakes_of_a_large_jobs_start() {
    let [mut a, mut b] = connected();
    let early = Instant::now();
    // All of them want a handshake at once, and this side wants one with as many others.
    let mut buffer = [0u8; 256];
    for index in 0..CROWD {
        let secret = WireGuardSecret::generate();
        let member = |first| NodeId([first, index as u8, 7, 7].repeat(8).try_into().unwrap());
        let meet = |b: &mut Side, peer, index, initiator, peer_key| {
            let (key, role) = (SessionKey { mesh: MESH, peer }, Role { initiator, lazy: false });
            b.plane.add_session(early, SessionNames { key, peer_key, index, role }, Arc::default());
            key
        };
        meet(&mut b, member(1), 100 + index, false, secret.public());
        let key = meet(&mut b, member(2), 300 + index, true, WireGuardSecret::generate().public());
        b.plane.initiate(key, vec![a.path()]);
        let to = PublicKey::from(b.secret.public().0);
        let mut tunn = Tunn::new(secret.inner().clone(), to, None, None, u32::from(index), None);
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        b.plane.on_wireguard(early, a.path(), None, initiation);
    }
    let sent = b.plane.net.stats.udp_sent_datagrams;
    let mut turns = 0;
    while b.plane.has_handshakes() {
        // A packet in each turn is delivered in that turn, whatever waits.
        a.job_sends(&plain_frame(&packet((v4(0), v4(1)), UDP, 0, 0, b"goes on")));
        wait_readable(&b.socket.as_fd());
        let Side { plane, socket, receiver, .. } = &mut b;
        let each = |meta: &RecvMeta, message: &[u8]| {
            for datagram in datagrams(meta, message) {
                let via = Path::Direct(plain(meta.addr));
                plane.on_wireguard(Instant::now(), via, meta.ecn, datagram);
            }
        };
        receiver.receive(socket, each).unwrap();
        plane.flush_devices();
        assert_eq!(payload(&b.job_receives()[0]), b"goes on");
        let before = b.plane.net.stats.udp_sent_datagrams;
        b.plane.shake_hands();
        b.plane.net.flush();
        let shaken = b.plane.net.stats.udp_sent_datagrams - before;
        assert!((1..=2).contains(&shaken), "{shaken} handshakes in one turn");
        turns += 1;
    }
    assert_eq!(b.plane.net.stats.udp_sent_datagrams - sent, 2 * u64::from(CROWD));
    assert_eq!(turns, CROWD);
}

#[test]
fn sessions_whose_keys_are_equally_old_renew_them_one_after_the_other() {
    let [mut a, b] = connected();
    for index in 0..CROWD {
        let peer = NodeId([2, index as u8, 7, 7].repeat(8).try_into().unwrap());
        let (key, index) = (SessionKey { mesh: MESH, peer }, 100 + index);
        let role = Role { initiator: true, lazy: false };
        let peer_key = WireGuardSecret::generate().public();
        let names = SessionNames { key, peer_key, index, role };
        a.plane.add_session(Instant::now(), names, Arc::default());
        a.plane.use_path(peer, b.path(), None);
        a.job_sends(&plain_frame(&packet((v4(0), v4(index)), UDP, 0, 0, b"waits")));
    }
    let (sent, now) = (a.plane.net.stats.udp_sent_datagrams, Instant::now());
    let mut begun = Vec::new();
    a.plane.tick(now);
    loop {
        a.plane.net.flush();
        begun.push(a.plane.net.stats.udp_sent_datagrams - sent - begun.iter().sum::<u64>());
        if !a.plane.has_handshakes() {
            break;
        }
        a.plane.shake_hands();
    }
    assert!(begun.iter().all(|count| *count <= 2), "{begun:?}");
    assert_eq!(begun.iter().sum::<u64>(), u64::from(CROWD));
}

#[test]
fn handshakes_that_nobody_makes_cost_the_others_no_turn() {
    let [mut a, b] = connected();
    let mut junk = [0u8; 148];
    junk[0] = 1;
    for _ in 0..2000 {
        a.plane.on_wireguard(Instant::now(), b.path(), None, &junk);
    }
    assert!(a.plane.net.stats.refused_packets > 0, "the queue is bounded");
    let mut turns = 0;
    while a.plane.has_handshakes() {
        a.plane.shake_hands();
        turns += 1;
    }
    assert!(turns < 20, "{turns}");
}

#[test]
fn an_observer_hears_of_each_change_of_a_path_once() {
    let mut side = side(0);
    let peer = NodeId([1; 32]);
    let key = SessionKey { mesh: MESH, peer };
    let (to, heard) = std::sync::mpsc::channel();
    side.plane.observer = Some(Box::new(move |observed| to.send(observed.clone()).unwrap()));
    let (endpoint, relay) = ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:9".parse().unwrap());
    let state = |path, rtt_us, explain: &str| PairState {
        established: true,
        settled: false,
        path: Some(path),
        rtt_us,
        established_after_ms: None,
        explain: explain.to_owned(),
    };
    let relayed = |rtt_us, explain| state(Path::Relayed { relay, channel: 1 }, rtt_us, explain);

    side.plane.pair_changed(key, relayed(Some(5), "the search goes on (1 probes so far)"));
    side.plane.pair_changed(key, relayed(Some(9), "the search goes on (20 probes so far)"));
    side.plane.pair_changed(key, state(Path::Direct(endpoint), Some(2), ""));
    let report = side.plane.pairs(MESH);
    side.plane.remove_mesh(MESH, report.clone());

    let path = |path, rtt_us, reason: &str| {
        let reason = reason.to_owned();
        Observed::Path { mesh: MESH, peer, member: None, path, rtt_us: Some(rtt_us), reason }
    };
    let answered = "the peer answered a full-size probe at this endpoint";
    assert_eq!(
        heard.try_iter().collect::<Vec<_>>(),
        [
            path(PathReport::Relayed { relay }, 5, "the search goes on (1 probes so far)"),
            path(PathReport::Direct { endpoint }, 2, answered),
            Observed::Pairs { mesh: MESH, pairs: report },
            Observed::Left(MESH),
        ]
    );
}
