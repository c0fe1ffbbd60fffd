//! How the pairs stand, for the coordinator, the agent and whoever observes.
//!
//! Only what changed is made anew: a member of a job of hundreds talks with a few of them.

use std::mem;
use std::time::{Duration, Instant};

use overlay_core::control::PairReport;
use overlay_core::ladder::Rung;
use overlay_core::{MeshId, NodeId, PairState, Path, SessionKey};

use super::super::mesh::{Pair, Told};
use super::Plane;
use crate::observe::{self, Observed};

/// How often reports are made anew of which nothing but byte counts changed.
const REPORT_REFRESH: Duration = Duration::from_secs(1);

/// How often an observer is told how the pairs stand, and how often where a mesh has many of them.
/// Chosen: finer than a reader of a figure sees, and no more than a disk takes beside other work.
const OBSERVE_EVERY: Duration = Duration::from_millis(200);
const OBSERVE_MANY_EVERY: Duration = Duration::from_millis(500);
/// More pairs of one mesh than this are many.
const MANY_PAIRS: usize = 32;

impl Plane {
    pub(in crate::worker) fn pair_changed(&mut self, key: SessionKey, state: PairState) {
        let is_observed = self.observer.is_some();
        let Some(port) = self.mesh(key.mesh) else { return };
        port.stale.insert(key.peer);
        let before = port.pairs.entry(key.peer).or_default().state.replace(state.clone());
        if !is_observed || !observe::is_news(before.as_ref(), &state) {
            return;
        }
        let mut members = port.netmap.iter().flat_map(|netmap| &netmap.members);
        let member = members.find(|member| member.node == key.peer);
        let member = member.map(|member| (member.name.clone(), member.index));
        let PairReport { path, rtt_us, .. } = state.report(key.peer, 0, 0);
        let reason = observe::reason(&state, path);
        let (mesh, peer) = (key.mesh, key.peer);
        self.observe(|| Observed::Path { mesh, peer, member, path, rtt_us, reason });
    }

    /// How the pairs of a mesh stand, with the bytes counted so far.
    pub(in crate::worker) fn pairs(&self, id: MeshId) -> Vec<PairReport> {
        let mesh = self.mesh_slots.get(&id).and_then(|slot| self.meshes.get(*slot));
        let pairs = mesh.into_iter().flat_map(|mesh| &mesh.pairs);
        let report = |(peer, pair): (&NodeId, &Pair)| {
            self.report(SessionKey { mesh: id, peer: *peer }, pair).map(|(report, _)| report)
        };
        pairs.filter_map(report).collect()
    }

    /// How a pair stands; none before the core has said so.
    fn report(&self, key: SessionKey, pair: &Pair) -> Option<(PairReport, Told)> {
        let state = pair.state.as_ref()?;
        let told = self.figures(key, pair);
        let mut report = state.report(key.peer, told.sent, told.received);
        if let Some(rung) = told.rung {
            report.explain = explain_way(rung, &report.explain);
        }
        Some((report, told))
    }

    /// What changes without the core's knowing.
    fn figures(&self, key: SessionKey, pair: &Pair) -> Told {
        let session = self.sessions.of_key(key).map(|session| &session.counts);
        let counts = session.or_else(|| self.away.counts(key));
        let (sent, received) = counts.map_or((0, 0), |counts| counts.read());
        let detour = self.net.socket.detour();
        let path = pair.state.as_ref().and_then(|state| state.path);
        let is_relayed = |path: &Path| matches!(path, Path::Relayed { .. });
        let relay = path.filter(is_relayed).filter(|_| detour.is_open());
        Told {
            sent: pair.sent_before + sent,
            received: pair.received_before + received,
            rung: relay.and_then(|path| detour.leads_to(path.endpoint())),
        }
    }

    /// Puts the reports that changed on the board.
    pub(in crate::worker) fn publish(&mut self, now: Instant) {
        let refresh = now.duration_since(self.refreshed) >= REPORT_REFRESH;
        if refresh {
            self.refreshed = now;
        }
        let stale: Vec<MeshId> = self
            .meshes
            .iter()
            .filter(|(_, mesh)| refresh || !mesh.stale.is_empty())
            .map(|(_, mesh)| mesh.id)
            .collect();
        for id in stale {
            self.publish_mesh(id, refresh);
        }
    }

