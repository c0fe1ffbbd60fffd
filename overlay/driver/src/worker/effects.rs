//! Between the core and the data plane: every command to an input, every output to an effect.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use overlay_core::control::ToNode;
use overlay_core::netmap::MAX_RELAYS;
use overlay_core::wire::parse_reflector_token;
use overlay_core::wire::relay::Joiner;
use overlay_core::{Input, MeshId, Node, NodeId, Output, Path, RelayOffer};
use tokio::sync::oneshot;

use super::command::Command;
use super::crew::Order;
use super::mesh::MeshPort;
use super::pings::Pings;
use super::plane::{Plane, SessionNames};
use super::reports::Notice;
use super::session::Role;
use crate::observe::Observed;
use crate::socket::plain;
use crate::view::{Answered, PingError, Reflector, Seen, Via, View};
use crate::{JoinError, MeshEvent};

/// The node's decisions and the plane that carries them out.
pub(super) struct Brain {
    pub(super) id: NodeId,
    pub(super) node: Node,
    pub(super) plane: Plane,
    /// Halves of packets from relays.
    pub(super) joiner: Joiner,
    seen: Option<Seen>,
    /// The relays that run.
    offers: Vec<RelayOffer>,
    pings: Pings,
}

impl Brain {
    pub(super) fn new(id: NodeId, node: Node, plane: Plane) -> Self {
        let (joiner, pings) = (Joiner::default(), Pings::default());
        Self { id, node, plane, joiner, seen: None, offers: Vec::new(), pings }
    }

    fn reflectors(&self) -> Vec<Reflector> {
        let reflector = |offer: &RelayOffer| {
            let token = parse_reflector_token(&offer.token).ok()?;
            Some(Reflector { at: offer.endpoint, token })
        };
        self.offers.iter().filter_map(reflector).collect()
    }

    /// Gives the core an input and does what it answers.
    pub(super) fn feed(&mut self, now: Instant, input: Input<'_>) {
        let Self { node, plane, .. } = self;
        for output in node.handle_input(now, input) {
            carry_out(now, plane, output);
        }
    }

    /// Tells the core what the sessions noticed.
    pub(super) fn take_notices(&mut self, now: Instant) {
        while let Some(notice) = self.plane.notices.pop_front() {
            match notice {
                Notice::Authenticated { session, via, data } => {
                    self.feed(now, Input::Authenticated { session, via, data });
                }
                Notice::Sent(session) => self.feed(now, Input::Sent(session)),
                Notice::Probe { via, ref bytes, .. } if self.pings.take(now, via, bytes) => {}
                Notice::Probe { session, via, bytes } => {
                    self.feed(now, Input::Probe { session, via, bytes: &bytes });
                }
            }
        }
    }

