//! What the first worker keeps of the sessions that other workers have.

use std::collections::HashMap;
use std::sync::Arc;

use overlay_core::{MeshId, Output, SessionKey, WireGuardKey};

use super::super::crew::Order;
use super::super::mesh::Place;
use super::super::session::{Counts, Role, Selected};
use super::{Plane, SessionNames};

/// The sessions of other workers.
#[derive(Default)]
pub(super) struct Away {
    sessions: HashMap<SessionKey, Session>,
    tickets: u32,
}

struct Session {
    place: Place,
    index: u16,
    peer_key: WireGuardKey,
    counts: Arc<Counts>,
}

impl Away {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &SessionKey> {
        self.sessions.keys()
    }

    pub(super) fn sessions_of(&self, mesh: MeshId) -> Vec<SessionKey> {
        self.keys().filter(|key| key.mesh == mesh).copied().collect()
    }

    pub(super) fn counts(&self, key: SessionKey) -> Option<&Arc<Counts>> {
        Some(&self.sessions.get(&key)?.counts)
    }
}

impl Plane {
    /// Gives what concerns another worker's peers to it, and notes what the first one must know; returns what is
    /// for this one.
    pub(in crate::worker) fn delegate(&mut self, output: Output) -> Option<Output> {
        if self.crew.is_empty() {
            return Some(output);
        }
        let peer = match output {
            Output::AddSession { session, .. }
            | Output::RemoveSession(session)
            | Output::Initiate { session, .. }
            | Output::Probe { session, .. }
            | Output::OpenPort { session, .. } => session.peer,
            Output::UsePath { peer, .. } | Output::RouteMtu { peer, .. } => peer,
            Output::RelayWidth { path, whole } => {
                self.crew.order_all(|| Order::Core(Output::RelayWidth { path, whole }));
                return Some(output);
            }
            Output::ClosePorts { to, all } => {
                self.crew.order_all(|| Order::Core(Output::ClosePorts { to, all }));
                return Some(output);
            }
            Output::Transmit { .. }
            | Output::Announce(_)
            | Output::RelaysMeasured(_)
            | Output::RelaySilent(_)
            | Output::PairChanged(..) => return Some(output),
        };
        let owner = self.share.owner(peer);
        if self.share.is_own(owner) {
            return Some(output);
        }
        if let Output::AddSession { session, peer_key, index, initiator, lazy } = output {
            let role = Role { initiator, lazy };
            self.note_away(owner, SessionNames { key: session, peer_key, index, role });
            return None;
        }
        if let Output::RemoveSession(key) = output {
            self.forget_away(key);
        }
        if let Output::UsePath { peer, primary, also } = output {
            // For the owner's pings.
            self.remember_path(peer, Selected { primary, also });
        }
        self.crew.order(owner, Order::Core(output));
        None
    }

    fn note_away(&mut self, number: u32, names: SessionNames) {
        self.forget_away(names.key);
        let SessionNames { key, peer_key, index, .. } = names;
        let place = Place::There { number, ticket: self.away.tickets };
        self.away.tickets = self.away.tickets.wrapping_add(1);
        let Some(mesh) = self.mesh(key.mesh) else { return };
        mesh.add_member(index, peer_key, place);
        let counts = Arc::<Counts>::default();
        self.crew.order(number, Order::AddSession(names, Arc::clone(&counts)));
        self.away.sessions.insert(key, Session { place, index, peer_key, counts });
    }

    pub(super) fn forget_away(&mut self, key: SessionKey) {
        let Some(session) = self.away.sessions.remove(&key) else { return };
        let Session { place, index, peer_key, counts } = session;
        if let Some(mesh) = self.mesh(key.mesh) {
            mesh.remove_member(index, peer_key, place);
            mesh.keep_counts(key.peer, &counts);
        }
    }
}
