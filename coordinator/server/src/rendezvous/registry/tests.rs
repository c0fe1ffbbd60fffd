//! Moments and messages in, exact outputs out.

mod channels;
mod joining;
mod opening;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::control::{PairReport, PathReport, ToCoordinator, ToNode};
use overlay_core::netmap::ObservedMapping;
use overlay_core::{
    Candidate, CandidateKind, MeshId, NodeCandidates, NodeId, Pattern, WireGuardKey,
};
use overlay_relay::{Moment, RelayKeys};

use super::{LaunchMember, Output, Registry, RelaySite, RendezvousEvent};

const MESH: MeshId = MeshId { job: 7, generation: 1 };
const OTHER_MESH: MeshId = MeshId { job: 8, generation: 1 };

/// A registry at a virtual time; its calendar starts at 1,000,000 ms.
struct Bench {
    registry: Registry,
    now: Moment,
}

fn keys() -> RelayKeys {
    RelayKeys { ticket_key: [1; 32], reflector_key: [2; 32] }
}

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

fn key(number: u8) -> WireGuardKey {
    WireGuardKey([number; 32])
}

fn members(numbers: &[u8]) -> Vec<LaunchMember> {
    let member = |number: &u8| LaunchMember { node: node(*number), name: format!("vol-{number}") };
    numbers.iter().map(member).collect()
}

fn candidates(number: u8, sequence: u64, endpoints: &[&str]) -> NodeCandidates {
    let candidate = |endpoint: &&str| Candidate {
        endpoint: endpoint.parse().unwrap(),
        kind: CandidateKind::Host,
    };
    NodeCandidates {
        node: node(number),
        sequence,
        mapping: ObservedMapping::Unknown,
        nat: Default::default(),
        activity: Default::default(),
        candidates: endpoints.iter().map(candidate).collect(),
    }
}

fn pair(peer: u8, established: bool, settled: bool) -> PairReport {
    PairReport {
        peer: node(peer),
        established,
        settled,
        path: PathReport::None,
        rtt_us: None,
        sent_bytes: 0,
        received_bytes: 0,
        established_after_ms: None,
        explain: String::new(),
        activity: Default::default(),
    }
}

fn bench() -> Bench {
    bench_at(1_000_000)
}

fn bench_at(unix_ms: u64) -> Bench {
    let endpoints =
        vec!["192.0.2.200:6444".parse().unwrap(), "[2001:db8::200]:6444".parse().unwrap()];
    let relay = RelaySite { keys: keys(), endpoints, tunnel: None };
    let now = Moment { instant: Instant::now(), unix_ms };
    Bench { registry: Registry::new(now, relay, [3; 32]), now }
}

/// Nodes 1 to `count` connected and greeted, and what that led to taken away.
fn bench_of(count: u8) -> Bench {
    let mut bench = bench();
    for number in 1..=count {
        bench.connect(number);
    }
    bench
}

/// As [`bench_of`], with a network of all of them whose netmap is issued.
fn linking(count: u8) -> Bench {
    linking_by(Pattern::All, count)
}

fn linking_by(pattern: Pattern, count: u8) -> Bench {
    let mut bench = bench_of(count);
    let all: Vec<_> = (1..=count).collect();
    bench.registry.launch(bench.now, MESH, members(&all), pattern).unwrap();
    for number in 1..=count {
        bench.join(number, MESH);
    }
    bench
}

impl Bench {
    fn advance(&mut self, by: Duration) -> Vec<Output> {
        self.now = self.now + by;
        self.registry.handle_wakeup(self.now);
        self.registry.drain()
    }

    fn connect_from(&mut self, number: u8, observed: &str) -> Vec<Output> {
        let observed: SocketAddr = observed.parse().unwrap();
        self.registry.handle_connected(node(number), observed);
        self.say(number, ToCoordinator::Hello { version: 1, software: "test".to_owned() })
    }

    fn connect(&mut self, number: u8) -> Vec<Output> {
        self.connect_from(number, &format!("198.51.100.{number}:1000"))
    }

    fn disconnect(&mut self, number: u8) -> Vec<Output> {
        self.registry.handle_disconnected(node(number));
        self.registry.drain()
    }

    fn say(&mut self, number: u8, message: ToCoordinator) -> Vec<Output> {
        self.registry.handle_message(self.now, node(number), message);
        self.registry.drain()
    }

    fn join_with(&mut self, number: u8, key_number: u8) -> Vec<Output> {
        self.say(
            number,
            ToCoordinator::JoinMesh { mesh: MESH, wireguard_key: key(key_number), host_key: None },
        )
    }

    fn join(&mut self, number: u8, mesh: MeshId) -> Vec<Output> {
        self.say(
            number,
            ToCoordinator::JoinMesh { mesh, wireguard_key: key(number), host_key: None },
        )
    }

    fn report(&mut self, number: u8, pairs: Vec<PairReport>) -> Vec<Output> {
        self.say(number, ToCoordinator::Pairs { mesh: MESH, pairs })
    }
}

/// What one node was sent, without its tickets' seals and so on: the kinds of messages.
fn kinds(outputs: &[Output], to: u8) -> Vec<&'static str> {
    let kind = |message: &ToNode| match message {
        ToNode::Welcome { .. } => "welcome",
        ToNode::Netmap(_) => "netmap",
        ToNode::Candidates(_) => "candidates",
        ToNode::Ticket(_) => "ticket",
        ToNode::Relays { .. } => "relays",
        ToNode::MeshOpen { .. } => "open",
        ToNode::Member { .. } => "member",
        ToNode::MeshClosed { .. } => "closed",
    };
    sent(outputs, to).into_iter().map(kind).collect()
}

fn sent(outputs: &[Output], to: u8) -> Vec<&ToNode> {
    let to_node = |output| match output {
        &Output::Send(addressee, ref message) if addressee == node(to) => Some(message),
        Output::Send(..) | Output::Disconnect(..) | Output::Event(_) => None,
    };
    outputs.iter().filter_map(to_node).collect()
}

fn events(outputs: &[Output]) -> Vec<RendezvousEvent> {
    let event = |output: &Output| match output {
        Output::Event(event) => Some(*event),
        Output::Send(..) | Output::Disconnect(..) => None,
    };
    outputs.iter().filter_map(event).collect()
}

fn closed(mesh: MeshId, reason: &str) -> ToNode {
    ToNode::MeshClosed { mesh, reason: reason.to_owned() }
}
