//! Two agents' sockets and a real relay between them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use overlay_core::NodeId;
use overlay_core::wire::{ControlFrame, Ticket, relay};
use overlay_relay::{
    Relay, RelayHandle, RelayKeys, RelayLimits, RelayStats, bind, issue_ticket, reflector_token,
};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

const CHANNEL: u32 = 42;
const NEVER: u64 = 1 << 40;

/// How long a test waits for a packet that must come.
const PATIENCE: Duration = Duration::from_secs(10);

struct Agent {
    socket: UdpSocket,
    relay: SocketAddr,
}

impl Agent {
    fn new(bind: &str, relay: SocketAddr) -> Self {
        let socket = UdpSocket::bind(bind).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, relay }
    }

    fn ask(&self, frame: ControlFrame) -> ControlFrame {
        self.socket.send_to(&frame.encode(), self.relay).unwrap();
        ControlFrame::decode(&self.receive()).unwrap()
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.relay);
        buffer[..len].to_vec()
    }

    fn bind(&self, keys: &RelayKeys, side: u8) {
        self.bind_to(keys, CHANNEL, side);
    }

    fn bind_to(&self, keys: &RelayKeys, channel: u32, side: u8) {
        let ticket = Ticket::from_bytes(&issue_ticket(keys, channel, side, NEVER));
        let nonce = [side; 8];
        let challenge = self.ask(ControlFrame::BindRequest { ticket, nonce });
        let ControlFrame::BindChallenge { cookie, .. } = challenge else {
            panic!("no challenge: {challenge:?}");
        };
        let ack = self.ask(ControlFrame::BindAnswer { ticket, nonce, cookie });
        assert_eq!(ack, ControlFrame::BindAck { nonce, channel, lifetime_s: 120 });
    }
}

fn start(bind: &str) -> (RelayHandle, RelayKeys) {
    let keys = RelayKeys::generate();
    let relay = Relay::spawn(UdpSocket::bind(bind).unwrap(), keys.clone()).unwrap();
    (relay, keys)
}

/// The relay's counters, once they are as `wanted`.
fn stats_when(relay: &RelayHandle, wanted: impl Fn(&RelayStats) -> bool) -> RelayStats {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let stats = relay.stats();
        if wanted(&stats) {
            return stats;
        }
        assert!(std::time::Instant::now() < deadline, "{stats:?}");
        std::thread::yield_now();
    }
}

#[test]
fn packets_cross_the_relay_both_ways() {
    let (relay, keys) = start("127.0.0.1:0");
    let [alice, bob] = [0, 1].map(|_| Agent::new("127.0.0.1:0", relay.local_addr()));
    alice.bind(&keys, 0);
    bob.bind(&keys, 1);
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let frame = relay::encode(CHANNEL, b"sealed");
        from.socket.send_to(&frame, relay.local_addr()).unwrap();
        assert_eq!(to.receive(), frame);
    }
}

#[test]
fn a_dual_stack_relay_joins_ipv4_and_ipv6() {
    let (relay, keys) = start("[::]:0");
    let port = relay.local_addr().port();
    let v4 = Agent::new("127.0.0.1:0", SocketAddr::new([127, 0, 0, 1].into(), port));
    let v6 = Agent::new("[::1]:0", format!("[::1]:{port}").parse().unwrap());

    let token = reflector_token(&keys, NodeId([1; 32]));
    let observed = v4.socket.local_addr().unwrap();
    let reflected = v4.ask(ControlFrame::ReflectRequest { token, nonce: [1; 8] });
    assert_eq!(reflected, ControlFrame::ReflectResponse { nonce: [1; 8], observed });

    v4.bind(&keys, 0);
    v6.bind(&keys, 1);
    let frame = relay::encode(CHANNEL, b"sealed");
    v4.socket.send_to(&frame, v4.relay).unwrap();
    assert_eq!(v6.receive(), frame);
    v6.socket.send_to(&frame, v6.relay).unwrap();
    assert_eq!(v4.receive(), frame);
}

