//! From the netmap to the end: readiness, reconnection, closing, reports.

use overlay_core::RttTable;

use super::super::{LaunchError, MemberView, PairView};
use super::*;

fn open() -> RendezvousEvent {
    RendezvousEvent::Open { mesh: MESH }
}

#[test]
fn the_network_opens_when_every_ordered_pair_is_established_and_settled() {
    let mut bench = linking(3);
    assert_eq!(bench.report(1, vec![pair(2, true, true), pair(3, true, true)]), []);
    assert_eq!(bench.report(2, vec![pair(1, true, true), pair(3, true, true)]), []);
    assert_eq!(bench.report(3, vec![pair(1, true, true), pair(2, false, true)]), []);
    let outputs = bench.report(3, vec![pair(2, true, true)]);
    for number in 1..=3 {
        assert_eq!(
            sent(&outputs, number),
            [&ToNode::MeshOpen { mesh: MESH, rtt: RttTable::new(3, |_, _| None) }]
        );
    }
    assert_eq!(events(&outputs), [open()]);
    assert_eq!(bench.registry.view(MESH).unwrap().opened_at_ms, Some(bench.now.unix_ms));
    assert_eq!(bench.report(3, vec![pair(2, true, true)]), [], "it opens once");
}

#[test]
fn a_ring_opens_when_neighbours_have_paths_whatever_the_others_do() {
    let mut bench = linking_by(Pattern::Ring, 5);
    for number in 1..=4 {
        let (before, after) = ((number + 3) % 5 + 1, number % 5 + 1);
        bench.report(number, vec![pair(before, true, true), pair(after, true, true)]);
    }
    // Pairs across count neither for nor against.
    bench.report(1, vec![pair(3, true, true), pair(4, false, false)]);
    assert_eq!(
        bench.registry.blockers(MESH),
        "vol-1 - vol-5, vol-4 - vol-5 without a working path"
    );
    assert_eq!(bench.registry.blocking_nodes(MESH), [node(5)]);
    let outputs = bench.report(5, vec![pair(4, true, true), pair(1, true, true)]);
    assert_eq!(events(&outputs), [open()]);
    assert_eq!(bench.registry.view(MESH).unwrap().pattern, Pattern::Ring);
}

#[test]
fn a_pair_across_that_breaks_does_not_close_the_gate_of_a_star() {
    let mut bench = linking_by(Pattern::Star, 3);
    bench.report(2, vec![pair(1, true, false), pair(3, true, true)]);
    bench.report(3, vec![pair(1, true, true), pair(2, true, true)]);
    bench.report(2, vec![pair(3, false, false)]);
    bench.report(1, vec![pair(2, true, true), pair(3, true, true)]);
    assert_eq!(bench.registry.blockers(MESH), "");
    assert_eq!(events(&bench.advance(Duration::from_secs(5))), [open()]);
}

#[test]
fn the_netmap_names_the_pattern_and_the_same_launch_has_the_same() {
    for (pattern, named) in [(Pattern::All, None), (Pattern::Tree, Some(Pattern::Tree))] {
        let mut bench = bench_of(1);
        bench.registry.launch(bench.now, MESH, members(&[1]), pattern).unwrap();
        let outputs = bench.join(1, MESH);
        let netmaps: Vec<_> = sent(&outputs, 1)
            .into_iter()
            .filter_map(|message| {
                if let ToNode::Netmap(netmap) = message { Some(netmap.pattern) } else { None }
            })
            .collect();
        assert_eq!(netmaps, [named]);
        assert_eq!(bench.registry.launch(bench.now, MESH, members(&[1]), pattern), Ok(()));
        let other = bench.registry.launch(bench.now, MESH, members(&[1]), Pattern::Grid);
        assert_eq!(other, Err(LaunchError::Exists(MESH)));
    }
}

#[test]
fn unsettled_pairs_are_waited_for_five_seconds() {
    let mut bench = linking(2);
    bench.report(1, vec![pair(2, true, false)]);
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.report(2, vec![pair(1, true, true)]), []);
    assert_eq!(bench.registry.next_wakeup(), Some(bench.now.instant + Duration::from_secs(5)));
    assert_eq!(bench.advance(Duration::from_millis(4999)), []);
    assert_eq!(events(&bench.advance(Duration::from_millis(1))), [open()]);
}

