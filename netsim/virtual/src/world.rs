//! The world of a scenario: nodes with their drivers, the coordinator, the relay, the network.

mod coordinator;
mod data;
mod driver;
mod machine;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netsim_sim::{
    Change, Delivery, Happening, HostId, HostState, Link, NatProfile, Network, Outgoing, PUBLIC,
};
use overlay_core::{
    Input, MeshId, Node, NodeConfig, NodeId, Output, PairState, Path, Pattern, SessionKey,
};

use crate::node::VirtualNode;
use crate::relay::{LoneRelay, Relay};
use crate::timers::{Slots, Timers};
use crate::wireguard::Message;
pub(crate) use coordinator::CONTROL_DELAY;
use coordinator::Orders;

/// The UDP port of every node.
pub const PORT: u16 = 41641;

/// The first of a node's side sockets, where it meets somebody by chance.
const SIDE_PORTS: u16 = 50_000;

/// The coordinator's port for control connections.
const CONTROL_PORT: u16 = 6443;

/// The port of the relay and reflector.
const RELAY_PORT: u16 = 6444;

/// The link of machines that have no particular one: 5 ms, nothing lost.
pub const LINK: Link = Link { delay: Duration::from_millis(5), loss: 0.0 };

/// What the network of a world carries.
#[derive(Clone, Debug)]
pub enum Packet {
    /// The first packet of that node's control connection, which says who it is and which attempt.
    Hello(usize, u32),
    /// A frame between a node and a relay or reflector.
    Control(Vec<u8>),
    /// A WireGuard message from node to node, with the session as its receiver calls it.
    Direct(SessionKey, Message),
    /// The same on a channel of the relay.
    Relayed(u32, SessionKey, Message),
}

/// What happened in a world, for whoever asked for it ([`World::keep_notes`]).
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A node reports on a pair.
    Pair {
        /// When.
        at: Duration,
        /// Which node.
        node: usize,
        /// Which pair.
        session: SessionKey,
        /// How it stands.
        state: PairState,
    },
    /// A scheduled change has taken place.
    Changed {
        /// When.
        at: Duration,
        /// What.
        change: Change,
    },
}

/// A coordinator as nodes notice it: a machine with a control channel and a relay.
#[derive(Debug)]
pub struct Server {
    /// The machine.
    pub host: HostId,
    /// Its own relay.
    pub relay: Relay,
    /// It hears nothing and says nothing.
    pub away: bool,
}

/// Nodes, coordinators, relays and network, in virtual time.
#[derive(Debug)]
pub struct World {
    /// The network. Changes to it need no more than to be made.
    pub net: Network<Packet>,
    /// The nodes, in the order of making: elsewhere they are named by their index here.
    pub nodes: Vec<VirtualNode>,
    /// The coordinators, the first one first: elsewhere they are named by their index here.
    pub servers: Vec<Server>,
    /// The relays that run alone.
    pub lone_relays: Vec<LoneRelay>,
    /// The communication pattern of netmaps from now on.
    pub pattern: Option<Pattern>,
    /// Inner packets above this size do not pass direct paths.
    pub direct_mtu: usize,
    /// What somebody on the way writes down: every WireGuard message and where it was sent. None: nobody is
    /// there.
    pub tapped: Option<Vec<(SocketAddr, Packet)>>,
    notes: Option<Vec<Note>>,
    start: Instant,
    timers: Timers,
    /// The node on each machine.
    node_on: Vec<Option<usize>>,
    orders: Orders,
    /// The timers of the nodes' sessions.
    slots: Slots,
    /// Numbers drawn so far.
    drawn: u64,
    /// WireGuard messages that nodes have sent.
    between_nodes: u64,
    seed: u64,
}

impl World {
    /// A world with a coordinator, a relay and nothing else. Nodes take `start` for the beginning of
    /// time; nothing depends on when that is.
    pub fn new(seed: u64, start: Instant) -> Self {
        let mut net = Network::new(seed);
        let server = net.add_host(PUBLIC, LINK);
        Self::on(net, &[server], seed, start)
    }

    /// The same on a network that is there, with a coordinator and its relay on each of those machines of
    /// it.
    pub fn on(net: Network<Packet>, servers: &[HostId], seed: u64, start: Instant) -> Self {
        let server = |host: &HostId| Server { host: *host, relay: Relay::default(), away: false };
        Self {
            net,
            nodes: Vec::new(),
            servers: servers.iter().map(server).collect(),
            lone_relays: Vec::new(),
            pattern: None,
            direct_mtu: usize::MAX,
            tapped: None,
            notes: None,
            start,
            timers: Timers::default(),
            node_on: Vec::new(),
            orders: Orders::default(),
            slots: Slots::default(),
            drawn: 0,
            between_nodes: 0,
            seed,
        }
    }

    /// Two or more nodes behind those chains of NATs, welcomed and in one mesh.
    pub fn with_mesh(
        seed: u64,
        start: Instant,
        chains: &[&[NatProfile]],
        link: Link,
    ) -> (Self, MeshId) {
        let mut world = Self::new(seed, start);
        for chain in chains {
            world.add_node(chain, link);
        }
        world.run_for(Duration::from_secs(2));
        let mesh = MeshId { job: 1, generation: 1 };
        world.join(mesh);
        (world, mesh)
    }

