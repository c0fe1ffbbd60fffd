//! The world of a scenario: nodes with their drivers, the coordinator, the relay, the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netsim_sim::{Delivery, HostId, Link, NatProfile, Network, PUBLIC, WakeupGuard};
use overlay_core::netmap::NETMAP_VERSION;
use overlay_core::wire::{Probe, Ticket};
use overlay_core::{
    Input, Member, MeshId, Netmap, Node, NodeCandidates, NodeConfig, NodeId, Output, PairState,
    Path, RelayTicket, SessionKey, WireGuardKey,
};

use crate::relay::{TOKEN, TestRelay};
use crate::wireguard::{Inner, Opened, Wg, WgPacket};

pub(crate) const PORT: u16 = 41641;
const CONTROL_PORT: u16 = 6443;
const RELAY_PORT: u16 = 6444;

/// One way between a node and the coordinator's process, over a stream: reliable.
const CONTROL_DELAY: Duration = Duration::from_millis(20);

/// How rarely the driver reports what it has opened or sent.
const REPORT_GAP: Duration = Duration::from_millis(100);

pub(crate) const LINK: Link = Link { delay: Duration::from_millis(5), loss: 0.0 };

#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// The first packet of the control connection.
    Hello,
    Control(Vec<u8>),
    Direct(WgPacket),
    Relayed(u32, WgPacket),
}

enum Order {
    Welcome { observed: SocketAddr },
    Candidates(NodeCandidates),
    Ticket(RelayTicket),
    Netmap(Netmap),
}

pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) id: NodeId,
    pub(crate) host: HostId,
    pub(crate) pairs: BTreeMap<SessionKey, PairState>,
    /// Every change of a pair, with its time.
    pub(crate) history: Vec<(Duration, SessionKey, PairState)>,
    pub(crate) received: BTreeMap<SessionKey, BTreeSet<u64>>,
    pub(crate) initiated: BTreeMap<SessionKey, usize>,
    pub(crate) removed: Vec<SessionKey>,
    sessions: BTreeMap<SessionKey, Wg>,
    paths: BTreeMap<NodeId, (Path, Option<Path>)>,
    reported: BTreeMap<(SessionKey, Option<Path>), Duration>,
    candidates: Option<NodeCandidates>,
    guard: WakeupGuard,
}

