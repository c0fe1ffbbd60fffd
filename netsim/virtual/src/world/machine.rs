//! What machines go through: they move, stand still, lose their power and start again; and their control
//! connections.

use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{Change, HostId, HostState, Outgoing};
use overlay_core::{Input, Node};

use super::coordinator::Order;
use super::{CONTROL_PORT, Note, PORT, Packet, World};
use crate::node::VirtualNode;

/// Until an unanswered attempt to connect is repeated, at first; then twice as long each time.
const RETRY: Duration = Duration::from_secs(1);

/// The longest of these times.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Bytes of the first packet of a control connection: QUIC's least (RFC 9000 §14.1), and headers.
const HELLO_BYTES: u32 = 1200 + 28;

impl World {
    /// Tells a node its addresses and opens its control connection, at the start and after a move.
    pub fn connect(&mut self, index: usize) {
        let host = self.nodes[index].host;
        let ipv4 = self.net.has_ipv4(host).then(|| self.net.address(host));
        let own = ipv4.into_iter().chain(self.net.ipv6_address(host));
        let own = own.map(|address| SocketAddr::new(address, PORT)).collect();
        self.input(index, Input::HostEndpoints(own));
        let attempt = self.nodes[index].attempt.wrapping_add(1);
        self.nodes[index].attempt = attempt;
        self.nodes[index].welcomed = false;
        self.nodes[index].moved_asleep = false;
        self.say_hello(index, attempt, RETRY);
    }

    fn say_hello(&mut self, index: usize, attempt: u32, patience: Duration) {
        let host = self.nodes[index].host;
        let to = self.endpoint_for(index, CONTROL_PORT);
        let packet = Outgoing::udp(PORT, to, HELLO_BYTES, Packet::Hello(index, attempt));
        self.net.send_packet(host, packet);
        let next = (patience * 2).min(LONGEST_RETRY);
        self.order_after(patience, index, Order::TryAgain { attempt, patience: next });
    }

    /// An attempt to connect has been out for a while.
    pub(super) fn try_again(&mut self, index: usize, attempt: u32, patience: Duration) {
        let node = &self.nodes[index];
        if node.attempt == attempt && !node.welcomed {
            self.say_hello(index, attempt, patience);
        }
    }

    pub(super) fn on_hello(&mut self, index: usize, attempt: u32, observed: SocketAddr) {
        if self.nodes[index].attempt == attempt && !self.server_of(index).away {
            self.order(index, Order::Welcome { observed, attempt });
        }
    }

    /// Lets something happen now. Whether it changed anything.
    pub fn apply(&mut self, change: Change) -> bool {
        let changes = self.net.apply(change);
        if changes {
            self.changed(change);
        }
        changes
    }

    /// Something has happened to the network: what machines notice of it.
    pub(super) fn changed(&mut self, change: Change) {
        let at = self.now();
        if let Some(notes) = &mut self.notes {
            notes.push(Note::Changed { at, change });
        }
        let on = |world: &Self, host: HostId| world.node_on(host);
        match change {
            Change::Roam(host, _) if self.net.state(host) != HostState::Running => {
                if let Some(index) = on(self, host) {
                    self.nodes[index].moved_asleep = true;
                }
            }
            Change::Roam(host, _) | Change::Start(host) => {
                if let Some(index) = on(self, host) {
                    self.connect(index);
                }
            }
            Change::Resume(host) => {
                if let Some(index) = on(self, host) {
                    self.go_on(index);
                }
            }
            Change::Kill(host) => {
                if let Some(index) = on(self, host) {
                    self.forget(index);
                }
            }
            Change::NatReboot(_)
            | Change::LinkDown(_)
            | Change::LinkUp(_)
            | Change::UplinkDown(_)
            | Change::UplinkUp(_)
            | Change::Suspend(_) => {}
        }
    }

    /// The timers that were due while the machine stood still are due now, and its driver sees where it
    /// is.
    fn go_on(&mut self, index: usize) {
        if self.nodes[index].moved_asleep {
            self.connect(index);
        }
        self.input(index, Input::Wakeup);
        let sessions: Vec<_> = self.nodes[index].sessions.keys().copied().collect();
        for key in sessions {
            self.tick(index, key);
        }
    }

    /// The machine has lost its power: what starts again knows nothing but its name.
    fn forget(&mut self, index: usize) {
        let life = self.nodes[index].life + 1;
        let node = Node::new(self.config(index, life), self.start + self.now());
        let VirtualNode { id, host, server, attempt, .. } = self.nodes[index];
        let fresh = VirtualNode { life, attempt, ..VirtualNode::new(node, id, host, server) };
        let old = std::mem::replace(&mut self.nodes[index], fresh);
        for session in old.sessions.into_values() {
            self.slots.give_back(session.slot);
        }
        self.nodes[index].candidates = old.candidates;
        self.timers.set(index, None);
    }
}
