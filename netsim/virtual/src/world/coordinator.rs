//! The coordinator as far as nodes notice it: welcomes, candidates, tickets and netmaps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{HostId, HostState};
use overlay_core::netmap::NETMAP_VERSION;
use overlay_core::wire::{Ticket, format_hex};
use overlay_core::{
    Input, Member, MeshId, Netmap, NodeCandidates, NodeId, Path, Pattern, RelayOffer, RelayTicket,
};

use super::{RELAY_PORT, World};
use crate::relay::{LoneRelay, REFLECTOR_TOKEN, Relay};

/// One way between a node and the coordinator's process, over a stream: reliable.
pub(crate) const CONTROL_DELAY: Duration = Duration::from_millis(20);

/// How often a connection that does not get through is tried. Chosen.
const STANDSTILL: Duration = Duration::from_millis(500);

/// What the coordinator tells a node.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Welcome {
        observed: SocketAddr,
        attempt: u32,
    },
    /// Not an order: the node itself looks whether it was welcomed.
    TryAgain {
        attempt: u32,
        patience: Duration,
    },
    Candidates(NodeCandidates),
    Ticket(RelayTicket),
    /// The relays that run.
    Relays,
    Netmap(Netmap),
    /// Not an order: the connection looks whether what waits for the node gets through by now.
    Resume,
}

/// What the coordinator knows, and what it has said that is still on its way.
#[derive(Debug, Default)]
pub(super) struct Orders {
    on_their_way: BTreeMap<(Duration, u64), (usize, Order)>,
    /// What could not be delivered: a stream keeps its order. Nodes without any are not in it.
    held: BTreeMap<usize, VecDeque<Order>>,
    given: u64,
    /// The members of each mesh.
    meshes: BTreeMap<MeshId, BTreeSet<usize>>,
    /// The meshes of each node.
    meshes_of: BTreeMap<usize, BTreeSet<MeshId>>,
    /// The relay's channel of each pair, the lower index first.
    channels: BTreeMap<(usize, usize), u32>,
}

impl Orders {
    /// When the next order arrives.
    pub(super) fn next(&self) -> Option<Duration> {
        self.on_their_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next order that has arrived.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(usize, Order)> {
        let first = self.on_their_way.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    fn give(&mut self, at: Duration, to: usize, order: Order) {
        self.given += 1;
        self.on_their_way.insert((at, self.given), (to, order));
    }

    fn channel(&mut self, a: usize, b: usize) -> u32 {
        let next = u32::try_from(self.channels.len()).map_or(u32::MAX, |count| count + 1);
        *self.channels.entry((a.min(b), a.max(b))).or_insert(next)
    }

    /// Everybody in a mesh with that node.
    fn companions(&self, of: usize) -> BTreeSet<usize> {
        let meshes = self.meshes_of.get(&of).into_iter().flatten();
        let members = meshes.filter_map(|mesh| self.meshes.get(mesh)).flatten();
        members.copied().filter(|other| *other != of).collect()
    }
}

impl World {
    /// All nodes join the mesh, and the coordinator tells them about each other.
    pub fn join(&mut self, mesh: MeshId) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.join_members(mesh, &all, true);
    }

    /// The same, but nobody hears of the others' endpoints.
    pub fn join_without_candidates(&mut self, mesh: MeshId) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.join_members(mesh, &all, false);
    }

    /// Those nodes join the mesh, and the coordinator tells them about each other.
    pub fn join_members(&mut self, mesh: MeshId, members: &[usize], tell_candidates: bool) {
        for index in members {
            self.input(*index, Input::JoinMesh(mesh));
        }
        self.introduce(mesh, members, None, tell_candidates);
    }

    /// The coordinator tells the members of a mesh about each other: first the tickets and (unless it
    /// keeps them to itself) the candidates, then the netmap.
    pub fn introduce(
        &mut self,
        mesh: MeshId,
        members: &[usize],
        pattern: Option<Pattern>,
        tell_candidates: bool,
    ) {
        for index in members {
            self.orders.meshes_of.entry(*index).or_default().insert(mesh);
        }
        self.orders.meshes.insert(mesh, members.iter().copied().collect());
        for index in members {
            for other in members {
                if index != other {
                    self.give_tickets(*index, *other);
                    let candidates = self.nodes[*other].candidates.clone();
                    if let Some(candidates) = candidates.filter(|_| tell_candidates) {
                        self.order(*index, Order::Candidates(candidates));
                    }
                }
            }
        }
        let pattern = pattern.or(self.pattern);
        let netmap = Netmap { pattern, ..self.netmap(mesh, 1, members) };
        for index in members {
            self.order(*index, Order::Netmap(netmap.clone()));
        }
    }

