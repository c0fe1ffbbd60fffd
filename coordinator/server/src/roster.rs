//! Who is who: nodes by credential and by key, and when each was last heard.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coordinator_core::{NodeNumber, UnixMillis};
use overlay_core::ids::NodeId;

use crate::secret::SecretHash;
use crate::store::NodeRow;

/// The nodes' credentials and keys, in memory: polls never ask the database.
#[derive(Default)]
pub struct Roster {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_credential: HashMap<SecretHash, NodeNumber>,
    credentials: BTreeMap<NodeNumber, SecretHash>,
    by_key: HashMap<NodeId, NodeNumber>,
    keys: BTreeMap<NodeNumber, NodeId>,
    heard: BTreeMap<NodeNumber, UnixMillis>,
}

impl Roster {
    /// Adds a node, or replaces its credential: the old one is worth nothing from now on.
    pub fn insert(&self, row: NodeRow) {
        let mut known = self.known();
        if let Some(old) = known.credentials.insert(row.number, row.credential) {
            known.by_credential.remove(&old);
        }
        known.by_credential.insert(row.credential, row.number);
        known.by_key.insert(row.key, row.number);
        known.keys.insert(row.number, row.key);
    }

    /// Forgets a node: neither its credential nor its key opens anything any more. Answers the key, if it was
    /// known.
    pub fn remove(&self, number: NodeNumber) -> Option<NodeId> {
        let mut known = self.known();
        if let Some(credential) = known.credentials.remove(&number) {
            known.by_credential.remove(&credential);
        }
        known.heard.remove(&number);
        let key = known.keys.remove(&number)?;
        known.by_key.remove(&key);
        Some(key)
    }

    /// The node whose credential has this hash.
    pub fn node_of_credential(&self, credential: &SecretHash) -> Option<NodeNumber> {
        let known = self.known();
        let number = *known.by_credential.get(credential)?;
        known.credentials.get(&number).filter(|it| it.matches(credential)).map(|_| number)
    }

    /// The node with this key.
    pub fn node_of_key(&self, key: &NodeId) -> Option<NodeNumber> {
        self.known().by_key.get(key).copied()
    }

    /// A node's key.
    pub fn key(&self, number: NodeNumber) -> Option<NodeId> {
        self.known().keys.get(&number).copied()
    }

    /// Notes that a node was heard.
    pub fn heard(&self, number: NodeNumber, now: UnixMillis) {
        self.known().heard.insert(number, now);
    }

    /// When the nodes were heard since this was last asked.
    pub fn take_heard(&self) -> Vec<(NodeNumber, UnixMillis)> {
        std::mem::take(&mut self.known().heard).into_iter().collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
