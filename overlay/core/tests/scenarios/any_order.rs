//! Inputs in any order: what holds at all times holds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::netmap::{Candidate, CandidateKind, NETMAP_VERSION, ObservedMapping};
use overlay_core::wire::{ControlFrame, Probe, Ticket};
use overlay_core::{
    Input, Member, MeshId, Netmap, Node, NodeCandidates, NodeConfig, NodeId, Output, Path,
    RelayTicket, SessionKey, WireGuardKey,
};
use proptest::prelude::*;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    Hosts(u8),
    Welcome(u8),
    Join(u8),
    Leave(u8),
    /// Bit N of the mask: node N is a member; the node itself nearly always is.
    Netmap {
        mesh: u8,
        epoch: u64,
        mask: u8,
        key: u8,
    },
    Candidates {
        peer: u8,
        sequence: u64,
        endpoints: Vec<u8>,
    },
    Ticket {
        peer: u8,
        relay: u8,
        channel: u8,
    },
    Authenticated {
        mesh: u8,
        peer: u8,
        via: u8,
    },
    Sent {
        mesh: u8,
        peer: u8,
    },
    Ping {
        mesh: u8,
        peer: u8,
        via: u8,
    },
    /// Answers that many of the last probes and control frames that the node sent.
    Answer(u8),
    Sleep(u16),
    Wakeups(u8),
}

fn event() -> impl Strategy<Value = Event> {
    use Event as E;
    prop_oneof![
        1 => any::<u8>().prop_map(E::Hosts),
        1 => any::<u8>().prop_map(E::Welcome),
        1 => (0u8..3).prop_map(E::Join),
        1 => (0u8..3).prop_map(E::Leave),
        2 => (0u8..3, 0u64..6, any::<u8>(), 0u8..2)
            .prop_map(|(mesh, epoch, mask, key)| E::Netmap { mesh, epoch, mask, key }),
        1 => (0u8..5, 0u64..4, prop::collection::vec(any::<u8>(), 0..6))
            .prop_map(|(peer, sequence, endpoints)| E::Candidates { peer, sequence, endpoints }),
        1 => (0u8..5, 0u8..2, 0u8..3)
            .prop_map(|(peer, relay, channel)| E::Ticket { peer, relay, channel }),
        2 => (0u8..3, 0u8..5, any::<u8>())
            .prop_map(|(mesh, peer, via)| E::Authenticated { mesh, peer, via }),
        1 => (0u8..3, 0u8..5).prop_map(|(mesh, peer)| E::Sent { mesh, peer }),
        1 => (0u8..3, 0u8..5, any::<u8>())
            .prop_map(|(mesh, peer, via)| E::Ping { mesh, peer, via }),
        8 => (1u8..16).prop_map(E::Answer),
        1 => any::<u16>().prop_map(E::Sleep),
        8 => (1u8..16).prop_map(E::Wakeups),
    ]
}

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, number], 4000))
}

fn path(number: u8) -> Path {
    if number.is_multiple_of(4) {
        Path::Relayed { relay: endpoint(number % 2), channel: u32::from(number % 3) }
    } else {
        Path::Direct(endpoint(number))
    }
}

fn node_id(number: u8) -> NodeId {
    NodeId([number + 1; 32])
}

fn mesh_id(number: u8) -> MeshId {
    MeshId { job: number.into(), generation: 1 }
}

fn session(mesh: u8, peer: u8) -> SessionKey {
    SessionKey { mesh: mesh_id(mesh), peer: node_id(peer) }
}

enum Sent {
    Probe(SessionKey, Path, Vec<u8>),
    Control(SocketAddr, Vec<u8>),
}

struct Subject {
    node: Node,
    now: Instant,
    sent: Vec<Sent>,
    sessions: BTreeSet<SessionKey>,
}

