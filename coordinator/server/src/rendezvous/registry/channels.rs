//! Relay channels: one per pair of nodes, for as long as a network holds both, and their tickets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::wire::format_hex;
use overlay_core::{MeshId, NodeId, RelayTicket};
use overlay_relay::{Moment, RelayKeys, issue_ticket};
use rand::Rng;

/// How long a ticket is valid. Chosen: relays that run alone carry the pairs through an outage of the
/// coordinator of nearly that long; a stolen ticket is good for one channel and a few bytes at most.
pub(super) const TICKET_LIFE: Duration = Duration::from_secs(12 * 3600);

/// After so long tickets are renewed.
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(3600);

/// Two nodes, the lower first.
pub(super) type Pair = (NodeId, NodeId);

struct Channel {
    number: u32,
    users: BTreeSet<MeshId>,
    expires_unix: u64,
    renew_at: Instant,
    /// Where the pair has tickets.
    relays: Vec<NodeId>,
}

#[derive(Default)]
pub(super) struct Channels {
    channels: BTreeMap<Pair, Channel>,
    /// The other ends of each node's channels.
    peers: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// The pairs that a network uses channels of.
    used_by: BTreeMap<MeshId, BTreeSet<Pair>>,
    numbers: BTreeSet<u32>,
    renewals: BTreeSet<(Instant, Pair)>,
}

impl Channels {
    /// Makes sure that the pair has a channel until `mesh` is released.
    pub(super) fn acquire(&mut self, now: Moment, rng: &mut impl Rng, pair: Pair, mesh: MeshId) {
        let pair = ordered(pair);
        let numbers = &mut self.numbers;
        let renewals = &mut self.renewals;
        let channel = self.channels.entry(pair).or_insert_with(|| {
            let number = loop {
                let number = rng.random();
                if numbers.insert(number) {
                    break number;
                }
            };
            let renew_at = now.instant + RENEW_AFTER;
            renewals.insert((renew_at, pair));
            let users = BTreeSet::new();
            Channel { number, users, expires_unix: expiry(now), renew_at, relays: Vec::new() }
        });
        channel.users.insert(mesh);
        self.used_by.entry(mesh).or_default().insert(pair);
        for (node, peer) in both(pair) {
            self.peers.entry(node).or_default().insert(peer);
        }
    }

    /// Forgets the channels that only `mesh` used.
    pub(super) fn release(&mut self, mesh: MeshId) {
        for pair in self.used_by.remove(&mesh).unwrap_or_default() {
            let Some(channel) = self.channels.get_mut(&pair) else { continue };
            channel.users.remove(&mesh);
            if !channel.users.is_empty() {
                continue;
            }
            self.numbers.remove(&channel.number);
            self.renewals.remove(&(channel.renew_at, pair));
            self.channels.remove(&pair);
            for (node, peer) in both(pair) {
                if let Some(peers) = self.peers.get_mut(&node) {
                    peers.remove(&peer);
                    if peers.is_empty() {
                        self.peers.remove(&node);
                    }
                }
            }
        }
    }

    /// Prolongs what is due; the pairs need new tickets.
    pub(super) fn renew_due(&mut self, now: Moment) -> Vec<Pair> {
        let mut due = Vec::new();
        while let Some((renew_at, pair)) = self.renewals.first().copied()
            && renew_at <= now.instant
        {
            self.renewals.remove(&(renew_at, pair));
            if let Some(channel) = self.channels.get_mut(&pair) {
                channel.expires_unix = expiry(now);
                channel.renew_at = now.instant + RENEW_AFTER;
                self.renewals.insert((channel.renew_at, pair));
                due.push(pair);
            }
        }
        due
    }

    pub(super) fn next_renewal(&self) -> Option<Instant> {
        self.renewals.first().map(|(at, _)| *at)
    }

    /// The pairs that have a channel.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        self.channels.keys().copied().collect()
    }

    /// The pairs of that node.
    pub(super) fn pairs_of(&self, node: NodeId) -> Vec<Pair> {
        self.peers.get(&node).into_iter().flatten().map(|peer| ordered((node, *peer))).collect()
    }

    /// Where the pair has tickets.
    pub(super) fn relays(&self, pair: Pair) -> &[NodeId] {
        self.channels.get(&ordered(pair)).map_or(&[], |channel| &channel.relays)
    }

    /// From now on the pair has tickets for those relays; which are new.
    pub(super) fn set_relays(&mut self, pair: Pair, relays: Vec<NodeId>) -> Vec<NodeId> {
        let Some(channel) = self.channels.get_mut(&ordered(pair)) else { return Vec::new() };
        let former = std::mem::replace(&mut channel.relays, relays);
        channel.relays.iter().filter(|relay| !former.contains(relay)).copied().collect()
    }

    /// The ticket that lets `node` reach `peer` through a relay with those keys, if they have a channel.
    pub(super) fn ticket(
        &self,
        keys: &RelayKeys,
        relay: SocketAddr,
        node: NodeId,
        peer: NodeId,
    ) -> Option<RelayTicket> {
        let channel = self.channels.get(&ordered((node, peer)))?;
        let side = u8::from(node > peer);
        let sealed = issue_ticket(keys, channel.number, side, channel.expires_unix);
        Some(RelayTicket {
            peer,
            relay,
            channel: channel.number,
            expires_unix: channel.expires_unix,
            sealed: format_hex(&sealed),
        })
    }
}

fn both((a, b): Pair) -> [Pair; 2] {
    [(a, b), (b, a)]
}

pub(super) fn ordered((a, b): Pair) -> Pair {
    if a < b { (a, b) } else { (b, a) }
}

fn expiry(now: Moment) -> u64 {
    now.unix_s() + TICKET_LIFE.as_secs()
}