#[test]
fn a_pair_that_breaks_again_starts_the_wait_anew() {
    let mut bench = linking(2);
    bench.report(1, vec![pair(2, true, false)]);
    bench.report(2, vec![pair(1, true, false)]);
    bench.advance(Duration::from_secs(4));
    bench.report(2, vec![pair(1, false, false)]);
    assert_eq!(bench.advance(Duration::from_secs(4)), []);
    bench.report(2, vec![pair(1, true, false)]);
    assert_eq!(bench.advance(Duration::from_secs(4)), []);
    assert_eq!(events(&bench.advance(Duration::from_secs(1))), [open()]);
}

#[test]
fn a_network_of_one_opens_at_once() {
    let mut bench = bench_of(1);
    bench.registry.launch(bench.now, MESH, members(&[1]), Pattern::All).unwrap();
    let outputs = bench.join(1, MESH);
    assert_eq!(kinds(&outputs, 1), ["netmap", "open"]);
    assert_eq!(events(&outputs), [open()]);
}

#[test]
fn reports_of_strangers_about_strangers_and_about_oneself_count_for_nothing() {
    let mut bench = linking(2);
    bench.connect(3);
    bench.report(3, vec![pair(1, true, true), pair(2, true, true)]);
    bench.report(1, vec![pair(1, true, true), pair(3, true, true)]);
    assert_eq!(bench.registry.view(MESH).unwrap().pairs, []);
}

#[test]
fn long_explanations_are_cut_between_characters() {
    let mut bench = linking(2);
    let report = PairReport { explain: "é".repeat(1000), ..pair(2, false, false) };
    bench.report(1, vec![report]);
    let view = bench.registry.view(MESH).unwrap();
    assert_eq!(view.pairs[0].report.explain, "é".repeat(150));
}

#[test]
fn a_later_registry_has_netmaps_of_a_later_era() {
    let eras = [0, 1].map(|seconds| {
        let mut bench = bench_at(1_000_000 + seconds * 1000);
        bench.connect(1);
        bench.registry.launch(bench.now, MESH, members(&[1]), Pattern::All).unwrap();
        let outputs = bench.join(1, MESH);
        let netmap = |message: &&ToNode| match message {
            ToNode::Netmap(netmap) => Some(netmap.era),
            ToNode::Welcome { .. }
            | ToNode::Candidates(_)
            | ToNode::Ticket(_)
            | ToNode::Relays { .. }
            | ToNode::MeshOpen { .. }
            | ToNode::Member { .. }
            | ToNode::MeshClosed { .. } => None,
        };
        sent(&outputs, 1).iter().find_map(netmap).unwrap()
    });
    assert!(0 < eras[0] && eras[0] < eras[1], "{eras:?}");
}

#[test]
fn a_node_that_comes_back_is_told_everything_again() {
    let mut bench = linking(2);
    bench.say(2, ToCoordinator::Candidates(candidates(2, 1, &["10.0.0.2:1"])));
    bench.disconnect(1);
    assert_eq!(kinds(&bench.connect(1), 1), ["welcome"]);
    let outputs = bench.join(1, MESH);
    assert_eq!(kinds(&outputs, 1), ["ticket", "candidates", "netmap"]);
    assert_eq!(kinds(&outputs, 2), [""; 0], "its peers know already");

    bench.report(1, vec![pair(2, true, true)]);
    bench.report(2, vec![pair(1, true, true)]);
    bench.disconnect(1);
    bench.connect(1);
    let outputs = bench.join(1, MESH);
    assert_eq!(kinds(&outputs, 1), ["ticket", "candidates", "netmap", "open"]);
    assert_eq!(events(&outputs), []);
}