pub(crate) struct World {
    pub(crate) net: Network<Packet>,
    pub(crate) nodes: Vec<TestNode>,
    pub(crate) relay: TestRelay,
    pub(crate) server: HostId,
    /// Inner packets above this size do not pass direct paths.
    pub(crate) direct_mtu: usize,
    start: Instant,
    orders: BTreeMap<(Duration, u64), (usize, Order)>,
    meshes: BTreeMap<MeshId, Vec<usize>>,
    counter: u64,
    seed: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut net = Network::new(seed);
        let server = net.add_host(PUBLIC, LINK);
        Self {
            net,
            nodes: Vec::new(),
            relay: TestRelay::default(),
            server,
            direct_mtu: usize::MAX,
            start: Instant::now(),
            orders: BTreeMap::new(),
            meshes: BTreeMap::new(),
            counter: 0,
            seed,
        }
    }

    /// Two or more nodes behind those chains of NATs, welcomed and in one mesh.
    pub(crate) fn with_mesh(seed: u64, chains: &[&[NatProfile]], link: Link) -> (Self, MeshId) {
        let mut world = Self::new(seed);
        for chain in chains {
            world.add_node(chain, link);
        }
        world.run_for(Duration::from_secs(2));
        let mesh = MeshId { job: 1, generation: 1 };
        world.join(mesh);
        (world, mesh)
    }

    pub(crate) fn add_node(&mut self, chain: &[NatProfile], link: Link) -> usize {
        let host = self.net.add_host_behind(chain, link);
        self.add_node_at(host)
    }

    pub(crate) fn add_node_at(&mut self, host: HostId) -> usize {
        let index = self.nodes.len();
        // Ids in no relation to the order of making.
        let id = NodeId([(index as u8).wrapping_mul(151).wrapping_add(7); 32]);
        let seed = self.seed.wrapping_mul(1000).wrapping_add(index as u64);
        let node = Node::new(NodeConfig { id, seed }, self.start + self.net.now());
        self.nodes.push(TestNode {
            node,
            id,
            host,
            pairs: BTreeMap::new(),
            history: Vec::new(),
            received: BTreeMap::new(),
            initiated: BTreeMap::new(),
            removed: Vec::new(),
            sessions: BTreeMap::new(),
            paths: BTreeMap::new(),
            reported: BTreeMap::new(),
            candidates: None,
            guard: WakeupGuard::default(),
        });
        self.connect(index);
        index
    }

    /// Tells a node its address and opens its control connection, at the start and after a move.
    pub(crate) fn connect(&mut self, index: usize) {
        let host = self.nodes[index].host;
        let own = SocketAddr::new(self.net.address(host), PORT);
        self.input(index, Input::HostEndpoints(vec![own]));
        let to = SocketAddr::new(self.net.address(self.server), CONTROL_PORT);
        self.net.send(host, PORT, to, Packet::Hello);
    }

    /// All nodes join the mesh, and the coordinator tells them about each other.
    pub(crate) fn join(&mut self, mesh: MeshId) {
        self.join_with(mesh, true);
    }

    /// The same, but nobody hears of the others' endpoints.
    pub(crate) fn join_without_candidates(&mut self, mesh: MeshId) {
        self.join_with(mesh, false);
    }

    fn join_with(&mut self, mesh: MeshId, tell_candidates: bool) {
        let members: Vec<usize> = (0..self.nodes.len()).collect();
        for index in &members {
            self.input(*index, Input::JoinMesh(mesh));
        }
        self.meshes.insert(mesh, members.clone());
        for index in &members {
            for other in &members {
                if index != other {
                    self.order(*index, Order::Ticket(self.ticket(*index, *other)));
                    let candidates = self.nodes[*other].candidates.clone();
                    if let Some(candidates) = candidates.filter(|_| tell_candidates) {
                        self.order(*index, Order::Candidates(candidates));
                    }
                }
            }
        }
        self.send_netmap(mesh, 1, &members);
    }

    pub(crate) fn send_netmap(&mut self, mesh: MeshId, epoch: u64, members: &[usize]) {
        let netmap = self.netmap(mesh, epoch, members);
        for index in 0..self.nodes.len() {
            self.order(index, Order::Netmap(netmap.clone()));
        }
    }

    pub(crate) fn netmap(&self, mesh: MeshId, epoch: u64, members: &[usize]) -> Netmap {
        let member = |index: &usize| Member {
            index: *index as u16,
            node: self.nodes[*index].id,
            name: format!("vol-{index}"),
            wireguard_key: WireGuardKey([*index as u8; 32]),
        };
        let members = members.iter().map(member).collect();
        Netmap {
            version: NETMAP_VERSION,
            mesh,
            era: 0,
            epoch,
            members,
            pattern: None,
            signature: None,
        }
    }

    pub(crate) fn key(&self, mesh: MeshId, peer: usize) -> SessionKey {
        SessionKey { mesh, peer: self.nodes[peer].id }
    }

    /// How `index` sees its pair with `peer`.
    pub(crate) fn pair(&self, mesh: MeshId, index: usize, peer: usize) -> &PairState {
        &self.nodes[index].pairs[&self.key(mesh, peer)]
    }

    pub(crate) fn is_direct(&self, mesh: MeshId, index: usize, peer: usize) -> bool {
        matches!(self.pair(mesh, index, peer).path, Some(Path::Direct(_)))
    }

    /// Holds for every ordered pair of the mesh.
    pub(crate) fn all_pairs(&self, mesh: MeshId, holds: impl Fn(&PairState) -> bool) -> bool {
        let members = &self.meshes[&mesh];
        members.iter().all(|index| {
            members.iter().filter(|peer| *peer != index).all(|peer| {
                self.nodes[*index].pairs.get(&self.key(mesh, *peer)).is_some_and(&holds)
            })
        })
    }

    pub(crate) fn relay_endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.net.address(self.server), RELAY_PORT)
    }

    pub(crate) fn now(&self) -> Duration {
        self.net.now()
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.net.advance_to(at);
            self.step(at);
        }
        self.net.advance_to(end);
    }

    /// Runs until the condition holds; whether it did in that time.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now() + limit;
        while !holds(self) {
            let Some(at) = self.next_event().filter(|at| *at <= end) else { return false };
            self.net.advance_to(at);
            self.step(at);
        }
        true
    }

    /// The job sends a numbered packet.
    pub(crate) fn send_data(&mut self, mesh: MeshId, from: usize, to: usize, number: u64) {
        let session = self.key(mesh, to);
        let Some((primary, also)) = self.nodes[from].paths.get(&session.peer).copied() else {
            panic!("data before there is a path")
        };
        for path in [Some(primary), also].into_iter().flatten() {
            self.seal(from, session, path, Inner::Data(number));
        }
        if self.may_report(from, session, None) {
            self.input(from, Input::Sent(session));
        }
    }

    /// Feeds one input to a node and carries out its outputs.
    pub(crate) fn input(&mut self, index: usize, input: Input<'_>) {
        let now = self.start + self.now();
        let node = &mut self.nodes[index];
        let outputs: Vec<Output> = node.node.handle_input(now, input).collect();
        assert_eq!(node.node.stats().stalled_timers, 0);
        for output in outputs {
            self.carry_out(index, output);
        }
    }

    /// A node's process starts again and has no keys.
    pub(crate) fn forget_keys(&mut self, index: usize) {
        for wg in self.nodes[index].sessions.values_mut() {
            *wg = Wg::default();
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let wakeups = self.nodes.iter().filter_map(|node| node.node.next_wakeup());
        let wakeup = wakeups.min().map(|at| at.saturating_duration_since(self.start));
        let order = self.orders.first_key_value().map(|((at, _), _)| *at);
        [self.net.next_event(), order, wakeup].into_iter().flatten().min()
    }

    fn step(&mut self, at: Duration) {
        if self.net.next_event().is_some_and(|event| event <= at) {
            if let Some(delivery) = self.net.step() {
                self.deliver(delivery);
            }
        } else if self.orders.first_key_value().is_some_and(|((due, _), _)| *due <= at) {
            let (_, (index, order)) = self.orders.pop_first().expect("an order is due");
            self.give_order(index, order);
        } else {
            let now = self.start + at;
            let due = |node: &TestNode| node.node.next_wakeup().is_some_and(|due| due <= now);
            let index = self.nodes.iter().position(due).expect("something is due");
            self.nodes[index].guard.observe(at).expect("wakeups make progress");
            self.input(index, Input::Wakeup);
        }
    }

    fn give_order(&mut self, index: usize, order: Order) {
        let reflector = self.relay_endpoint();
        let input = match order {
            Order::Welcome { observed } => {
                Input::Welcome { observed, reflector, reflector_token: TOKEN }
            }
            Order::Candidates(candidates) => Input::Candidates(candidates),
            Order::Ticket(ticket) => Input::Ticket(ticket),
            Order::Netmap(netmap) => Input::Netmap(netmap),
        };
        self.input(index, input);
    }

    fn order(&mut self, to: usize, order: Order) {
        self.counter += 1;
        self.orders.insert((self.now() + CONTROL_DELAY, self.counter), (to, order));
    }

    fn ticket(&self, holder: usize, other: usize) -> RelayTicket {
        let channel = (1 + holder.min(other) * 1000 + holder.max(other)) as u32;
        let side = u8::from(self.nodes[holder].id > self.nodes[other].id);
        let expires_unix = u64::MAX;
        let sealed = Ticket { version: 1, side, channel, expires_unix, mac: [0; 16] }.to_hex();
        let relay = self.relay_endpoint();
        RelayTicket { peer: self.nodes[other].id, relay, channel, expires_unix, sealed }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        let at = self.now();
        match output {
            Output::Transmit { to, bytes } => {
                self.net.send(self.nodes[index].host, PORT, to, Packet::Control(bytes));
            }
            Output::AddSession { session, initiator, .. } => {
                assert_eq!(initiator, self.nodes[index].id < session.peer);
                let old = self.nodes[index].sessions.insert(session, Wg::default());
                assert!(old.is_none(), "a session is removed before it is added again");
            }
            Output::RemoveSession(session) => {
                self.nodes[index].sessions.remove(&session).expect("the session was added");
                self.nodes[index].pairs.remove(&session);
                self.nodes[index].removed.push(session);
            }
            Output::Initiate { session, via } => {
                assert!(!via.is_empty());
                self.counter += 1;
                let key = self.counter;
                let node = &mut self.nodes[index];
                node.sessions.get_mut(&session).expect("the session was added").initiate(key);
                *node.initiated.entry(session).or_default() += 1;
                let session = SessionKey { peer: node.id, ..session };
                for path in via {
                    self.transmit(index, path, WgPacket::Initiation { session, key });
                }
            }
            Output::Probe { session, via, bytes } => {
                self.seal(index, session, via, Inner::Probe(bytes));
            }
            Output::UsePath { peer, primary, also } => {
                self.nodes[index].paths.insert(peer, (primary, also));
            }
            Output::RouteMtu { .. } => {}
            Output::Announce(candidates) => {
                assert_eq!(candidates.node, self.nodes[index].id);
                self.nodes[index].candidates = Some(candidates.clone());
                for other in 0..self.nodes.len() {
                    if other != index && !self.meshes.is_empty() {
                        self.order(other, Order::Candidates(candidates.clone()));
                    }
                }
            }
            Output::PairChanged(session, state) => {
                let node = &mut self.nodes[index];
                node.history.push((at, session, state.clone()));
                node.pairs.insert(session, state);
            }
        }
    }

    fn seal(&mut self, index: usize, session: SessionKey, path: Path, inner: Inner) {
        let node = &self.nodes[index];
        let Some(key) = node.sessions.get(&session).and_then(Wg::key) else { return };
        let session = SessionKey { peer: node.id, ..session };
        self.transmit(index, path, WgPacket::Transport { session, key, inner });
    }

    fn transmit(&mut self, index: usize, path: Path, packet: WgPacket) {
        let host = self.nodes[index].host;
        match path {
            Path::Direct(to) => {
                let too_big = matches!(&packet, WgPacket::Transport { inner: Inner::Probe(bytes), .. }
                    if bytes.len() > self.direct_mtu);
                if !too_big {
                    self.net.send(host, PORT, to, Packet::Direct(packet));
                }
            }
            Path::Relayed { relay, channel } => {
                self.net.send(host, PORT, relay, Packet::Relayed(channel, packet));
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery<Packet>) {
        if delivery.host == self.server {
            self.deliver_to_server(delivery);
            return;
        }
        let is_there = |node: &TestNode| node.host == delivery.host;
        let Some(index) = self.nodes.iter().position(is_there) else { return };
        if delivery.to.port() != PORT {
            return;
        }
        let from = delivery.from;
        match delivery.payload {
            Packet::Hello => {}
            Packet::Control(bytes) => self.input(index, Input::Control { from, bytes: &bytes }),
            Packet::Direct(packet) => self.open(index, Path::Direct(from), packet),
            Packet::Relayed(channel, packet) => {
                self.open(index, Path::Relayed { relay: from, channel }, packet);
            }
        }
    }

    fn deliver_to_server(&mut self, delivery: Delivery<Packet>) {
        let Delivery { from, to, payload, .. } = delivery;
        let (to_control, to_relay) =
            (to.port() == CONTROL_PORT, to.port() == RELAY_PORT && !self.relay.down);
        match payload {
            Packet::Hello if to_control => {
                // The connection is the node's, whoever it is: found by where its packets come from.
                let public = |node: &TestNode| self.net.public_address(node.host) == from.ip();
                let index = self.nodes.iter().rposition(public).expect("a node connects");
                self.order(index, Order::Welcome { observed: from });
            }
            Packet::Control(bytes) if to_relay => {
                if let Some(answer) = self.relay.answer(from, &bytes) {
                    let answer = Packet::Control(answer.encode());
                    self.net.send(self.server, RELAY_PORT, from, answer);
                }
            }
            Packet::Relayed(channel, packet) if to_relay => {
                if let Some(next) = self.relay.forward(from, channel) {
                    self.net.send(self.server, RELAY_PORT, next, Packet::Relayed(channel, packet));
                }
            }
            Packet::Hello | Packet::Control(_) | Packet::Direct(_) | Packet::Relayed(..) => {}
        }
    }

    fn open(&mut self, index: usize, via: Path, packet: WgPacket) {
        let session = packet.session();
        let own = self.nodes[index].id;
        let reversed = SessionKey { peer: own, ..session };
        let Some(wg) = self.nodes[index].sessions.get_mut(&session) else { return };
        match wg.open(packet) {
            Opened::Nothing => {}
            Opened::Respond(key) => {
                self.transmit(index, via, WgPacket::Response { session: reversed, key });
            }
            Opened::Confirm => {
                self.report_authenticated(index, session, via, true, false);
                self.seal(index, session, via, Inner::Keepalive);
            }
            Opened::Inner(inner, is_new) => {
                let data = matches!(inner, Inner::Data(_));
                self.report_authenticated(index, session, via, is_new, data);
                match inner {
                    Inner::Keepalive => {}
                    Inner::Probe(bytes) => {
                        assert!(Probe::decode(&bytes).is_ok());
                        self.input(index, Input::Probe { session, via, bytes: &bytes });
                    }
                    Inner::Data(number) => {
                        self.nodes[index].received.entry(session).or_default().insert(number);
                    }
                }
            }
        }
    }

    fn report_authenticated(
        &mut self,
        index: usize,
        session: SessionKey,
        via: Path,
        is_new: bool,
        data: bool,
    ) {
        if is_new || self.may_report(index, session, Some(via)) {
            self.input(index, Input::Authenticated { session, via, data });
        }
    }

    fn may_report(&mut self, index: usize, session: SessionKey, via: Option<Path>) -> bool {
        let now = self.now();
        let last = self.nodes[index].reported.entry((session, via)).or_insert(Duration::ZERO);
        let may = now >= *last + REPORT_GAP;
        if may {
            *last = now;
        }
        may
    }
}
