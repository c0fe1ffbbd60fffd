//! What must hold for any bytes: shared by the fuzzer's targets and by an ordinary test.
#![allow(dead_code, reason = "each target uses one of them")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::control::codec::FrameReader;
use overlay_core::control::relays::{FromRelay, ToRelay};
use overlay_core::control::{ToCoordinator, ToNode};
use overlay_core::ladder::flow::{Arrivals, Counters, Flowed};
use overlay_core::ladder::train::Train;
use overlay_core::ladder::{Effect, Ladder, RETRY, Report, Rung};
use overlay_core::netmap::{Candidate, CandidateKind, NETMAP_VERSION, ObservedMapping};
use overlay_core::wire::relay::{self, Joiner};
use overlay_core::wire::tunnel::{self, Frame, HEADER_LEN, MAX_DATAGRAM};
use overlay_core::wire::{ControlFrame, Demux, Probe, Ticket, parse_key, parse_reflector_token};
use overlay_core::{
    Input, Member, MeshId, Netmap, Node, NodeCandidates, NodeConfig, NodeId, Output, Path, Pattern,
    RelayOffer, RelayTicket, SessionKey, WireGuardKey,
};

/// Every parser of bytes from the network: no panic, and what is understood reads back the same.
pub(crate) fn wire(bytes: &[u8]) {
    let _ = Demux::classify(bytes);
    if let Ok(frame) = ControlFrame::decode(bytes) {
        assert_eq!(ControlFrame::decode(&frame.encode()), Ok(frame));
    }
    if let Ok(probe) = Probe::decode(bytes) {
        assert_eq!(Probe::decode(&probe.encode()), Ok(probe));
    }
    if let Some((channel, packet)) = relay::parse(bytes) {
        assert_eq!(relay::encode(channel, packet), bytes);
    }
    assert!(relay::channel_of(bytes).is_none() || relay::is_frame(bytes));
    tunnel_stream(bytes);
    control_stream::<ToNode>(bytes);
    control_stream::<ToCoordinator>(bytes);
    control_stream::<FromRelay>(bytes);
    control_stream::<ToRelay>(bytes);
    if let Some(part) = relay::parse_part(bytes) {
        let mut joiner = Joiner::default();
        let from = SocketAddr::from(([198, 51, 100, 1], 6444));
        assert_eq!(joiner.take(Instant::now(), from, &part), None);
        assert_eq!(joiner.waiting(), 1);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Ticket::from_hex(text);
        let _ = parse_key(text);
        let _ = parse_reflector_token(text);
        let _ = text.parse::<NodeId>();
        let _ = text.parse::<Pattern>();
        if let Ok(message) = serde_json::from_str::<ToNode>(text) {
            let again = serde_json::to_string(&message).expect("it was read");
            assert_eq!(serde_json::from_str::<ToNode>(&again).expect("it was written"), message);
        }
        let _ = serde_json::from_str::<ToCoordinator>(text);
    }
}

/// Frames in a TLS stream: what is read is written the same, and what is left is less than a frame.
fn tunnel_stream(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        match tunnel::decode(rest) {
            Ok(Some(Frame { target, datagram, len })) => {
                let mut again = Vec::new();
                tunnel::encode(target, datagram, &mut again);
                assert_eq!(again, rest[..len]);
                rest = &rest[len..];
            }
            Ok(None) => {
                assert!(rest.len() < HEADER_LEN + MAX_DATAGRAM, "more than a frame is kept");
                return;
            }
            Err(_) => return,
        }
    }
}

