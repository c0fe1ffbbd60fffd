//! Which messages bring the coordinator up to date, on one connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlay_core::control::ToCoordinator;
use overlay_core::{MemberKeys, MeshId};

use super::board::BoardState;

/// The least time between two reports of one mesh.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// What one connection has been told so far.
#[derive(Default)]
pub(super) struct Outgoing {
    candidates: Option<u64>,
    relays: u64,
    meshes: BTreeMap<MeshId, Told>,
}

struct Told {
    keys: MemberKeys,
    revision: u64,
    at: Option<Instant>,
}

impl Outgoing {
    /// The messages that are due, and when to look again although the board has not changed.
    pub(super) fn due(
        &mut self,
        now: Instant,
        board: &mut BoardState,
    ) -> (Vec<ToCoordinator>, Option<Instant>) {
        let mut messages = Vec::new();
        let mut again: Option<Instant> = None;
        for (mesh, pairs) in board.left.drain(..) {
            messages.push(ToCoordinator::LeaveMesh { mesh, pairs });
        }
        self.meshes.retain(|mesh, told| {
            board.meshes.get(mesh).is_some_and(|joined| joined.keys == told.keys)
        });
        if let Some(candidates) = &board.candidates
            && self.candidates != Some(candidates.sequence)
        {
            self.candidates = Some(candidates.sequence);
            messages.push(ToCoordinator::Candidates(candidates.clone()));
        }
        let (revision, measured) = &board.relays;
        if *revision != self.relays {
            self.relays = *revision;
            messages.push(ToCoordinator::Relays { measured: measured.clone() });
        }
        for (&mesh, joined) in &board.meshes {
            let told = self.meshes.entry(mesh).or_insert_with(|| {
                let MemberKeys { wireguard: wireguard_key, host: host_key } = joined.keys;
                messages.push(ToCoordinator::JoinMesh { mesh, wireguard_key, host_key });
                Told { keys: joined.keys, revision: 0, at: None }
            });
            if told.revision == joined.revision {
                continue;
            }
            let allowed = told.at.map_or(now, |at| at + REPORT_INTERVAL);
            if allowed <= now {
                told.revision = joined.revision;
                told.at = Some(now);
                messages.push(ToCoordinator::Pairs { mesh, pairs: joined.pairs.clone() });
            } else {
                again = Some(again.map_or(allowed, |other| other.min(allowed)));
            }
        }
        (messages, again)
    }
}

#[cfg(test)]
mod tests {
    use overlay_core::control::{PairReport, PathReport};
    use overlay_core::{MeasuredRelay, NodeCandidates, NodeId, WireGuardKey};

    use super::*;

    const MESH: MeshId = MeshId { job: 1, generation: 1 };
    const KEY: MemberKeys = MemberKeys { wireguard: WireGuardKey([1; 32]), host: None };

    fn report(sent_bytes: u64) -> Vec<PairReport> {
        vec![PairReport {
            peer: NodeId([2; 32]),
            established: true,
            settled: false,
            path: PathReport::None,
            rtt_us: None,
            sent_bytes,
            received_bytes: 0,
            established_after_ms: None,
            explain: String::new(),
            activity: Default::default(),
        }]
    }

    #[test]
    fn a_new_connection_hears_everything_once() {
        let now = Instant::now();
        let mut board = BoardState {
            candidates: Some(NodeCandidates {
                node: NodeId([9; 32]),
                sequence: 3,
                mapping: Default::default(),
                nat: Default::default(),
                activity: Default::default(),
                candidates: Vec::new(),
            }),
            ..Default::default()
        };
        board.join(MESH, KEY);
        board.report(MESH, report(1));
        for _ in 0..2 {
            let mut outgoing = Outgoing::default();
            let (messages, again) = outgoing.due(now, &mut board);
            assert!(matches!(
                messages[..],
                [
                    ToCoordinator::Candidates(_),
                    ToCoordinator::JoinMesh { .. },
                    ToCoordinator::Pairs { .. }
                ]
            ));
            assert_eq!(again, None);
            assert!(outgoing.due(now, &mut board).0.is_empty());
        }
    }

    #[test]
    fn order_of_the_relays_is_told_once_to_each_connection() {
        let now = Instant::now();
        let mut board = BoardState::default();
        let measured = vec![MeasuredRelay { relay: NodeId([3; 32]), rtt_us: 20_000 }];
        board.measured(measured.clone());
        for _ in 0..2 {
            let mut outgoing = Outgoing::default();
            let (messages, _) = outgoing.due(now, &mut board);
            assert_eq!(messages, [ToCoordinator::Relays { measured: measured.clone() }]);
            assert!(outgoing.due(now, &mut board).0.is_empty());
        }
    }

    #[test]
    fn reports_are_at_least_200_ms_apart() {
        let now = Instant::now();
        let mut board = BoardState::default();
        let mut outgoing = Outgoing::default();
        board.join(MESH, KEY);
        board.report(MESH, report(1));
        assert_eq!(outgoing.due(now, &mut board).0.len(), 2);

        board.report(MESH, report(2));
        board.report(MESH, report(3));
        let (messages, again) = outgoing.due(now, &mut board);
        assert!(messages.is_empty());
        assert_eq!(again, Some(now + REPORT_INTERVAL));

        let (messages, again) = outgoing.due(now + REPORT_INTERVAL, &mut board);
        assert_eq!(messages, [ToCoordinator::Pairs { mesh: MESH, pairs: report(3) }]);
        assert_eq!(again, None);
    }

    #[test]
    fn a_coordinator_that_was_started_anew_is_told_what_has_not_changed() {
        let now = Instant::now();
        let mut board = BoardState::default();
        let mut outgoing = Outgoing::default();
        board.join(MESH, KEY);
        board.report_again(MESH);
        assert_eq!(outgoing.due(now, &mut board).0.len(), 1, "there is nothing to report");
        board.report(MESH, report(1));
        assert_eq!(outgoing.due(now, &mut board).0.len(), 1);

        board.report(MESH, report(1));
        let later = now + REPORT_INTERVAL;
        assert!(outgoing.due(later, &mut board).0.is_empty());
        board.report_again(MESH);
        let (messages, _) = outgoing.due(later, &mut board);
        assert_eq!(messages, [ToCoordinator::Pairs { mesh: MESH, pairs: report(1) }]);
    }

    #[test]
    fn leaving_sends_the_final_report_and_a_new_key_joins_again() {
        let now = Instant::now();
        let mut board = BoardState::default();
        let mut outgoing = Outgoing::default();
        board.join(MESH, KEY);
        assert_eq!(outgoing.due(now, &mut board).0.len(), 1);

        board.leave(MESH, report(5));
        board.join(MESH, MemberKeys { wireguard: WireGuardKey([7; 32]), host: None });
        let (messages, _) = outgoing.due(now, &mut board);
        assert!(matches!(
            messages[..],
            [ToCoordinator::LeaveMesh { .. }, ToCoordinator::JoinMesh { .. }]
        ));
    }
}