impl Subject {
    fn input(&mut self, input: Input<'_>) {
        let outputs: Vec<Output> = self.node.handle_input(self.now, input).collect();
        assert_eq!(self.node.stats().stalled_timers, 0);
        assert!(self.node.next_wakeup().is_none_or(|at| at > self.now), "a timer is still due");
        for output in outputs {
            match output {
                Output::Transmit { to, bytes } => self.sent.push(Sent::Control(to, bytes)),
                Output::AddSession { session, .. } => assert!(self.sessions.insert(session)),
                Output::RemoveSession(session) => assert!(self.sessions.remove(&session)),
                Output::Initiate { session, via } => {
                    assert!(self.sessions.contains(&session) && !via.is_empty());
                    assert!(node_id(2) < session.peer, "the lower id initiates");
                }
                Output::Probe { session, via, bytes } => {
                    assert!(self.sessions.contains(&session));
                    self.sent.push(Sent::Probe(session, via, bytes));
                }
                Output::UsePath { peer, primary, also } => {
                    assert!(self.sessions.iter().any(|session| session.peer == peer));
                    assert_ne!(Some(primary), also);
                }
                Output::RouteMtu { mtu, .. } => assert!((1280..=1412).contains(&mtu)),
                Output::RelaysMeasured(measured) => assert!(measured.len() <= 16),
                Output::RelaySilent(_) | Output::ClosePorts { .. } => {}
                Output::OpenPort { session, number, .. } => {
                    assert!(number < 256 && self.sessions.contains(&session));
                }
                Output::RelayWidth { path, .. } => {
                    assert!(matches!(path, Path::Relayed { .. }));
                }
                Output::Announce(candidates) => assert!(candidates.candidates.len() <= 8),
                Output::PairChanged(session, state) => {
                    assert!(self.sessions.contains(&session));
                    assert_eq!(state.established, state.path.is_some());
                    assert!(state.established || !state.settled);
                    let is_direct = matches!(state.path, Some(Path::Direct(_)));
                    // A direct path is explained while it does not answer only.
                    let doubted = state.explain.starts_with("the direct path does not answer");
                    assert!(is_direct == (doubted || state.explain.is_empty()), "{state:?}");
                }
            }
        }
    }