#[test]
fn the_netmap_is_issued_also_while_a_member_that_has_joined_is_away() {
    let mut bench = bench_of(2);
    bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All).unwrap();
    bench.join(1, MESH);
    bench.disconnect(1);
    let outputs = bench.join(2, MESH);
    assert_eq!(kinds(&outputs, 1), [""; 0]);
    assert_eq!(kinds(&outputs, 2), ["ticket", "netmap"]);
    bench.connect(1);
    assert_eq!(kinds(&bench.join(1, MESH), 1), ["ticket", "netmap"]);
}

#[test]
fn a_member_with_a_new_key_makes_a_new_epoch() {
    let mut bench = linking(2);
    bench.report(1, vec![pair(2, true, true)]);
    let join = ToCoordinator::JoinMesh { mesh: MESH, wireguard_key: key(99), host_key: None };
    let outputs = bench.say(1, join);
    assert_eq!(kinds(&outputs, 1), ["ticket", "netmap"]);
    let [ToNode::Netmap(netmap)] = sent(&outputs, 2)[..] else { panic!("{outputs:?}") };
    assert_eq!(netmap.epoch, 2);
    assert_eq!(netmap.members[0].wireguard_key, key(99));
    let stale = bench.report(2, vec![pair(1, true, true)]);
    assert_eq!(stale, [], "what node 1 reported was about its former key");
    assert_eq!(events(&bench.report(1, vec![pair(2, true, true)])), [open()]);
}

#[test]
fn closing_tells_the_members_and_keeps_the_last_reports() {
    let mut bench = linking(2);
    bench.report(1, vec![pair(2, true, true)]);
    bench.registry.close(MESH, "the job was deleted");
    let outputs = bench.registry.drain();
    for number in 1..=2 {
        assert_eq!(sent(&outputs, number), [&closed(MESH, "the job was deleted")]);
    }
    let last = PairReport { sent_bytes: 9, ..pair(2, true, true) };
    let leave = ToCoordinator::LeaveMesh { mesh: MESH, pairs: vec![last.clone()] };
    let left = RendezvousEvent::Left { mesh: MESH, node: node(1) };
    assert_eq!(bench.say(1, leave.clone()), [Output::Event(left)]);
    assert_eq!(bench.say(1, leave), [], "it leaves once");

    let view = bench.registry.view(MESH).unwrap();
    assert_eq!(view.pairs, [PairView { from: 0, to: 1, report: last }]);
    let first = MemberView {
        node: node(1),
        name: "vol-1".to_owned(),
        connected: true,
        joined: true,
        left: true,
    };
    assert_eq!(view.members[0], first);
    let late = bench.join(2, MESH);
    assert_eq!(sent(&late, 2), [&closed(MESH, "the job was deleted")]);
    assert_eq!(bench.registry.next_wakeup(), None, "nothing is left to do");
}

#[test]
fn who_has_left_gets_no_news_until_it_returns() {
    let mut bench = linking(3);
    bench.say(1, ToCoordinator::LeaveMesh { mesh: MESH, pairs: vec![] });
    let outputs = bench.say(2, ToCoordinator::Candidates(candidates(2, 1, &["10.0.0.2:1"])));
    assert_eq!(kinds(&outputs, 1), [""; 0]);
    assert_eq!(kinds(&outputs, 3), ["candidates"]);
    assert_eq!(
        bench.registry.blockers(MESH),
        "vol-1 left the job's network early; \
         vol-1 - vol-2, vol-1 - vol-3, vol-2 - vol-3 without a working path"
    );
    let again = bench.join(1, MESH);
    assert_eq!(kinds(&again, 1), ["ticket", "ticket", "candidates", "netmap"]);
}

#[test]
fn the_reports_of_old_networks_are_forgotten_in_the_end() {
    let mut bench = bench();
    for job in 0..300 {
        let mesh = MeshId { job, generation: 1 };
        bench.registry.launch(bench.now, mesh, members(&[1, 2]), Pattern::All).unwrap();
        bench.registry.close(mesh, "done");
    }
    let known = |job| bench.registry.view(MeshId { job, generation: 1 }).is_some();
    assert_eq!((0..300).filter(|job| known(*job)).count(), 256);
    assert!(known(299));
}

