//! What a node's driver does: carries out outputs, seals, opens and reports.

use std::net::IpAddr;
use std::time::Duration;

use netsim_sim::{HostState, Outgoing};
use overlay_core::wire::Probe;
use overlay_core::{Input, NodeId, Output, Path, SessionKey, WireGuardKey};

use super::{Note, PORT, Packet, SIDE_PORTS, World};
use crate::node::VirtualNode;
use crate::session::{Notice, Selected, Session, Wants};
use crate::wireguard::{Inner, Message};

/// Bytes of IPv4 and UDP headers.
const UDP_IPV4: usize = 28;

/// Bytes of a relay frame's header.
const RELAY_FRAME: usize = 8;

/// WireGuard's overhead on an inner packet.
const SEALED: usize = 32;

impl World {
    pub(super) fn carry_out(&mut self, index: usize, output: Output) {
        let at = self.now();
        match output {
            Output::Transmit { to, bytes } => {
                let size = wire_size(to.ip(), bytes.len());
                let packet = Outgoing::udp(PORT, to, size, Packet::Control(bytes));
                self.net.send_packet(self.nodes[index].host, packet);
            }
            Output::AddSession { session, peer_key, initiator, lazy, .. } => {
                assert_eq!(initiator, self.nodes[index].id < session.peer);
                self.add_session(index, session, peer_key, initiator);
                if lazy {
                    self.with_session(index, session, |session, _, _| session.wait_for_data());
                }
            }
            Output::RemoveSession(session) => {
                let removed = self.nodes[index].sessions.remove(&session);
                self.slots.give_back(removed.expect("the session was added").slot);
                self.nodes[index].pairs.remove(&session);
                self.nodes[index].removed.push(session);
            }
            Output::Initiate { session, via } => {
                assert!(!via.is_empty(), "an initiation goes somewhere");
                *self.nodes[index].initiated.entry(session).or_default() += 1;
                self.with_session(index, session, |session, now, wants| {
                    session.initiate(now, &via, wants);
                });
            }
            Output::Probe { session, via, bytes } => {
                self.with_session(index, session, |session, now, wants| {
                    session.probe(now, via, bytes, wants);
                });
            }
            Output::OpenPort { session, to, number, bytes } => {
                let before = self.nodes[index].side_port.insert(to, SIDE_PORTS + number);
                self.with_session(index, session, |session, now, wants| {
                    session.probe(now, Path::Direct(to), bytes, wants);
                });
                let sides = &mut self.nodes[index].side_port;
                match before {
                    Some(port) => sides.insert(to, port),
                    None => sides.remove(&to),
                };
            }
            Output::ClosePorts { to, all } => {
                if all {
                    self.nodes[index].side_port.remove(&to);
                }
            }
            Output::UsePath { peer, primary, also } => {
                let selected = Selected { primary, also };
                self.nodes[index].paths.insert(peer, selected);
                let sessions = self.nodes[index].sessions.keys();
                let with: Vec<_> = sessions.filter(|key| key.peer == peer).copied().collect();
                for key in with {
                    self.with_session(index, key, |session, now, wants| {
                        session.select(now, selected, wants);
                    });
                }
            }
            Output::RouteMtu { peer, mtu } => {
                self.nodes[index].route_mtus.insert(peer, mtu);
            }
            Output::Announce(candidates) => {
                assert_eq!(candidates.node, self.nodes[index].id);
                self.nodes[index].candidates = Some(candidates.clone());
                self.pass_on(index, &candidates);
            }
            Output::RelaysMeasured(measured) => {
                self.nodes[index].nearest = measured.iter().map(|known| known.relay).collect();
            }
            // The simulated nodes have one way to a relay.
            Output::RelaySilent(_) => {}
            // And its links say what does not fit.
            Output::RelayWidth { .. } => {}
            Output::PairChanged(session, state) => {
                match &mut self.notes {
                    Some(notes) => {
                        let state = state.clone();
                        notes.push(Note::Pair { at, node: index, session, state });
                    }
                    None => self.nodes[index].history.push((at, session, state.clone())),
                }
                self.nodes[index].pairs.insert(session, state);
            }
        }
    }

    fn add_session(
        &mut self,
        index: usize,
        key: SessionKey,
        peer_key: WireGuardKey,
        initiator: bool,
    ) {
        let now = self.now();
        let draw = self.draw();
        let slot = self.slots.take(index, key);
        let node = &mut self.nodes[index];
        let statics = (digest(node.key), digest(peer_key));
        let mut session = Session::new(now, slot, statics, initiator, draw);
        session.fallback = node.channels.get(&key.peer).copied();
        let selected = node.paths.get(&key.peer).copied();
        let old = node.sessions.insert(key, session);
        assert!(old.is_none(), "a session is removed before it is added again");
        self.with_session(index, key, |session, now, wants| {
            if let Some(selected) = selected {
                session.select(now, selected, wants);
            }
        });
    }