#[test]
fn the_second_socket_answers_from_another_port_also_at_another_port() {
    for bind in ["127.0.0.1:0", "[::]:0"] {
        let (relay, keys) = start(bind);
        let port = relay.local_addr().port();
        let asking = Agent::new("127.0.0.1:0", SocketAddr::new([127, 0, 0, 1].into(), port));
        let listening = UdpSocket::bind("127.0.0.1:0").unwrap();
        listening.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = reflector_token(&keys, NodeId([1; 32]));
        let to = listening.local_addr().unwrap().port();
        let frame = |port, from_other| {
            ControlFrame::ReflectElsewhere { token, nonce: [2; 8], port, from_other }.encode()
        };
        for (port, from_other) in [(0, true), (to, false), (to, true)] {
            asking.socket.send_to(&frame(port, from_other), asking.relay).unwrap();
            let receiver = if port == 0 { &asking.socket } else { &listening };
            let mut buffer = [0; 64];
            let (len, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(from != asking.relay, from_other, "{bind} {port}");
            let observed = asking.socket.local_addr().unwrap();
            let expected = ControlFrame::ReflectResponse { nonce: [2; 8], observed };
            assert_eq!(ControlFrame::decode(&buffer[..len]), Ok(expected));
        }
    }
}

#[test]
fn a_burst_goes_in_and_out_as_one() {
    let (relay, keys) = start("127.0.0.1:0");
    let [alice, bob] = [0, 1].map(|_| Agent::new("127.0.0.1:0", relay.local_addr()));
    alice.bind(&keys, 0);
    bob.bind(&keys, 1);
    // The counters are shown after the packets have gone: a challenge and an acknowledgement to each.
    let before = stats_when(&relay, |stats| stats.io.sends == 4);

    let frames: Vec<_> = (0..20u8).map(|n| relay::encode(CHANNEL, &[n; 1200])).collect();
    let tail = relay::encode(CHANNEL, &[99; 100]);
    let burst = [frames.concat(), tail.clone()].concat();
    let sender = UdpSocketState::new((&alice.socket).into()).unwrap();
    let offload = sender.max_gso_segments() > 1;
    for contents in if offload { vec![&burst[..]] } else { burst.chunks(1208).collect() } {
        let transmit = Transmit {
            destination: relay.local_addr(),
            ecn: None,
            contents,
            segment_size: Some(1208),
            src_ip: None,
        };
        sender.try_send((&alice.socket).into(), &transmit).unwrap();
    }

    for frame in frames.iter().chain([&tail]) {
        assert_eq!(&bob.receive(), frame);
    }
    let arrived = before.forwarded_packets + 21;
    let after = stats_when(&relay, |stats| stats.io.sends > before.io.sends);
    assert_eq!(after.forwarded_packets, arrived);
    if offload {
        assert_eq!(after.io.sends - before.io.sends, 1, "one call for the whole burst");
    }
}

#[test]
fn several_sockets_are_one_relay() {
    const PAIRS: u32 = 12;
    let keys = RelayKeys::generate();
    let sockets = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
    let relay = Relay::spawn_with(sockets, keys.clone(), RelayLimits::default()).unwrap();
    let agents = || Agent::new("127.0.0.1:0", relay.local_addr());
    let pairs: Vec<_> = (0..PAIRS).map(|channel| (channel, agents(), agents())).collect();
    for (channel, alice, bob) in &pairs {
        alice.bind_to(&keys, *channel, 0);
        bob.bind_to(&keys, *channel, 1);
    }
    for number in 0..20u8 {
        for (channel, alice, _) in &pairs {
            alice.socket.send_to(&relay::encode(*channel, &[number]), alice.relay).unwrap();
        }
    }
    for (channel, _, bob) in &pairs {
        for number in 0..20u8 {
            assert_eq!(bob.receive(), relay::encode(*channel, &[number]), "in order");
        }
    }
    let stats = relay.stats();
    assert_eq!((stats.pairs, stats.forwarded_packets), (PAIRS.into(), u64::from(PAIRS) * 20));
}

#[test]
fn a_dropped_handle_frees_the_port() {
    let (relay, _) = start("127.0.0.1:0");
    let address = relay.local_addr();
    drop(relay);
    let socket = UdpSocket::bind(address).unwrap();
    // And nobody answers there any more: the socket is ours alone.
    let udp = UdpSocketState::new((&socket).into()).unwrap();
    let mut buffer = [0; 16];
    let empty =
        udp.recv((&socket).into(), &mut [IoSliceMut::new(&mut buffer)], &mut [RecvMeta::default()]);
    assert_eq!(empty.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
