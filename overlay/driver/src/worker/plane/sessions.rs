//! The sessions by everything that names them, and when the timers of each run next.
//!
//! What a packet needs is one look-up; what a peer's paths need touches that peer's sessions alone; and a session
//! that rests is looked at every [`REST`] only, one that was never used not at all. So a job of hundreds of
//! nodes costs what those cost that talk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use overlay_core::{MeshId, NodeId, SessionKey};

use super::super::pace::Pace;
use super::super::receivers::Receivers;
use super::super::session::Session;
use super::super::slab::Slab;

/// How often the timers of a session run that is in use (boringtun wants 250 ms at most).
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How often those of one that rests: keys that are too old go a little later, and none are in use.
const REST: Duration = Duration::from_secs(5);

/// The sessions of one worker.
pub(super) struct Sessions {
    slab: Slab<Session>,
    /// By peer first.
    slots: BTreeMap<(NodeId, MeshId), usize>,
    receivers: Receivers,
    due: BTreeSet<(Instant, usize)>,
    /// Those in use have their turns together, at multiples of [`TICK`] from here.
    started: Instant,
}

impl Sessions {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slab: Slab::new(),
            slots: BTreeMap::new(),
            receivers: Receivers::default(),
            due: BTreeSet::new(),
            started: now,
        }
    }

    pub(super) fn insert(&mut self, now: Instant, session: Session) -> usize {
        let (key, receiver) = (session.key, session.receiver);
        let slot = self.slab.insert(session);
        self.slots.insert((key.peer, key.mesh), slot);
        self.receivers.insert(receiver, slot);
        self.schedule(now, slot);
        slot
    }

    pub(super) fn remove(&mut self, key: SessionKey) -> Option<(usize, Session)> {
        let slot = self.slots.remove(&(key.peer, key.mesh))?;
        let session = self.slab.remove(slot)?;
        self.receivers.remove(&session.receiver);
        if let Some(due) = session.due {
            self.due.remove(&(due, slot));
        }
        Some((slot, session))
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Session> {
        self.slab.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.slab.get_mut(slot)
    }

    pub(super) fn slot(&self, key: SessionKey) -> Option<usize> {
        self.slots.get(&(key.peer, key.mesh)).copied()
    }

    pub(super) fn of_key(&self, key: SessionKey) -> Option<&Session> {
        self.slab.get(self.slot(key)?)
    }

    /// The session that handed that receiver index out.
    pub(super) fn of_receiver(&self, receiver: u32) -> Option<usize> {
        self.receivers.get(&receiver).copied()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = SessionKey> {
        self.slots.keys().map(|(peer, mesh)| SessionKey { mesh: *mesh, peer: *peer })
    }

    /// A session with that peer, of the first mesh.
    pub(super) fn with_peer(&self, peer: NodeId) -> Option<SessionKey> {
        let (_, mesh) = *self.slots.range(of(peer)).next()?.0;
        Some(SessionKey { mesh, peer })
    }

    /// Does that with every session with that peer.
    pub(super) fn each_of(&mut self, peer: NodeId, mut act: impl FnMut(&mut Session)) {
        for (_, slot) in self.slots.range(of(peer)) {
            if let Some(session) = self.slab.get_mut(*slot) {
                act(session);
            }
        }
    }

    /// When the first timer is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A session whose timers are due.
    pub(super) fn due(&self, now: Instant) -> Option<usize> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    /// Puts the session where its pace wants it.
    pub(super) fn schedule(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.slab.get_mut(slot) else { return };
        let at = match session.pace(now) {
            Pace::InUse => {
                let turns =
                    (now + TICK).duration_since(self.started).as_millis() / TICK.as_millis();
                Some(self.started + TICK * u32::try_from(turns).unwrap_or(u32::MAX))
            }
            Pace::Resting => Some(now + REST),
            Pace::Unused => None,
        };
        let former = std::mem::replace(&mut session.due, at);
        if former != at {
            if let Some(former) = former {
                self.due.remove(&(former, slot));
            }
            self.due.extend(at.map(|at| (at, slot)));
        }
    }
}

/// Everything of that peer.
fn of(peer: NodeId) -> std::ops::RangeInclusive<(NodeId, MeshId)> {
    let (first, last) =
        (MeshId { job: 0, generation: 0 }, MeshId { job: u64::MAX, generation: u32::MAX });
    (peer, first)..=(peer, last)
}