/// Control messages in a stream that arrives in two pieces.
fn control_stream<T: serde::de::DeserializeOwned>(bytes: &[u8]) {
    let mut reader = FrameReader::<T>::new();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut messages = 0;
    for piece in [first, second] {
        reader.extend(piece);
        loop {
            match reader.next_message() {
                Ok(Some(_)) => messages += 1,
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(messages <= bytes.len() / 4);
}

/// The choice of ways under bytes as reports: one way at a time, never one that nobody has made, and an end to
/// every wakeup.
pub(crate) fn ladder(bytes: &[u8]) {
    const ALL: [Rung; 4] = [Rung::Udp, Rung::Quic, Rung::Tls, Rung::Connect];
    let mut now = Instant::now();
    let mut ladder = Ladder::new(now, &ALL, RETRY);
    let mut train = Train::new(now);
    let mut arrivals = Arrivals::default();
    let (mut bytes, mut open) = (Bytes(bytes), BTreeSet::new());
    while let Some((kind, a)) = bytes.next().zip(bytes.next()) {
        let rung = ALL[usize::from(a) % ALL.len()];
        let many = u64::from(a) << (a % 48);
        let effects = match kind % 9 {
            0 | 1 => ladder.handle_report(now, Report::Connected(rung)),
            2 => ladder.handle_report(now, Report::Failed(rung)),
            3 => {
                let loss = u16::from(kind) * 7;
                ladder.handle_report(now, Report::Measured { rung, goodput: many, loss })
            }
            4 => {
                arrivals.take(u32::from(kind), many, usize::from(a));
                assert!(arrivals.expected >= arrivals.received);
                let counters = Counters {
                    received: arrivals.received,
                    expected: arrivals.expected,
                    received_bytes: many,
                    sent: many,
                    sent_bytes: many,
                    sent_lost: u64::from(kind),
                    overflowed: u64::from(kind % 2),
                };
                let took = Duration::from_millis(u64::from(kind) * 10);
                let flowed = counters.since(&Counters::default(), took).unwrap_or_default();
                let Flowed { loss, .. } = flowed;
                assert!(loss <= 1000);
                ladder.handle_report(now, Report::Flowed(rung, flowed))
            }
            5 if a > 128 => ladder.handle_report(now, Report::NetworkChanged),
            5 => ladder.handle_report(now, Report::Silent),
            6 => {
                let _ = train.ask(now, [a; 8]);
                train.on_answer(now, [kind; 8]);
                assert!(train.result(now).is_none_or(|measured| measured.loss <= 1000));
                Vec::new()
            }
            _ => {
                now = ladder.next_wakeup().unwrap_or(now) + Duration::from_millis(a.into());
                ladder.handle_wakeup(now)
            }
        };
        assert!(effects.len() < 32, "{} effects of one report", effects.len());
        for effect in effects {
            match effect {
                Effect::Open(rung) => drop(open.insert(rung)),
                Effect::Close(rung) => drop(open.remove(&rung)),
                Effect::Use(rung) => assert!(open.contains(&rung), "{rung} was not asked for"),
                Effect::Nothing => assert_eq!(ladder.in_use(), None),
                Effect::Compare(_) => {}
            }
        }
        assert!(ladder.in_use().is_none_or(|used| open.contains(&used)));
    }
}

/// The core under bytes as a schedule: whatever comes in whatever order, it keeps its contract.
pub(crate) fn schedule(bytes: &[u8]) {
    let start = Instant::now();
    let mut run = Run {
        node: Node::new(NodeConfig { id: node_id(2), seed: 1 }, start),
        now: start,
        sessions: BTreeSet::new(),
        bytes: Bytes(bytes),
    };
    while run.step().is_some() {}
}

/// Takes numbers from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.next()?).min(self.0.len());
        let (slice, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(slice)
    }
}

struct Run<'a> {
    node: Node,
    now: Instant,
    sessions: BTreeSet<SessionKey>,
    bytes: Bytes<'a>,
}

fn node_id(number: u8) -> NodeId {
    NodeId([number % 5 + 1; 32])
}

fn mesh(number: u8) -> MeshId {
    MeshId { job: u64::from(number % 3), generation: 1 }
}

fn endpoint(number: u8) -> SocketAddr {
    match number % 5 {
        0 => SocketAddr::from(([192, 168, 1, number], 4000)),
        1 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)], 4000)),
        _ => SocketAddr::from(([203, 0, 113, number % 8], 4000 + u16::from(number))),
    }
}

fn path(number: u8) -> Path {
    if number.is_multiple_of(3) {
        Path::Relayed { relay: endpoint(number % 2), channel: u32::from(number % 4) }
    } else {
        Path::Direct(endpoint(number))
    }
}