    /// A node behind new NATs, given from the machine outwards.
    pub fn add_node(&mut self, chain: &[NatProfile], link: Link) -> usize {
        let host = self.net.add_host_behind(chain, link);
        self.add_node_at(host)
    }

    /// A node of the first coordinator on a machine that has none.
    pub fn add_node_at(&mut self, host: HostId) -> usize {
        self.add_node_of(0, host)
    }

    /// A node of that coordinator on a machine that has none.
    pub fn add_node_of(&mut self, server: usize, host: HostId) -> usize {
        let index = self.nodes.len();
        let id = node_id(index);
        let node = Node::new(self.config(index, 0), self.start + self.net.now());
        self.nodes.push(VirtualNode::new(node, id, host, server));
        if self.node_on.len() <= host.index() {
            self.node_on.resize(host.index() + 1, None);
        }
        self.node_on[host.index()] = Some(index);
        if self.net.state(host) == HostState::Running {
            self.connect(index);
        }
        index
    }

    /// Collects what happens from here on, for [`World::take_notes`]; the nodes keep no history then.
    pub fn keep_notes(&mut self) {
        self.notes = Some(Vec::new());
    }

    /// What has happened since this was asked the last time.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The node on a machine.
    pub fn node_on(&self, host: HostId) -> Option<usize> {
        self.node_on.get(host.index()).copied().flatten()
    }

    fn config(&self, index: usize, life: u64) -> NodeConfig {
        let seed = self.seed.wrapping_mul(1000).wrapping_add(index as u64);
        NodeConfig { id: node_id(index), seed: seed.wrapping_add(life << 32) }
    }

    /// The session of a mesh with that peer.
    pub fn key(&self, mesh: MeshId, peer: usize) -> SessionKey {
        SessionKey { mesh, peer: self.nodes[peer].id }
    }

    /// How `index` sees its pair with `peer`.
    ///
    /// # Panics
    ///
    /// When it has none in that mesh.
    pub fn pair(&self, mesh: MeshId, index: usize, peer: usize) -> &PairState {
        &self.nodes[index].pairs[&self.key(mesh, peer)]
    }

    /// Whether `index` sends to `peer` directly.
    ///
    /// # Panics
    ///
    /// When they are no pair of that mesh.
    pub fn is_direct(&self, mesh: MeshId, index: usize, peer: usize) -> bool {
        matches!(self.pair(mesh, index, peer).path, Some(Path::Direct(_)))
    }

    /// Holds for every ordered pair of the mesh.
    ///
    /// # Panics
    ///
    /// When nobody has joined that mesh.
    pub fn all_pairs(&self, mesh: MeshId, holds: impl Fn(&PairState) -> bool) -> bool {
        let members = self.members(mesh);
        members.iter().all(|index| {
            members.iter().filter(|peer| *peer != index).all(|peer| {
                self.nodes[*index].pairs.get(&self.key(mesh, *peer)).is_some_and(&holds)
            })
        })
    }

