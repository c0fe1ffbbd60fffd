//! Several relays for one pair: one node against scripted relays and a peer that answers pings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::netmap::NETMAP_VERSION;
use overlay_core::wire::probe::MESH_MTU;
use overlay_core::wire::{ControlFrame, Probe, Ticket};
use overlay_core::{
    Input, Member, MeshId, Netmap, Node, NodeConfig, NodeId, Output, Path, RelayTicket, SessionKey,
    WireGuardKey,
};

const MESH: MeshId = MeshId { job: 1, generation: 1 };
const OWN: NodeId = NodeId([1; 32]);
const PEER: NodeId = NodeId([2; 32]);
const SESSION: SessionKey = SessionKey { mesh: MESH, peer: PEER };

enum Arrival {
    Control(SocketAddr, Vec<u8>),
    Pong(Path, [u8; 8]),
}

struct Script {
    node: Node,
    start: Instant,
    now: Duration,
    /// The round trip time through each relay.
    rtt: BTreeMap<SocketAddr, Duration>,
    dead: BTreeSet<SocketAddr>,
    queue: BTreeMap<(Duration, u64), Arrival>,
    counter: u64,
    primary: Option<Path>,
    also: Option<Path>,
    changes: usize,
    /// Longer packets do not pass.
    widest: usize,
    full_pings: usize,
    /// Where packets go whole.
    whole: BTreeSet<Path>,
    /// The relays that the way to was doubted, and when.
    silent: Vec<(Duration, SocketAddr)>,
}

fn relay(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 6444))
}

fn via(number: u8) -> Path {
    Path::Relayed { relay: relay(number), channel: number.into() }
}

impl Script {
    /// A pair with relays of those round trip times in milliseconds, up and measured.
    fn new(rtts: &[u64]) -> Self {
        let start = Instant::now();
        let mut script = Self {
            node: Node::new(NodeConfig { id: OWN, seed: 1 }, start),
            start,
            now: Duration::ZERO,
            rtt: BTreeMap::new(),
            dead: BTreeSet::new(),
            queue: BTreeMap::new(),
            counter: 0,
            primary: None,
            also: None,
            changes: 0,
            widest: MESH_MTU,
            full_pings: 0,
            whole: BTreeSet::new(),
            silent: Vec::new(),
        };
        script.input(Input::JoinMesh(MESH));
        for (number, ms) in (1u8..).zip(rtts) {
            script.rtt.insert(relay(number), Duration::from_millis(*ms));
            script.ticket(number);
        }
        let member = |index: u16, node| {
            let wireguard_key = WireGuardKey([index as u8; 32]);
            Member { index, node, name: format!("vol-{index}"), wireguard_key, host_key: None }
        };
        script.input(Input::Netmap(Netmap {
            version: NETMAP_VERSION,
            mesh: MESH,
            era: 0,
            epoch: 1,
            members: vec![member(0, OWN), member(1, PEER)],
            pattern: None,
            signature: None,
        }));
        script.run(1000);
        script.input(Input::Authenticated { session: SESSION, via: via(1), data: false });
        script
    }

    fn ticket(&mut self, number: u8) {
        let channel = number.into();
        let ticket = Ticket { version: 1, side: 0, channel, expires_unix: 9, mac: [0; 16] };
        let (peer, relay, sealed) = (PEER, relay(number), ticket.to_hex());
        self.input(Input::Ticket(RelayTicket { peer, relay, channel, expires_unix: 9, sealed }));
    }

    fn input(&mut self, input: Input<'_>) {
        let outputs: Vec<Output> = self.node.handle_input(self.start + self.now, input).collect();
        for output in outputs {
            match output {
                Output::Transmit { to, bytes } => self.answer(to, &bytes),
                Output::Probe { via: path @ Path::Relayed { relay, .. }, bytes, .. } => {
                    self.full_pings += usize::from(bytes.len() == MESH_MTU);
                    if let Ok(Probe::Ping { transaction, .. }) = Probe::decode(&bytes)
                        && bytes.len() <= self.widest
                    {
                        self.arrive(relay, Arrival::Pong(path, transaction));
                    }
                }
                Output::UsePath { primary, also, .. } => {
                    self.changes += usize::from(self.primary != Some(primary));
                    (self.primary, self.also) = (Some(primary), also);
                }
                Output::RelayWidth { path, whole: true } => {
                    assert!(self.whole.insert(path), "on change only");
                }
                Output::RelayWidth { path, whole: false } => {
                    assert!(self.whole.remove(&path), "on change only");
                }
                Output::RelaySilent(relay) => self.silent.push((self.now, relay)),
                Output::Probe { .. }
                | Output::AddSession { .. }
                | Output::RemoveSession(_)
                | Output::Initiate { .. }
                | Output::RouteMtu { .. }
                | Output::Announce(_)
                | Output::OpenPort { .. }
                | Output::ClosePorts { .. }
                | Output::RelaysMeasured(_)
                | Output::PairChanged(..) => {}
            }
        }
    }

    fn answer(&mut self, to: SocketAddr, bytes: &[u8]) {
        let observed = "203.0.113.1:4000".parse().expect("an endpoint");
        let answer = match ControlFrame::decode(bytes) {
            Ok(ControlFrame::BindRequest { nonce, .. }) => {
                ControlFrame::BindChallenge { nonce, cookie: [0; 16] }
            }
            Ok(ControlFrame::BindAnswer { nonce, ticket, .. }) => {
                ControlFrame::BindAck { nonce, channel: ticket.channel, lifetime_s: 120 }
            }
            Ok(ControlFrame::KeepAlive { nonce }) => {
                ControlFrame::KeepAliveAck { nonce, observed, channels: 1, lifetime_s: 120 }
            }
            other => panic!("{other:?}"),
        };
        self.arrive(to, Arrival::Control(to, answer.encode()));
    }

