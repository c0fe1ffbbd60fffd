//! One network: its members, and how far its pairs are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlay_core::control::PairReport;
use overlay_core::netmap::NETMAP_VERSION;
use overlay_core::{Member, MemberKeys, MeshId, Netmap, NodeId, Pattern, RttTable};
use overlay_relay::Moment;

use super::{LaunchError, LaunchMember};

/// How long an established network waits for pairs that still look for a better path. Chosen: a
/// search settles within 3.5 s of its session (scenario test of overlay-core), so that this only cuts
/// off slow links; a direct path that is found later is taken without loss.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// The longest [`PairReport::explain`] that is kept, bytes.
const MAX_EXPLAIN: usize = 300;

/// How often a member may come back with another key: each time all members get a new netmap. Chosen:
/// keys live as long as the job's part does, so once is rare.
const MAX_KEY_CHANGES: u32 = 16;

pub(super) struct MeshMember {
    pub(super) node: NodeId,
    pub(super) name: String,
    /// None until it joins.
    pub(super) keys: Option<MemberKeys>,
    key_changes: u32,
    pub(super) has_left: bool,
    /// Its part of the job is over; it may stay, to answer its peers to the last.
    pub(super) has_ended: bool,
}

/// What a request to join leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JoinOutcome {
    /// Not a member, with the reason for people.
    Refused(String),
    /// Others are still missing.
    Waiting,
    /// It was the last: the netmap can be issued.
    Complete,
    /// It is known, and wants to be told again.
    Again,
    /// It comes back with another key: the netmap has a new epoch.
    NewKey,
}

pub(super) struct Mesh {
    /// In the order of their ranks.
    members: Vec<MeshMember>,
    ranks: BTreeMap<NodeId, u16>,
    /// Which pairs it waits for; the others are connected with their first packet.
    pattern: Pattern,
    /// Ordered pairs that it waits for.
    awaited: usize,
    /// The latest report of each ordered pair, by the ranks of reporter and peer.
    pairs: BTreeMap<(u16, u16), PairReport>,
    /// Of the awaited ones.
    established: usize,
    settled: usize,
    /// Since when every awaited pair has been established.
    established_since: Option<Instant>,
    /// 0 until the netmap is issued.
    epoch: u64,
    opened_at_ms: Option<u64>,
    closed: Option<String>,
}

impl Mesh {
    pub(super) fn new(members: Vec<LaunchMember>, pattern: Pattern) -> Result<Self, LaunchError> {
        let mut ranks = BTreeMap::new();
        for (rank, member) in (0u16..).zip(&members) {
            if ranks.insert(member.node, rank).is_some() {
                return Err(LaunchError::Duplicate(member.node));
            }
        }
        let awaited = 2 * pattern.pairs(members.len()).len();
        let members = members
            .into_iter()
            .map(|LaunchMember { node, name }| MeshMember {
                node,
                name,
                keys: None,
                key_changes: 0,
                has_left: false,
                has_ended: false,
            })
            .collect();
        Ok(Self {
            members,
            ranks,
            pattern,
            awaited,
            pairs: BTreeMap::new(),
            established: 0,
            settled: 0,
            established_since: None,
            epoch: 0,
            opened_at_ms: None,
            closed: None,
        })
    }

    pub(super) fn join(&mut self, node: NodeId, keys: MemberKeys) -> JoinOutcome {
        if let Some(reason) = &self.closed {
            return JoinOutcome::Refused(reason.clone());
        }
        let Some(rank) = self.ranks.get(&node).copied() else {
            return JoinOutcome::Refused("this node is not a member of that network".to_owned());
        };
        let same = |other: &MeshMember| other.keys.is_some_and(|o| o.wireguard == keys.wireguard);
        if self.members.iter().any(|other| other.node != node && same(other)) {
            // Keys route packets: two members with one key would get each other's.
            return JoinOutcome::Refused("another member uses that key".to_owned());
        }
        let Some(member) = self.members.get_mut(usize::from(rank)) else {
            return JoinOutcome::Refused("this node is not a member of that network".to_owned());
        };
        if self.epoch > 0 && member.keys != Some(keys) {
            if member.key_changes >= MAX_KEY_CHANGES {
                return JoinOutcome::Refused(
                    "this member has changed its key too often".to_owned(),
                );
            }
            member.key_changes += 1;
        }
        // Its agent may have ended in good order and be back for a job that goes on.
        member.has_left = false;
        let is_known = member.keys.replace(keys) == Some(keys);
        if self.epoch == 0 {
            if self.members.iter().any(|member| member.keys.is_none()) {
                return JoinOutcome::Waiting;
            }
            self.epoch = 1;
            return JoinOutcome::Complete;
        }
        if is_known {
            return JoinOutcome::Again;
        }
        self.epoch += 1;
        if self.opened_at_ms.is_none() {
            self.forget_reports(rank);
        }
        JoinOutcome::NewKey
    }