    /// A mesh is over: the coordinator forgets it. The nodes leave by themselves.
    pub fn dissolve(&mut self, mesh: MeshId) {
        for index in self.orders.meshes.remove(&mesh).into_iter().flatten() {
            if let Some(meshes) = self.orders.meshes_of.get_mut(&index) {
                meshes.remove(&mesh);
            }
        }
    }

    /// Tells everybody who was ever in the mesh, and the new members, who is in it.
    pub fn send_netmap(&mut self, mesh: MeshId, epoch: u64, members: &[usize]) {
        let netmap = self.netmap(mesh, epoch, members);
        let mut concerned: BTreeSet<usize> = members.iter().copied().collect();
        concerned.extend(self.orders.meshes.get(&mesh).into_iter().flatten());
        for index in concerned {
            self.order(index, Order::Netmap(netmap.clone()));
        }
    }

    /// A netmap with those members.
    pub fn netmap(&self, mesh: MeshId, epoch: u64, members: &[usize]) -> Netmap {
        let member = |(rank, index): (usize, &usize)| Member {
            index: u16::try_from(rank).unwrap_or(u16::MAX),
            node: self.nodes[*index].id,
            name: format!("vol-{index}"),
            wireguard_key: self.nodes[*index].key,
            host_key: None,
        };
        let members = members.iter().enumerate().map(member).collect();
        Netmap {
            version: NETMAP_VERSION,
            mesh,
            era: 0,
            epoch,
            members,
            pattern: self.pattern,
            signature: None,
        }
    }

    /// Who has joined a mesh.
    ///
    /// # Panics
    ///
    /// When nobody has.
    pub fn members(&self, mesh: MeshId) -> &BTreeSet<usize> {
        &self.orders.meshes[&mesh]
    }

    /// A node has announced itself: all who share a mesh with it hear of it.
    pub(super) fn pass_on(&mut self, index: usize, candidates: &NodeCandidates) {
        if self.server_of(index).away {
            return;
        }
        for other in self.orders.companions(index) {
            self.order(other, Order::Candidates(candidates.clone()));
        }
    }

    pub(super) fn give_order(&mut self, index: usize, order: Order) {
        if let Order::TryAgain { attempt, patience } = order {
            return self.try_again(index, attempt, patience);
        }
        let host = self.nodes[index].host;
        let is_through = match self.net.state(host) {
            HostState::Killed => {
                self.orders.held.remove(&index);
                return;
            }
            HostState::Suspended => false,
            HostState::Running => self.net.is_connected(host),
        };
        if matches!(order, Order::Resume) {
            if is_through {
                for order in self.orders.held.remove(&index).into_iter().flatten() {
                    self.deliver_order(index, order);
                }
            } else {
                self.order_after(STANDSTILL, index, Order::Resume);
            }
        } else if let Some(held) = self.orders.held.get_mut(&index) {
            held.push_back(order);
        } else if is_through {
            self.deliver_order(index, order);
        } else {
            // The connection carries it later.
            self.orders.held.insert(index, VecDeque::from([order]));
            self.order_after(STANDSTILL, index, Order::Resume);
        }
    }

    fn deliver_order(&mut self, index: usize, order: Order) {
        let reflector = self.endpoint_for(index, RELAY_PORT);
        let input = match order {
            Order::TryAgain { .. } | Order::Resume => return,
            Order::Welcome { attempt, .. } if attempt != self.nodes[index].attempt => return,
            Order::Welcome { observed, .. } => {
                self.nodes[index].welcomed = true;
                if !self.lone_relays.is_empty() {
                    self.order(index, Order::Relays);
                }
                Input::Welcome { observed, reflector, reflector_token: REFLECTOR_TOKEN }
            }
            Order::Candidates(candidates) => Input::Candidates(candidates),
            Order::Ticket(ticket) => {
                let channel = Path::Relayed { relay: ticket.relay, channel: ticket.channel };
                self.add_channel(index, ticket.peer, channel);
                Input::Ticket(ticket)
            }
            Order::Relays => Input::Relays(self.offers(index)),
            Order::Netmap(netmap) => Input::Netmap(netmap),
        };
        self.input(index, input);
    }