impl Run<'_> {
    fn step(&mut self) -> Option<()> {
        let kind = self.bytes.next()? % 19;
        let (a, b) = (self.bytes.next()?, self.bytes.next()?);
        let session = SessionKey { mesh: mesh(a), peer: node_id(b) };
        let via = path(a ^ b);
        match kind {
            0 => self.input(Input::HostEndpoints(vec![endpoint(a), endpoint(b)])),
            1 => {
                let (observed, reflector) = (endpoint(a), endpoint(b));
                self.input(Input::Welcome { observed, reflector, reflector_token: [a; 16] });
            }
            2 if a.is_multiple_of(4) => {
                self.input(Input::OtherReflector { at: endpoint(b), token: [a; 16] });
            }
            2 => {
                let offer = |relay: u8| RelayOffer {
                    relay: node_id(relay),
                    endpoint: endpoint(relay % 2),
                    token: "70".repeat(16),
                    tunnel: None,
                };
                self.input(Input::Relays(vec![offer(a), offer(b)]));
            }
            3 => self.input(Input::JoinMesh(mesh(a))),
            4 => self.input(Input::LeaveMesh(mesh(a))),
            5 => self.netmap(a, b),
            6 => {
                let candidates = self.bytes.slice()?.iter().map(|number| Candidate {
                    endpoint: endpoint(*number),
                    kind: CandidateKind::Reflexive,
                });
                self.input(Input::Candidates(NodeCandidates {
                    node: node_id(a),
                    sequence: b.into(),
                    mapping: ObservedMapping::EndpointDependent,
                    nat: Default::default(),
                    activity: Default::default(),
                    candidates: candidates.collect(),
                }));
            }
            7 => {
                let channel = u32::from(b % 4);
                let mac = [0; 16];
                let ticket = Ticket { version: 1, side: 0, channel, expires_unix: a.into(), mac };
                self.input(Input::Ticket(RelayTicket {
                    peer: node_id(a),
                    relay: endpoint(b % 2),
                    channel,
                    expires_unix: a.into(),
                    sealed: ticket.to_hex(),
                }));
            }
            8 => {
                let bytes = self.bytes.slice()?;
                self.input(Input::Control { from: endpoint(a), bytes });
            }
            9 => self.input(Input::Authenticated { session, via, data: a > b }),
            10 => self.input(Input::Sent(session)),
            11 => {
                let bytes = self.bytes.slice()?;
                self.input(Input::Probe { session, via, bytes });
            }
            12 => {
                let bytes = Probe::Ping { transaction: [b; 8], size: 56 }.encode();
                self.input(Input::Probe { session, via, bytes: &bytes });
            }
            13 if b > 200 => self.input(Input::OperatorEndpoints(vec![endpoint(a)])),
            13 => self.input(Input::PortMapped(vec![endpoint(a), endpoint(b)])),
            14 if b > 250 => self.input(Input::BirthdayProbing(a > 9)),
            14 => self.input(Input::MappingLifetime(Duration::from_secs(a.into()))),
            15 if a > 200 => self.input(Input::Tunnelled(b > 128)),
            15 if a > 150 => self.input(Input::RelayWay(endpoint(b % 2))),
            15 => self.input(Input::Resumed),
            17 => self.input(Input::Member { mesh: mesh(a), node: node_id(b), ended: a > b }),
            16 => {
                self.now += Duration::from_millis(u64::from(a) * u64::from(b));
                self.input(Input::Wakeup);
            }
            _ => {
                for _ in 0..a % 32 {
                    let Some(at) = self.node.next_wakeup() else { break };
                    self.now = at;
                    self.input(Input::Wakeup);
                }
            }
        }
        Some(())
    }

    fn netmap(&mut self, a: u8, b: u8) {
        let members = (0..5).filter(|number| b & (1 << number) != 0).map(|number| Member {
            index: number.into(),
            node: node_id(number),
            name: String::new(),
            wireguard_key: WireGuardKey([a % 2; 32]),
            host_key: None,
        });
        self.input(Input::Netmap(Netmap {
            version: NETMAP_VERSION,
            mesh: mesh(a),
            era: u64::from(a / 128),
            epoch: u64::from(b),
            members: members.collect(),
            pattern: (a > 200).then_some(Pattern::Ring),
            signature: None,
        }));
    }

    fn input(&mut self, input: Input<'_>) {
        let outputs: Vec<Output> = self.node.handle_input(self.now, input).collect();
        assert_eq!(self.node.stats().stalled_timers, 0);
        assert!(self.node.next_wakeup().is_none_or(|at| at > self.now), "a timer is still due");
        assert!(outputs.len() < 512, "{} effects of one input", outputs.len());
        for output in outputs {
            match output {
                Output::AddSession { session, .. } => assert!(self.sessions.insert(session)),
                Output::RemoveSession(session) => assert!(self.sessions.remove(&session)),
                Output::Initiate { session, .. } | Output::Probe { session, .. } => {
                    assert!(self.sessions.contains(&session), "a packet to a removed member");
                }
                Output::UsePath { peer, .. } => {
                    assert!(self.sessions.iter().any(|session| session.peer == peer));
                }
                Output::RouteMtu { mtu, .. } => assert!((1280..=1412).contains(&mtu)),
                Output::RelaysMeasured(measured) => assert!(measured.len() <= 16),
                Output::OpenPort { session, number, .. } => {
                    assert!(number < 256 && self.sessions.contains(&session));
                }
                Output::ClosePorts { .. } => {}
                Output::Transmit { .. }
                | Output::Announce(_)
                | Output::RelaySilent(_)
                | Output::RelayWidth { .. }
                | Output::PairChanged(..) => {}
            }
        }
    }
}
