//! The registry under its lock, and the connections that its outputs go to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use overlay_core::NodeId;
use overlay_core::control::ToNode;
use quinn::Connection;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::connection::{CLOSE_REPLACED, CLOSE_SLOW, CLOSE_TOLD};
use crate::rendezvous::registry::{Output, Registry, RelaySite, RendezvousEvent};

/// Everything that connections and handles share. The lock is never held across an await.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The registry wants to be woken at another time than before.
    pub(super) alarm_changed: Notify,
    pub(super) ended: CancellationToken,
}

struct State {
    registry: Registry,
    links: BTreeMap<NodeId, Link>,
    /// The current connection of each relay.
    relays: BTreeMap<NodeId, Connection>,
    events: mpsc::Sender<RendezvousEvent>,
    alarm: Option<Instant>,
}

/// A connected node's current connection.
struct Link {
    connection: Connection,
    queue: mpsc::Sender<ToNode>,
}

impl Shared {
    pub(super) fn new(registry: Registry, events: mpsc::Sender<RendezvousEvent>) -> Self {
        let state = State {
            registry,
            links: BTreeMap::new(),
            relays: BTreeMap::new(),
            events,
            alarm: None,
        };
        Self {
            state: Mutex::new(state),
            alarm_changed: Notify::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Changes the registry and does what it asks for.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        self.with_state(|state| change(&mut state.registry))
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.lock().registry)
    }

    /// When the registry wants to be woken.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.lock().alarm
    }

    /// Makes this the connection of that node, in place of a former one.
    pub(super) fn attach(
        &self,
        node: NodeId,
        observed: SocketAddr,
        connection: Connection,
        queue: mpsc::Sender<ToNode>,
    ) {
        self.with_state(|state| {
            if let Some(former) = state.links.insert(node, Link { connection, queue }) {
                former.connection.close(CLOSE_REPLACED, b"this node has connected again");
            }
            state.registry.handle_connected(node, observed);
        });
    }

    /// Does something on behalf of a connection, if it is still the one of its node.
    pub(super) fn change_for(
        &self,
        node: NodeId,
        connection: &Connection,
        change: impl FnOnce(&mut Registry),
    ) {
        self.with_state(|state| {
            if state.is_current(node, connection) {
                change(&mut state.registry);
            }
        });
    }

    /// The connection has ended.
    pub(super) fn detach(&self, node: NodeId, connection: &Connection) {
        self.with_state(|state| {
            if state.is_current(node, connection) {
                state.links.remove(&node);
                state.registry.handle_disconnected(node);
            }
        });
    }

    /// Makes this the connection of that relay, in place of a former one. False: it is one too many.
    pub(super) fn attach_relay(
        &self,
        relay: NodeId,
        site: RelaySite,
        connection: Connection,
    ) -> bool {
        self.with_state(|state| {
            if !state.registry.handle_relay(relay, site) {
                return false;
            }
            if let Some(former) = state.relays.insert(relay, connection) {
                former.close(CLOSE_REPLACED, b"this relay has connected again");
            }
            true
        })
    }

    /// The connection has ended.
    pub(super) fn detach_relay(&self, relay: NodeId, connection: &Connection) {
        self.with_state(|state| {
            let current = state.relays.get(&relay).map(Connection::stable_id);
            if current == Some(connection.stable_id()) {
                state.relays.remove(&relay);
                state.registry.handle_relay_gone(relay);
            }
        });
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        for output in state.registry.drain() {
            state.carry_out(output);
        }
        let alarm = state.registry.next_wakeup();
        if state.alarm != alarm {
            state.alarm = alarm;
            self.alarm_changed.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_current(&self, node: NodeId, connection: &Connection) -> bool {
        let current = self.links.get(&node).map(|link| link.connection.stable_id());
        current == Some(connection.stable_id())
    }

    fn carry_out(&self, output: Output) {
        match output {
            Output::Send(node, message) => {
                if let Some(link) = self.links.get(&node)
                    && link.queue.try_send(message).is_err()
                {
                    link.connection.close(CLOSE_SLOW, b"this node reads too slowly");
                }
            }
            Output::Disconnect(node, reason) => {
                if let Some(link) = self.links.get(&node) {
                    tracing::debug!(%node, %reason, "closing a control connection");
                    link.connection.close(CLOSE_TOLD, reason.as_bytes());
                }
            }
            Output::Event(event) => match self.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    tracing::error!(?event, "the coordinator does not take the rendezvous' events");
                }
            },
        }
    }
}