    pub(super) fn order(&mut self, to: usize, order: Order) {
        if !self.server_of(to).away {
            self.order_after(CONTROL_DELAY, to, order);
        }
    }

    pub(super) fn order_after(&mut self, delay: Duration, to: usize, order: Order) {
        self.orders.give(self.net.now() + delay, to, order);
    }

    /// A relay of its own on that machine, which the first coordinator knows from now on.
    pub fn add_relay_at(&mut self, host: HostId) -> NodeId {
        self.add_relay_of(0, host)
    }

    /// A relay of its own on that machine, which that coordinator knows from now on.
    pub fn add_relay_of(&mut self, server: usize, host: HostId) -> NodeId {
        // Nodes' names have a byte of another value in them, see `node_id`.
        let number = u8::try_from(self.lone_relays.len() + 1).unwrap_or(u8::MAX);
        let id = NodeId([[number; 16], [0xff; 16]].concat().try_into().unwrap_or([number; 32]));
        self.lone_relays.push(LoneRelay { id, host, server, relay: Relay::default() });
        self.relays_changed(server);
        id
    }

    /// That relay ends, or begins again. The coordinator notices at once what a broken connection tells
    /// it a little later.
    pub fn switch_relay(&mut self, id: NodeId, is_on: bool) {
        let Some(lone) = self.lone_relays.iter_mut().find(|lone| lone.id == id) else { return };
        if is_on {
            lone.relay.restart();
        } else {
            lone.relay.down = true;
        }
        let server = lone.server;
        self.relays_changed(server);
    }

    /// All nodes of a coordinator are told which of its relays run, and get what they lack.
    fn relays_changed(&mut self, server: usize) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].server != server {
                continue;
            }
            self.order(index, Order::Relays);
            for other in self.orders.companions(index) {
                self.give_tickets(index, other);
            }
        }
    }

    /// The relays of a node's coordinator that run beside that one's own.
    fn lone_relays_of(&self, index: usize) -> impl Iterator<Item = &LoneRelay> {
        let server = self.nodes[index].server;
        self.lone_relays.iter().filter(move |lone| lone.server == server && !lone.relay.down)
    }

    fn offers(&self, index: usize) -> Vec<RelayOffer> {
        let token = format_hex(&REFLECTOR_TOKEN);
        let own = (NodeId([0; 32]), self.server_of(index).host);
        let lone = self.lone_relays_of(index).map(|lone| (lone.id, lone.host));
        let all = std::iter::once(own).chain(lone);
        all.map(|(relay, host)| {
            let endpoint = self.endpoint_at(host, index, RELAY_PORT);
            RelayOffer { relay, endpoint, token: token.clone(), tunnel: None }
        })
        .collect()
    }

    /// One for each relay that runs.
    fn give_tickets(&mut self, holder: usize, other: usize) {
        let lone = self.lone_relays_of(holder).map(|lone| lone.host);
        let hosts: Vec<HostId> = std::iter::once(self.server_of(holder).host).chain(lone).collect();
        for host in hosts {
            let ticket = self.ticket(host, holder, other);
            self.order(holder, Order::Ticket(ticket));
        }
    }

    fn ticket(&mut self, at: HostId, holder: usize, other: usize) -> RelayTicket {
        let channel = self.orders.channel(holder, other);
        let side = u8::from(self.nodes[holder].id > self.nodes[other].id);
        let expires_unix = u64::MAX;
        let sealed = Ticket { version: 1, side, channel, expires_unix, mac: [0; 16] }.to_hex();
        let relay = self.endpoint_at(at, holder, RELAY_PORT);
        RelayTicket { peer: self.nodes[other].id, relay, channel, expires_unix, sealed }
    }
}