    fn arrive(&mut self, relay: SocketAddr, arrival: Arrival) {
        if !self.dead.contains(&relay) {
            self.counter += 1;
            self.queue.insert((self.now + self.rtt[&relay], self.counter), arrival);
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            let wakeup = self.node.next_wakeup().map(|at| at.saturating_duration_since(self.start));
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = [wakeup, arrival].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if arrival == Some(at) {
                match self.queue.pop_first().expect("it is there").1 {
                    Arrival::Control(from, bytes) => {
                        self.input(Input::Control { from, bytes: &bytes });
                    }
                    Arrival::Pong(via, transaction) => {
                        let bytes = Probe::Pong { transaction, observed: None }.encode();
                        self.input(Input::Probe { session: SESSION, via, bytes: &bytes });
                    }
                }
            } else {
                self.input(Input::Wakeup);
            }
        }
        self.now = end;
    }

    /// The job sends every 100 ms; when data first took a way that works, in milliseconds.
    fn talk(&mut self, ms: u64) -> Option<u64> {
        for at in (0..ms).step_by(100) {
            self.input(Input::Sent(SESSION));
            let works = |path: Option<Path>| matches!(path, Some(Path::Relayed { relay, .. }) if !self.dead.contains(&relay));
            if works(self.primary) || works(self.also) {
                return Some(at);
            }
            self.run(100);
        }
        None
    }
}

#[test]
fn fastest_relay_is_found_and_two_that_are_alike_do_not_take_turns() {
    let mut script = Script::new(&[80, 20, 24]);
    for _ in 0..600 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    assert_eq!(script.primary, Some(via(2)));
    assert_eq!(script.changes, 2, "the first one, then the fastest");
}

#[test]
fn data_takes_another_relay_within_three_seconds_after_one_died() {
    let mut script = Script::new(&[20, 60]);
    for _ in 0..50 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    assert_eq!(script.primary, Some(via(1)));
    script.dead.insert(relay(1));
    let took = script.talk(10_000).expect("another relay is there");
    assert!(took <= 3000, "{took} ms");
    for _ in 0..5 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    let path = script.node.snapshot().pairs[0].1.path;
    assert_eq!(path, Some(via(2)), "the dead one is not reported any more");
    assert_eq!((script.primary, script.also), (Some(via(2)), None), "and costs no copies");
}

#[test]
fn many_tickets_make_few_channels() {
    let mut script = Script::new(&[20; 4]);
    for number in 5..=60 {
        script.rtt.insert(relay(number), Duration::from_millis(20));
        script.ticket(number);
        script.run(200);
    }
    assert!(script.node.snapshot().relays.len() <= 16);
    script.run(120_000);
    assert!(script.node.snapshot().relays.len() <= 4, "{:?}", script.node.snapshot().relays);
}

#[test]
fn relay_that_is_silent_for_a_moment_is_not_left_for_one_that_is_silent_too() {
    let mut script = Script::new(&[20, 60]);
    for _ in 0..50 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    let changes = script.changes;
    // The node's own line is down.
    script.dead.extend([relay(1), relay(2)]);
    for _ in 0..40 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    script.dead.clear();
    for _ in 0..20 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    assert!(script.also.is_none(), "the doubt is over");
    assert!(script.changes <= changes + 1, "{} changes", script.changes - changes);
}

#[test]
fn packets_go_whole_once_a_ping_of_full_size_was_answered() {
    let mut script = Script::new(&[20]);
    assert!(script.whole.is_empty(), "nothing is known yet");
    script.input(Input::Sent(SESSION));
    script.run(1000);
    assert_eq!(script.whole, BTreeSet::from([via(1)]));
    for _ in 0..600 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    assert_eq!(script.full_pings, 1, "it is known then");

    // Another way to the relay: it may be narrower.
    script.widest = 1300;
    script.input(Input::RelayWay(relay(1)));
    assert!(script.whole.is_empty());
    for _ in 0..600 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    // After 2, 4, 8 and 16 s more: the other end may be changing its way, too.
    assert_eq!(
        (script.whole.len(), script.full_pings),
        (0, 1 + 5 * 3),
        "three in a row, five times"
    );
    script.widest = MESH_MTU;
    for _ in 0..6000 {
        script.input(Input::Sent(SESSION));
        script.run(100);
    }
    assert_eq!(script.whole, BTreeSet::from([via(1)]), "and again later");
}

#[test]
fn idle_pair_asks_for_no_width() {
    let mut script = Script::new(&[20]);
    script.run(60_000);
    let asked = script.full_pings;
    script.input(Input::RelayWay(relay(1)));
    script.run(3_600_000);
    assert_eq!(script.full_pings, asked);
}

/// The peer's data takes another way and waits for this node there.
#[test]
fn node_that_only_listens_doubts_its_way_to_a_silent_relay() {
    let mut script = Script::new(&[20]);
    script.run(600_000);
    assert!(script.silent.is_empty(), "{:?}", script.silent);
    script.dead.insert(relay(1));
    let died = script.now;
    script.run(60_000);
    let [(doubted, silent)] = script.silent[..] else { panic!("{:?}", script.silent) };
    assert_eq!(silent, relay(1));
    // A keepalive's time, and two more requests.
    assert!(doubted - died <= Duration::from_millis(21_500), "{:?}", doubted - died);
}