    /// Does what the rest of the process asks.
    pub(super) fn obey(&mut self, now: Instant, command: Command) -> ControlFlow<()> {
        match command {
            Command::Join { mesh, tun, keys, events, reply } => {
                let result = if self.plane.mesh(mesh).is_some() {
                    Err(JoinError::AlreadyJoined(mesh))
                } else {
                    let joined = self.join(MeshPort::new(mesh, tun, keys, events));
                    if joined.is_ok() {
                        self.feed(now, Input::JoinMesh(mesh));
                    }
                    joined
                };
                // Whoever asked may have given up: the end of `Overlay::join` then leaves again.
                let _ = reply.send(result);
            }
            Command::Leave { mesh, reply } => {
                let pairs = self.plane.pairs(mesh);
                self.feed(now, Input::LeaveMesh(mesh));
                self.plane.remove_mesh(mesh, pairs.clone());
                if let Some(reply) = reply {
                    let _ = reply.send(pairs);
                }
            }
            Command::Pairs { mesh, reply } => {
                self.plane.publish_mesh(mesh, true);
                let _ = reply.send(self.plane.pairs(mesh));
            }
            Command::Coordinator(message) => self.hear(now, *message),
            Command::HostEndpoints(endpoints) => self.feed(now, Input::HostEndpoints(endpoints)),
            Command::PortMapped(endpoints) => self.feed(now, Input::PortMapped(endpoints)),
            Command::Stats(reply) => {
                let _ = reply.send(self.plane.stats());
            }
            Command::View(reply) => {
                let _ = reply.send(View {
                    id: self.id,
                    node: self.node.snapshot(),
                    seen: self.seen,
                    meshes: self.plane.mesh_views(),
                    stats: self.plane.stats(),
                    flows: self.plane.flows(),
                    reflectors: self.reflectors(),
                });
            }
            Command::Ping { peer, via, size, reply } => self.ping(now, peer, via, size, reply),
            Command::WayChanged { tunnelled } => self.feed(now, Input::Tunnelled(tunnelled)),
            Command::RelayWay(relay) => self.feed(now, Input::RelayWay(relay)),
            Command::OperatorEndpoints(endpoints) => {
                self.feed(now, Input::OperatorEndpoints(endpoints));
            }
            Command::Activity(activity) => self.feed(now, Input::Activity(activity)),
            Command::BirthdayProbing(allowed) => {
                self.feed(now, Input::BirthdayProbing(allowed));
            }
            Command::MappingLifetime(lifetime) => self.feed(now, Input::MappingLifetime(lifetime)),
            // The worker has taken them out: they are dispatched as if the socket had received them.
            Command::Tunnelled(_) => {}
            Command::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Enters a mesh, with every worker.
    fn join(&mut self, port: MeshPort) -> Result<(), JoinError> {
        let order = || Ok(Order::Join(Box::new(port.duplicate()?)));
        self.plane.crew.try_order_all(order).map_err(JoinError::Device)?;
        self.plane.add_mesh(port);
        Ok(())
    }

    fn ping(
        &mut self,
        now: Instant,
        peer: NodeId,
        via: Via,
        size: usize,
        reply: oneshot::Sender<Result<Answered, PingError>>,
    ) {
        match self.plane.path_to(peer, via) {
            Ok((session, path)) => {
                let Some(packet) = self.pings.begin(now, path, size, reply) else { return };
                if self.plane.lacks_keys(session) {
                    // The pair may sleep, and wakes for what a job sends.
                    self.feed(now, Input::Sent(session));
                }
                let probe = Output::Probe { session, via: path, bytes: packet };
                if let Some(Output::Probe { session, via, bytes }) = self.plane.delegate(probe) {
                    self.plane.ask(now, session, via, &bytes);
                }
                self.plane.net.flush();
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn hear(&mut self, now: Instant, message: ToNode) {
        match message {
            ToNode::Welcome { observed, reflector, reflector_token, other_reflector } => {
                match parse_reflector_token(&reflector_token) {
                    Ok(reflector_token) => {
                        let (observed, reflector) = (plain(observed), plain(reflector));
                        self.seen = Some(Seen { observed, reflector, token: reflector_token });
                        self.feed(now, Input::Welcome { observed, reflector, reflector_token });
                        if let Some(at) = other_reflector.map(plain) {
                            self.feed(now, Input::OtherReflector { at, token: reflector_token });
                        }
                    }
                    Err(error) => tracing::warn!(%error, "reflector token not understood"),
                }
            }
            ToNode::Netmap(netmap) => {
                let is_new = self.plane.apply_netmap(self.id, &netmap);
                self.feed(now, Input::Netmap(netmap.clone()));
                if is_new {
                    self.announce(netmap.mesh, MeshEvent::Netmap(netmap));
                }
            }
            ToNode::Candidates(candidates) => self.feed(now, Input::Candidates(candidates)),
            ToNode::Ticket(ticket) => {
                let channel = Path::Relayed { relay: plain(ticket.relay), channel: ticket.channel };
                self.plane.add_channel(ticket.peer, channel);
                self.feed(now, Input::Ticket(ticket));
            }
            ToNode::Relays { mut relays } => {
                relays.iter_mut().for_each(|offer| offer.endpoint = plain(offer.endpoint));
                self.offers = relays.iter().take(MAX_RELAYS).cloned().collect();
                self.feed(now, Input::Relays(relays));
            }
            ToNode::Member { mesh, node, ended } => {
                self.feed(now, Input::Member { mesh, node, ended });
                self.announce(mesh, MeshEvent::Member { node, ended });
            }
            ToNode::MeshOpen { mesh, rtt } => {
                // Said again after every reconnection.
                let is_news = self
                    .plane
                    .mesh(mesh)
                    .is_some_and(|port| !std::mem::replace(&mut port.is_open, true));
                if is_news {
                    self.plane.observe(|| Observed::Open(mesh));
                    self.announce(mesh, MeshEvent::Open { rtt });
                }
            }
            ToNode::MeshClosed { mesh, reason } => {
                self.plane.observe(|| Observed::Closed { mesh, reason: reason.clone() });
                self.announce(mesh, MeshEvent::Closed { reason });
            }
        }
    }

    fn announce(&mut self, mesh: MeshId, event: MeshEvent) {
        if let Some(port) = self.plane.mesh(mesh)
            && port.events.try_send(event).is_err()
        {
            tracing::warn!(%mesh, "nobody listens to the mesh's events");
        }
    }
}

/// Does what the core wants done, or has the worker do it whose peer it concerns.
pub(super) fn carry_out(now: Instant, plane: &mut Plane, output: Output) {
    let Some(output) = plane.delegate(output) else { return };
    match output {
        Output::Transmit { to, bytes } => plane.net.send(to, &bytes),
        Output::AddSession { session, peer_key, index, initiator, lazy } => {
            let role = Role { initiator, lazy };
            let names = SessionNames { key: session, peer_key, index, role };
            plane.add_session(now, names, Arc::default());
        }
        Output::RemoveSession(session) => plane.remove_session(session),
        Output::Initiate { session, via } => plane.initiate(session, via),
        Output::Probe { session, via, bytes } => plane.probe(now, session, via, &bytes),
        Output::OpenPort { session, to, number, bytes } => {
            let used = plane.net.sides.used(to);
            match plane.net.sides.open(to, number) {
                Ok(()) => plane.probe(now, session, Path::Direct(to), &bytes),
                Err(error) => tracing::debug!(%to, number, %error, "no further port"),
            }
            plane.net.sides.make_use(to, used);
        }
        Output::ClosePorts { to, all } => plane.net.sides.close(to, all),
        Output::UsePath { peer, primary, also } => {
            tracing::debug!(?peer, ?primary, ?also, "path selected");
            plane.use_path(peer, primary, also);
        }
        Output::RouteMtu { peer, mtu } => {
            tracing::debug!(?peer, mtu, "route MTU");
            plane.set_route_mtu(peer, mtu);
        }
        Output::Announce(candidates) => plane.announce_candidates(candidates),
        Output::RelaysMeasured(measured) => plane.announce_relays(measured),
        Output::RelayWidth { path, whole } => plane.net.set_whole(path, whole),
        Output::RelaySilent(relay) => plane.net.socket.detour().note_silence(relay),
        Output::PairChanged(session, state) => plane.pair_changed(session, state),
    }
}