#[test]
fn peers_are_told_once_that_a_part_has_ended_and_whoever_comes_back_is_told_too() {
    let mut bench = linking(3);
    bench.registry.part_ended(MESH, node(3));
    assert_eq!(bench.registry.drain(), [], "nothing has begun");
    let mut bench = opened(3);
    bench.registry.part_ended(MESH, node(3));
    let news = ToNode::Member { mesh: MESH, node: node(3), ended: true };
    let outputs = bench.registry.drain();
    assert_eq!([sent(&outputs, 1), sent(&outputs, 2)], [[&news], [&news]]);
    assert_eq!(kinds(&outputs, 3), [""; 0]);
    bench.registry.part_ended(MESH, node(3));
    assert_eq!(bench.registry.drain(), []);
    bench.say(3, ToCoordinator::LeaveMesh { mesh: MESH, pairs: vec![] });
    bench.disconnect(1);
    bench.connect(1);
    let kinds_of_1 = kinds(&bench.join(1, MESH), 1);
    assert_eq!(kinds_of_1, ["ticket", "ticket", "netmap", "open", "member"]);

    let outputs = bench.join(3, MESH);
    let back = ToNode::Member { mesh: MESH, node: node(3), ended: false };
    assert_eq!([sent(&outputs, 1), sent(&outputs, 2)], [[&back], [&back]]);
    bench.say(2, ToCoordinator::LeaveMesh { mesh: MESH, pairs: vec![] });
    let outputs = bench.join(1, MESH);
    assert_eq!(kinds(&outputs, 1).last(), Some(&"member"));
}

#[test]
fn the_opening_brings_the_round_trip_times() {
    let mut bench = linking(2);
    let measured = |us| PairReport { rtt_us: Some(us), ..pair(2, true, true) };
    bench.report(1, vec![measured(20_000)]);
    let back = PairReport { peer: node(1), ..measured(22_000) };
    let outputs = bench.report(2, vec![back]);
    let [ToNode::MeshOpen { rtt, .. }] = sent(&outputs, 1)[..] else { panic!("{outputs:?}") };
    assert_eq!(rtt.csv(2), "0,21.000\n21.000,0\n");
}

/// A network that is open.
fn opened(count: u8) -> Bench {
    let mut bench = linking(count);
    for number in 1..=count {
        let others = (1..=count).filter(|other| *other != number);
        bench.report(number, others.map(|other| pair(other, true, true)).collect());
    }
    bench
}

#[test]
fn blockers_name_what_is_missing() {
    let mut bench = bench_of(3);
    assert_eq!(bench.registry.blockers(MESH), "the job's network is not known");
    bench.registry.launch(bench.now, MESH, members(&[1, 2, 3]), Pattern::All).unwrap();
    bench.join(1, MESH);
    bench.disconnect(3);
    assert_eq!(
        bench.registry.blockers(MESH),
        "vol-3 without a control connection; vol-2 did not join the job's network"
    );
    assert_eq!(bench.registry.blocking_nodes(MESH), [node(2), node(3)]);

    bench.connect(3);
    bench.join(2, MESH);
    bench.join(3, MESH);
    bench.report(1, vec![pair(2, true, true)]);
    bench.report(2, vec![pair(1, true, true), pair(3, true, true)]);
    assert_eq!(
        bench.registry.blockers(MESH),
        "vol-1 - vol-3, vol-2 - vol-3 without a working path"
    );
    assert_eq!(bench.registry.blocking_nodes(MESH), [node(3)]);

    bench.report(1, vec![pair(3, true, true)]);
    bench.report(3, vec![pair(1, true, true), pair(2, true, true)]);
    assert_eq!(bench.registry.blockers(MESH), "");
    assert_eq!(bench.registry.blocking_nodes(MESH), []);
}

#[test]
fn nobody_is_to_blame_when_all_are_equally_lonely() {
    let mut bench = linking(2);
    assert_eq!(bench.registry.blockers(MESH), "vol-1 - vol-2 without a working path");
    assert_eq!(bench.registry.blocking_nodes(MESH), []);
    bench.disconnect(2);
    assert_eq!(bench.registry.blocking_nodes(MESH), [node(2)], "one is away");
}