    fn answer(&mut self, number: u8) {
        match self.sent.pop() {
            Some(Sent::Probe(session, via, bytes)) => {
                if let Ok(Probe::Ping { transaction, .. }) = Probe::decode(&bytes) {
                    let bytes = Probe::Pong { transaction, observed: None }.encode();
                    self.input(Input::Probe { session, via, bytes: &bytes });
                }
            }
            Some(Sent::Control(from, bytes)) => {
                let answer = match ControlFrame::decode(&bytes) {
                    Ok(ControlFrame::ReflectRequest { nonce, .. }) => {
                        ControlFrame::ReflectResponse { nonce, observed: endpoint(number) }
                    }
                    Ok(ControlFrame::BindRequest { nonce, .. }) => {
                        ControlFrame::BindChallenge { nonce, cookie: [0; 16] }
                    }
                    Ok(ControlFrame::BindAnswer { nonce, ticket, .. }) => {
                        ControlFrame::BindAck { nonce, channel: ticket.channel, lifetime_s: 120 }
                    }
                    Ok(ControlFrame::KeepAlive { nonce }) => ControlFrame::KeepAliveAck {
                        nonce,
                        observed: endpoint(number),
                        channels: number.into(),
                        lifetime_s: 120,
                    },
                    Ok(ControlFrame::ReflectElsewhere { nonce, .. }) => {
                        ControlFrame::ReflectResponse { nonce, observed: endpoint(number) }
                    }
                    Ok(
                        ControlFrame::KeepAliveAck { .. }
                        | ControlFrame::ReflectResponse { .. }
                        | ControlFrame::BindChallenge { .. }
                        | ControlFrame::BindAck { .. },
                    )
                    | Err(_) => panic!("a node sends questions only"),
                };
                self.input(Input::Control { from, bytes: &answer.encode() });
            }
            None => {}
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Hosts(number) => {
                self.input(Input::HostEndpoints(vec![endpoint(number), endpoint(number / 2)]));
            }
            Event::Welcome(number) => {
                let (observed, reflector) = (endpoint(number), endpoint(1));
                self.input(Input::Welcome { observed, reflector, reflector_token: [1; 16] });
            }
            Event::Join(mesh) => self.input(Input::JoinMesh(mesh_id(mesh))),
            Event::Leave(mesh) => self.input(Input::LeaveMesh(mesh_id(mesh))),
            Event::Netmap { mesh, epoch, mask, key } => {
                let is_member =
                    |number: &u8| mask & (1 << number) != 0 || (*number == 2 && mask & 0xe0 != 0);
                let members = (0..5)
                    .filter(is_member)
                    .map(|number| Member {
                        index: number.into(),
                        node: node_id(number),
                        name: String::new(),
                        wireguard_key: WireGuardKey([key; 32]),
                        host_key: None,
                    })
                    .collect();
                let (version, mesh) = (NETMAP_VERSION, mesh_id(mesh));
                self.input(Input::Netmap(Netmap {
                    version,
                    mesh,
                    epoch,
                    members,
                    era: 0,
                    pattern: None,
                    signature: None,
                }));
            }
            Event::Candidates { peer, sequence, endpoints } => {
                let kind = CandidateKind::Host;
                let candidates =
                    endpoints.iter().map(|n| Candidate { endpoint: endpoint(*n), kind }).collect();
                let mapping = ObservedMapping::Unknown;
                let node = node_id(peer);
                self.input(Input::Candidates(NodeCandidates {
                    node,
                    sequence,
                    mapping,
                    nat: Default::default(),
                    activity: Default::default(),
                    candidates,
                }));
            }
            Event::Ticket { peer, relay, channel } => {
                let channel = channel.into();
                let ticket = Ticket { version: 1, side: 0, channel, expires_unix: 0, mac: [0; 16] };
                self.input(Input::Ticket(RelayTicket {
                    peer: node_id(peer),
                    relay: endpoint(relay),
                    channel,
                    expires_unix: 0,
                    sealed: ticket.to_hex(),
                }));
            }
            Event::Authenticated { mesh, peer, via } => {
                let (session, via) = (session(mesh, peer), path(via));
                self.input(Input::Authenticated { session, via, data: true });
            }
            Event::Sent { mesh, peer } => self.input(Input::Sent(session(mesh, peer))),
            Event::Ping { mesh, peer, via } => {
                let (session, via) = (session(mesh, peer), path(via));
                let bytes = Probe::Ping { transaction: [1; 8], size: 56 }.encode();
                self.input(Input::Probe { session, via, bytes: &bytes });
            }
            Event::Answer(count) => (0..count).for_each(|number| self.answer(number)),
            Event::Sleep(ms) => {
                self.now += Duration::from_millis(ms.into());
                self.input(Input::Wakeup);
            }
            Event::Wakeups(count) => {
                for _ in 0..count {
                    let Some(at) = self.node.next_wakeup() else { break };
                    self.now = at;
                    self.input(Input::Wakeup);
                }
            }
        }
        let known: BTreeSet<_> =
            self.node.snapshot().pairs.into_iter().map(|(session, _)| session).collect();
        assert_eq!(known, self.sessions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn invariants_hold_whatever_happens(events in prop::collection::vec(event(), 1..200)) {
        let now = Instant::now();
        // In the middle of the five: it initiates towards two peers and answers two.
        let node = Node::new(NodeConfig { id: node_id(2), seed: 1 }, now);
        let mut subject = Subject { node, now, sent: Vec::new(), sessions: BTreeSet::new() };
        for mesh in 0..3 {
            subject.happen(Event::Join(mesh));
        }
        for event in events {
            subject.happen(event);
        }
    }
}