    pub(super) fn has_left(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node && member.has_left)
    }

    /// Whether that was news.
    pub(super) fn leave(&mut self, node: NodeId) -> bool {
        let member = self.members.iter_mut().find(|member| member.node == node);
        member.is_some_and(|member| !std::mem::replace(&mut member.has_left, true))
    }

    /// A member's part of the job is over, or it is back. Whether that is news to the others.
    pub(super) fn set_ended(&mut self, node: NodeId, ended: bool) -> bool {
        let is_running = self.opened_at_ms.is_some() && self.closed.is_none();
        let member = self.members.iter_mut().find(|member| member.node == node);
        let changed =
            |member: &mut MeshMember| std::mem::replace(&mut member.has_ended, ended) != ended;
        member.is_some_and(changed) && is_running
    }

    /// What the pairs have measured.
    pub(super) fn rtt(&self) -> RttTable {
        let rank = |rank: usize| u16::try_from(rank).unwrap_or(u16::MAX);
        RttTable::new(self.members.len(), |from, to| {
            self.pairs.get(&(rank(from), rank(to))).and_then(|report| report.rtt_us)
        })
    }

    /// Takes a member's reports, also after the end: those are the final ones.
    pub(super) fn report(&mut self, now: Moment, node: NodeId, reports: Vec<PairReport>) {
        let Some(from) = self.ranks.get(&node).copied().filter(|_| self.epoch > 0) else { return };
        for mut report in reports {
            let Some(to) = self.ranks.get(&report.peer).copied().filter(|to| *to != from) else {
                continue;
            };
            let end = report.explain.floor_char_boundary(MAX_EXPLAIN);
            report.explain.truncate(end);
            self.count((from, to), &report, 1);
            if let Some(former) = self.pairs.insert((from, to), report) {
                self.count((from, to), &former, -1);
            }
        }
        self.date_establishment(now.instant);
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let is_settled = self.settled == self.awaited;
        self.opens_at().is_some_and(|at| is_settled || at <= now)
            || (self.is_awaited() && self.awaited == 0)
    }

    /// When the network opens at the latest, once every pair is established.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.established_since.filter(|_| self.is_awaited()).map(|since| since + SETTLE_PATIENCE)
    }

    pub(super) fn open(&mut self, now: Moment) {
        self.opened_at_ms = Some(now.unix_ms);
    }

    pub(super) fn close(&mut self, reason: &str) {
        self.closed = Some(reason.to_owned());
    }

    /// The netmap of the current epoch, once all have joined.
    pub(super) fn netmap(&self, mesh: MeshId, era: u64) -> Option<Netmap> {
        if self.epoch == 0 {
            return None;
        }
        let member = |(index, member): (u16, &MeshMember)| {
            let MemberKeys { wireguard: wireguard_key, host: host_key } = member.keys?;
            let (node, name) = (member.node, member.name.clone());
            Some(Member { index, node, name, wireguard_key, host_key })
        };
        let members = (0u16..).zip(&self.members).filter_map(member).collect();
        Some(Netmap {
            version: NETMAP_VERSION,
            mesh,
            era,
            epoch: self.epoch,
            members,
            pattern: (self.pattern != Pattern::All).then_some(self.pattern),
            signature: None,
        })
    }

    pub(super) fn is_launch_of(&self, members: &[LaunchMember], pattern: Pattern) -> bool {
        let known = self.members.iter().map(|known| (known.node, &known.name));
        self.pattern == pattern
            && known.eq(members.iter().map(|member| (member.node, &member.name)))
    }

    pub(super) fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Whether the network opens only when these two have a path.
    pub(super) fn awaits(&self, a: u16, b: u16) -> bool {
        self.pattern.joins(a.into(), b.into(), self.members.len())
    }

    pub(super) fn members(&self) -> &[MeshMember] {
        &self.members
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().map(|member| member.node)
    }

    /// The members that have not left.
    pub(super) fn present(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|member| !member.has_left).map(|member| member.node)
    }

    pub(super) fn pairs(&self) -> &BTreeMap<(u16, u16), PairReport> {
        &self.pairs
    }

    pub(super) fn reported(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn is_issued(&self) -> bool {
        self.epoch > 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(super) fn opened_at_ms(&self) -> Option<u64> {
        self.opened_at_ms
    }

    /// Linking: the netmap is out, and it is not open yet.
    fn is_awaited(&self) -> bool {
        self.epoch > 0 && self.opened_at_ms.is_none() && self.closed.is_none()
    }

    fn forget_reports(&mut self, rank: u16) {
        let old = self.pairs.extract_if(.., |(from, to), _| *from == rank || *to == rank);
        for (pair, report) in old.collect::<Vec<_>>() {
            self.count(pair, &report, -1);
        }
        self.established_since = None;
    }

    fn count(&mut self, (from, to): (u16, u16), report: &PairReport, by: isize) {
        if self.awaits(from, to) && report.established {
            self.established = self.established.saturating_add_signed(by);
            if report.settled {
                self.settled = self.settled.saturating_add_signed(by);
            }
        }
    }

    fn date_establishment(&mut self, now: Instant) {
        if self.established < self.awaited {
            self.established_since = None;
        } else {
            self.established_since.get_or_insert(now);
        }
    }
}