    /// The endpoint of the first coordinator's relay and reflector.
    ///
    /// # Panics
    ///
    /// When there is no coordinator.
    pub fn relay_endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.net.address(self.servers[0].host), RELAY_PORT)
    }

    /// The coordinator of a node.
    fn server_of(&self, index: usize) -> &Server {
        &self.servers[self.nodes[index].server]
    }

    /// An endpoint of its coordinator, or of that one's relay, as a node can reach it.
    fn endpoint_for(&self, index: usize, port: u16) -> SocketAddr {
        self.endpoint_at(self.server_of(index).host, index, port)
    }

    fn endpoint_at(&self, server: HostId, index: usize, port: u16) -> SocketAddr {
        let host = self.nodes[index].host;
        let ipv6 = self.net.ipv6_address(server).filter(|_| !self.net.has_ipv4(host));
        SocketAddr::new(ipv6.unwrap_or_else(|| self.net.address(server)), port)
    }

    /// How many WireGuard messages nodes have sent to each other, over relays or not.
    pub fn between_nodes(&self) -> u64 {
        self.between_nodes
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.net.now()
    }

    /// Lets that much time pass.
    ///
    /// # Panics
    ///
    /// When a node asks for wakeups without getting anywhere.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.net.advance_to(at);
            self.step(at);
        }
        self.net.advance_to(end);
    }

    /// Runs until the condition holds; whether it did in that time.
    ///
    /// # Panics
    ///
    /// When a node asks for wakeups without getting anywhere.
    pub fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now() + limit;
        while !holds(self) {
            let Some(at) = self.next_event().filter(|at| *at <= end) else { return false };
            self.net.advance_to(at);
            self.step(at);
        }
        true
    }

    /// Feeds one input to a node and carries out its outputs. One that stands still hears nothing.
    ///
    /// # Panics
    ///
    /// When the node breaks the contract with its driver: that is a defect of the overlay's core.
    pub fn input(&mut self, index: usize, input: Input<'_>) {
        if self.net.state(self.nodes[index].host) != HostState::Running {
            return;
        }
        let now = self.start + self.now();
        let node = &mut self.nodes[index].node;
        let outputs: Vec<Output> = node.handle_input(now, input).collect();
        assert_eq!(node.stats().stalled_timers, 0, "a timer is due after it has fired");
        let wakeup = node.next_wakeup().map(|at| at.saturating_duration_since(self.start));
        self.timers.set(index, wakeup);
        for output in outputs {
            self.carry_out(index, output);
        }
    }

    pub(crate) fn next_event(&self) -> Option<Duration> {
        let wakeup = self.timers.first().map(|(at, _)| at);
        let tick = self.slots.timers.first().map(|(at, _)| at);
        [self.net.next_event(), self.orders.next(), tick, wakeup].into_iter().flatten().min()
    }

    /// Lets the next event happen, which is at that time.
    pub(crate) fn happen(&mut self, at: Duration) {
        self.net.advance_to(at);
        self.step(at);
    }

    fn step(&mut self, at: Duration) {
        if self.net.next_event().is_some_and(|event| event <= at) {
            match self.net.handle_next() {
                Some(Happening::Delivered(delivery)) => self.deliver(delivery),
                Some(Happening::Changed(change)) => self.changed(change),
                Some(Happening::TooBig(_)) | None => {}
            }
        } else if let Some((index, order)) = self.orders.pop(at) {
            self.give_order(index, order);
        } else if let Some((_, index, key)) = self.slots.first().filter(|(due, ..)| *due <= at) {
            self.nodes[index].guard.observe(at).expect("sessions make progress");
            self.tick(index, key);
        } else if let Some((_, index)) = self.timers.first().filter(|(due, _)| *due <= at) {
            // Where the machine stands still, it wakes up when that goes on.
            self.timers.set(index, None);
            self.nodes[index].guard.observe(at).expect("wakeups make progress");
            self.input(index, Input::Wakeup);
        }
    }

    fn deliver(&mut self, delivery: Delivery<Packet>) {
        if let Some(server) = self.servers.iter().position(|it| it.host == delivery.host) {
            self.deliver_to_server(server, delivery);
            return;
        }
        if let Some(lone) = self.lone_relays.iter_mut().find(|lone| lone.host == delivery.host) {
            serve(&mut lone.relay, &mut self.net, delivery);
            return;
        }
        let port = delivery.to.port();
        let is_open = port == PORT || (SIDE_PORTS..SIDE_PORTS + 256).contains(&port);
        let Some(index) = self.node_on(delivery.host).filter(|_| is_open) else { return };
        let from = delivery.from;
        match delivery.payload {
            Packet::Hello(..) => {}
            Packet::Control(bytes) => self.input(index, Input::Control { from, bytes: &bytes }),
            Packet::Direct(key, message) => {
                self.open(index, key, (Path::Direct(from), from.ip()), port, &message);
            }
            Packet::Relayed(channel, key, message) => {
                let via = Path::Relayed { relay: from, channel };
                self.open(index, key, (via, from.ip()), port, &message);
            }
        }
    }

    fn deliver_to_server(&mut self, server: usize, delivery: Delivery<Packet>) {
        match delivery.payload {
            Packet::Hello(index, attempt) if delivery.to.port() == CONTROL_PORT => {
                self.on_hello(index, attempt, delivery.from);
            }
            Packet::Hello(..) | Packet::Control(_) | Packet::Direct(..) | Packet::Relayed(..) => {
                serve(&mut self.servers[server].relay, &mut self.net, delivery);
            }
        }
    }
}

/// What a relay does with what has reached its machine.
fn serve(relay: &mut Relay, net: &mut Network<Packet>, delivery: Delivery<Packet>) {
    let Delivery { host, from, to, size_bytes, payload, .. } = delivery;
    if to.port() != RELAY_PORT || relay.down {
        return;
    }
    match payload {
        Packet::Control(bytes) => {
            if let Some(answer) = relay.answer(from, &bytes) {
                net.send(host, RELAY_PORT, from, Packet::Control(answer.encode()));
            }
        }
        packet @ Packet::Relayed(channel, ..) => {
            let (next, times) = relay.pass_on(from, channel).unwrap_or((from, 0));
            for _ in 0..times {
                let copy = packet.clone();
                net.send_packet(host, Outgoing::udp(RELAY_PORT, next, size_bytes, copy));
            }
        }
        Packet::Hello(..) | Packet::Direct(..) => {}
    }
}

/// Ids in no relation to the order of making.
fn node_id(index: usize) -> NodeId {
    let [low, high @ ..] = index.to_le_bytes();
    let mut id = [low.wrapping_mul(151).wrapping_add(7); 32];
    id[32 - high.len()..].iter_mut().zip(high).for_each(|(byte, high)| *byte ^= high);
    NodeId(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nodes_have_names_of_their_own() {
        let ids: BTreeSet<NodeId> = (0..70_000).map(node_id).collect();
        assert_eq!(ids.len(), 70_000);
    }
}
