//! Two planes over loopback, without a core: the test says what the core would.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use overlay_core::PairState;
use overlay_core::wire::{Probe, relay};
use quinn_udp::{EcnCodepoint, RecvMeta};
use std::os::fd::AsFd;
use tokio::sync::mpsc;

use super::sessions::TICK;
use super::*;
use crate::WireGuardSecret;
use crate::offload::ecn;
use crate::offload::samples::{cut, mend, packet, pattern, payload, plain_frame, superpacket};
use crate::socket::{Socket, plain};
use crate::worker::receive::{Receiver, datagrams};

mod handshakes;
mod limit;
mod members;
mod timers;

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
    let net = Net::new(Arc::clone(&socket), Arc::default());
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

/// Where datagrams go that the test looks at.
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
        activity: Default::default(),
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
    a.plane.tick(Instant::now() + TICK);
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
fn an_owners_ping_waits_for_keys_and_has_them_made() {
    let (mut a, mut b) = (side(INDEX[0]), side(INDEX[1]));
    a.meet(&b);
    b.meet(&a);
    a.plane.use_path(b.node, b.path(), None);
    let (key, ping) = (a.key_of(&b), Probe::Ping { transaction: [5; 8], size: 56 }.encode());
    assert!(a.plane.lacks_keys(key));
    a.plane.ask(Instant::now(), key, b.path(), &ping);
    let due = a.plane.next_tick().expect("a handshake");
    a.plane.tick(due);
    a.plane.net.flush();
    b.receive_until(|plane| plane.net.stats.udp_sent_datagrams == 1);
    a.receive_until(saw_authenticated);
    let asked = |plane: &mut Plane| {
        let is_asked =
            |notice: &Notice| matches!(notice, Notice::Probe { bytes, .. } if *bytes == ping);
        plane.notices.iter().any(is_asked)
    };
    b.receive_until(asked);
    assert!(!a.plane.lacks_keys(key));
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
    let probe = Probe::Ping { transaction: [1; 8], size: 100 };
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