    /// Puts a mesh's reports on the board that changed; with `refresh`, also those whose counts did.
    pub(in crate::worker) fn publish_mesh(&mut self, id: MeshId, refresh: bool) {
        let Some(&slot) = self.mesh_slots.get(&id) else { return };
        let Some(mesh) = self.meshes.get_mut(slot) else { return };
        let mut peers = mem::take(&mut mesh.stale);
        let Some(mesh) = self.meshes.get(slot) else { return };
        if refresh {
            let differs = |(peer, pair): &(&NodeId, &Pair)| {
                let key = SessionKey { mesh: id, peer: **peer };
                self.figures(key, pair) != pair.told
            };
            peers.extend(mesh.pairs.iter().filter(differs).map(|(peer, _)| *peer));
        }
        let report =
            |peer: NodeId| self.report(SessionKey { mesh: id, peer }, mesh.pairs.get(&peer)?);
        let (reports, told): (Vec<_>, Vec<_>) = peers.into_iter().filter_map(report).unzip();
        if reports.is_empty() {
            return;
        }
        let Some(mesh) = self.meshes.get_mut(slot) else { return };
        for (report, told) in reports.iter().zip(told) {
            if let Some(pair) = mesh.pairs.get_mut(&report.peer) {
                pair.told = told;
            }
        }
        self.board.update(|board| board.report(id, reports));
    }

    /// When [`tick`](Self::tick) is to be called for the sake of reports: for an observer, and for the counts
    /// of other workers' sessions. This worker's own are seen while their timers run.
    pub(super) fn next_report(&self) -> Option<Instant> {
        let observed = self.observer.as_ref().filter(|_| !self.meshes.is_empty());
        let observed = observed.map(|_| self.observed + self.observe_every());
        let away = (!self.away.is_empty()).then_some(self.refreshed + REPORT_REFRESH);
        [observed, away].into_iter().flatten().min()
    }

    fn observe_every(&self) -> Duration {
        let has_many = self.meshes.iter().any(|(_, mesh)| mesh.pairs.len() > MANY_PAIRS);
        if has_many { OBSERVE_MANY_EVERY } else { OBSERVE_EVERY }
    }

    /// Tells the observer how the pairs stand, if it is time to.
    pub(super) fn observe_pairs(&mut self, now: Instant) {
        if self.observer.is_none() || now.duration_since(self.observed) < self.observe_every() {
            return;
        }
        self.observed = now;
        let slots: Vec<usize> = self.meshes.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(mesh) = self.meshes.get(slot) else { continue };
            let id = mesh.id;
            let seen = |(peer, pair): (&NodeId, &Pair)| {
                let key = SessionKey { mesh: id, peer: *peer };
                let rtt_us = pair.state.as_ref()?.rtt_us;
                let seen = Some((self.figures(key, pair), rtt_us));
                if seen == pair.seen {
                    return None;
                }
                Some((self.report(key, pair)?.0, seen))
            };
            let (pairs, seen): (Vec<_>, Vec<_>) = mesh.pairs.iter().filter_map(seen).unzip();
            let Some(mesh) = self.meshes.get_mut(slot) else { continue };
            for (report, seen) in pairs.iter().zip(seen) {
                if let Some(pair) = mesh.pairs.get_mut(&report.peer) {
                    pair.seen = seen;
                }
            }
            self.observe(|| Observed::Pairs { mesh: id, pairs });
        }
    }
}

/// Why a pair is relayed, and why by that way.
fn explain_way(rung: Rung, explain: &str) -> String {
    if rung.is_stream() {
        // There is no other reason, and nothing else to be done about it.
        return format!(
            "UDP between this node and its relays does not get through: relayed over {rung}"
        );
    }
    format!("{explain} (this node's packets to the relay go in {rung}, since plain UDP does worse)")
}