    /// The coordinator has given a relay channel to a peer.
    pub(super) fn add_channel(&mut self, index: usize, peer: NodeId, channel: Path) {
        self.nodes[index].channels.insert(peer, channel);
        let sessions = self.nodes[index].sessions.keys();
        let with: Vec<_> = sessions.filter(|key| key.peer == peer).copied().collect();
        for key in with {
            self.with_session(index, key, |session, _, _| session.fallback = Some(channel));
        }
    }

    /// Starts a session over with empty keys.
    pub(super) fn renew(&mut self, index: usize, key: SessionKey) {
        let draw = self.draw();
        self.with_session(index, key, |session, now, _| session.renew(now, draw));
    }

    /// A session's timer is due.
    pub(super) fn tick(&mut self, index: usize, key: SessionKey) {
        let slot = self.session(index, key).slot;
        self.slots.timers.set(slot, None);
        if self.net.state(self.nodes[index].host) != HostState::Running {
            return;
        }
        self.with_session(index, key, Session::tick);
    }

    fn session(&self, index: usize, key: SessionKey) -> &Session {
        self.nodes[index].sessions.get(&key).expect("the session was added")
    }

    /// Does something to a session that is there, and then what it wants.
    pub(super) fn with_session(
        &mut self,
        index: usize,
        key: SessionKey,
        act: impl FnOnce(&mut Session, Duration, &mut Wants),
    ) {
        let now = self.now();
        let Some(session) = self.nodes[index].sessions.get_mut(&key) else { return };
        let mut wants = Wants::default();
        act(session, now, &mut wants);
        // A timer that comes too early finds nothing to do, and costs less than moving it each time.
        if let Some(at) = session.next_tick() {
            self.slots.timers.set_at_latest(session.slot, at);
        }
        for (path, message) in wants.sent {
            self.transmit(index, key, path, message);
        }
        for notice in wants.notices {
            self.input(
                index,
                match notice {
                    Notice::Authenticated { via, data } => {
                        Input::Authenticated { session: key, via, data }
                    }
                    Notice::Sent => Input::Sent(key),
                },
            );
        }
    }

    fn transmit(&mut self, index: usize, key: SessionKey, path: Path, message: Message) {
        let VirtualNode { host, id, .. } = self.nodes[index];
        let session = SessionKey { peer: id, ..key };
        self.between_nodes += 1;
        let (to, extra) = match path {
            Path::Direct(to) => {
                if message.wire_len() > self.direct_mtu.saturating_add(SEALED) {
                    return;
                }
                (to, 0)
            }
            Path::Relayed { relay, .. } => (relay, RELAY_FRAME),
        };
        let size = wire_size(to.ip(), message.wire_len() + extra);
        let packet = match path {
            Path::Direct(_) => Packet::Direct(session, message),
            Path::Relayed { channel, .. } => Packet::Relayed(channel, session, message),
        };
        if let Some(tapped) = &mut self.tapped {
            tapped.push((to, packet.clone()));
        }
        let port = self.nodes[index].side_port.get(&to).copied().unwrap_or(PORT);
        self.net.send_packet(host, Outgoing::udp(port, to, size, packet));
    }

    /// A packet of that endpoint that a session has opened has come to that port: what goes there leaves from it
    /// from now on.
    pub(super) fn came_in_at(&mut self, index: usize, from: Path, port: u16) {
        if let Path::Direct(from) = from
            && port != PORT
        {
            self.nodes[index].side_port.insert(from, port);
        }
    }

    pub(super) fn open(
        &mut self,
        index: usize,
        key: SessionKey,
        (via, from): (Path, IpAddr),
        port: u16,
        message: &Message,
    ) {
        let mut inner = None;
        self.with_session(index, key, |session, now, wants| {
            inner = session.open(now, (via, from), message, wants);
        });
        if inner.is_some() {
            self.came_in_at(index, via, port);
        }
        match inner {
            None | Some(Inner::Keepalive) => {}
            Some(Inner::Probe(bytes)) => {
                assert!(Probe::decode(&bytes).is_ok(), "nodes send well-formed probes");
                self.input(index, Input::Probe { session: key, via, bytes: &bytes });
            }
            Some(Inner::Data(number)) => {
                self.nodes[index].received.entry(key).or_default().insert(number);
            }
            Some(Inner::Bulk(bytes)) => {
                *self.nodes[index].bulk.entry(key).or_default() += u64::from(bytes);
            }
        }
    }

    /// A number that is drawn once in a world.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }
}

/// Bytes of the whole IP packet.
fn wire_size(to: IpAddr, payload: usize) -> u32 {
    let headers = if to.is_ipv6() { UDP_IPV4 + 20 } else { UDP_IPV4 };
    u32::try_from(payload + headers).unwrap_or(u32::MAX)
}

/// A public key in few bytes (FNV-1a).
fn digest(key: WireGuardKey) -> u64 {
    key.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
