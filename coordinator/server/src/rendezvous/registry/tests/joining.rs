//! From the hello to the netmap.

use overlay_core::netmap::MAX_CANDIDATES;
use overlay_core::wire::format_hex;
use overlay_core::{Activity, HostKey};
use overlay_relay::reflector_token;

use super::super::LaunchError;
use super::*;

#[test]
fn a_hello_is_welcomed_with_what_the_node_needs() {
    let mut bench = bench();
    let outputs = bench.connect_from(1, "198.51.100.1:1000");
    let welcome = ToNode::Welcome {
        observed: "198.51.100.1:1000".parse().unwrap(),
        reflector: "192.0.2.200:6444".parse().unwrap(),
        reflector_token: format_hex(&reflector_token(&keys(), node(1))),
        other_reflector: Some("[2001:db8::200]:6444".parse().unwrap()),
    };
    assert_eq!(
        outputs,
        [Output::Send(node(1), welcome), Output::Event(RendezvousEvent::Connected(node(1)))]
    );
}

#[test]
fn a_node_is_told_a_reflector_of_its_own_family() {
    let mut bench = bench();
    let outputs = bench.connect_from(1, "[2001:db8::1]:1000");
    let [ToNode::Welcome { reflector, .. }] = sent(&outputs, 1)[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(*reflector, "[2001:db8::200]:6444".parse().unwrap());
}

#[test]
fn a_roaming_node_is_welcomed_again_and_others_are_not_bothered() {
    let mut bench = bench_of(2);
    bench.registry.handle_roamed(node(1), "203.0.113.1:5".parse().unwrap());
    let outputs = bench.registry.drain();
    assert_eq!(outputs.len(), 1);
    assert_eq!(kinds(&outputs, 1), ["welcome"]);
    bench.registry.handle_roamed(node(1), "203.0.113.1:5".parse().unwrap());
    assert_eq!(bench.registry.drain(), []);
}

#[test]
fn another_version_or_no_hello_ends_the_connection() {
    let mut bench = bench();
    bench.registry.handle_connected(node(1), "198.51.100.1:1000".parse().unwrap());
    let outputs = bench.join(1, MESH);
    assert_eq!(outputs, [Output::Disconnect(node(1), "the first message is `hello`".to_owned())]);
    let outputs = bench.say(1, ToCoordinator::Hello { version: 2, software: String::new() });
    let reason = "this coordinator speaks version 1 of the control protocol, not 2";
    assert_eq!(outputs, [Output::Disconnect(node(1), reason.to_owned())]);
    assert!(!bench.registry.is_connected(node(1)));
}

#[test]
fn nobody_is_told_anything_before_all_have_joined() {
    let mut bench = bench_of(3);
    bench.registry.launch(bench.now, MESH, members(&[1, 2, 3]), Pattern::All).unwrap();
    assert_eq!(bench.join(1, MESH), []);
    assert_eq!(bench.join(2, MESH), []);
    let outputs = bench.join(3, MESH);
    for number in 1..=3 {
        assert_eq!(kinds(&outputs, number), ["ticket", "ticket", "netmap"], "node {number}");
    }
}

#[test]
fn the_netmap_names_the_members_by_rank() {
    let mut bench = bench_of(2);
    bench.registry.launch(bench.now, MESH, members(&[2, 1]), Pattern::All).unwrap();
    bench.join(1, MESH);
    let outputs = bench.join(2, MESH);
    let Some(ToNode::Netmap(netmap)) = sent(&outputs, 1).pop() else { panic!("{outputs:?}") };
    assert_eq!((netmap.version, netmap.mesh, netmap.epoch), (1, MESH, 1));
    let seen: Vec<_> = netmap
        .members
        .iter()
        .map(|m| (m.index, m.node, m.name.as_str(), m.wireguard_key))
        .collect();
    assert_eq!(seen, [(0, node(2), "vol-2", key(2)), (1, node(1), "vol-1", key(1))]);
}

#[test]
fn keys_of_programs_go_round_with_the_netmap_and_another_one_is_news() {
    let mut bench = bench_of(2);
    bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All).unwrap();
    let mut join = |number: u8, host: u8| {
        let (wireguard_key, host_key) = (key(number), Some(HostKey([host; 32])));
        let said = ToCoordinator::JoinMesh { mesh: MESH, wireguard_key, host_key };
        let outputs = bench.say(number, said);
        let Some(ToNode::Netmap(netmap)) = sent(&outputs, 2).pop() else { return None };
        let keys: Vec<_> = netmap.members.iter().map(|member| member.host_key).collect();
        Some((netmap.epoch, keys))
    };
    assert_eq!(join(1, 7), None);
    let host = |byte| Some(HostKey([byte; 32]));
    assert_eq!(join(2, 8), Some((1, vec![host(7), host(8)])));
    // Its agent was started anew, and with it its programs' key.
    assert_eq!(join(1, 9), Some((2, vec![host(9), host(8)])));
}

#[test]
fn candidates_go_to_peers_before_the_netmap_and_whenever_they_change() {
    let mut bench = bench_of(3);
    let first = ToCoordinator::Candidates(candidates(1, 1, &["10.0.0.1:1000"]));
    assert_eq!(bench.say(1, first.clone()), [], "nobody shares a network with it");
    bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All).unwrap();
    bench.join(1, MESH);
    let outputs = bench.join(2, MESH);
    assert_eq!(kinds(&outputs, 2), ["ticket", "candidates", "netmap"]);

    assert_eq!(bench.say(1, first), [], "an old sequence");
    let news = bench.say(1, ToCoordinator::Candidates(candidates(1, 2, &["10.0.0.2:1000"])));
    assert_eq!(news.len(), 1);
    let [ToNode::Candidates(news)] = sent(&news, 2)[..] else { panic!("{news:?}") };
    assert_eq!(news.candidates, candidates(1, 2, &["10.0.0.2:1000"]).candidates);
    // Its owner's word is news as well, once.
    let paused = |sequence| {
        let there = candidates(1, sequence, &["10.0.0.2:1000"]);
        ToCoordinator::Candidates(NodeCandidates { activity: Activity::Paused, ..there })
    };
    let told = bench.say(1, paused(3));
    let [ToNode::Candidates(told)] = sent(&told, 2)[..] else { panic!("{told:?}") };
    assert_eq!(told.activity, Activity::Paused);
    assert_eq!(bench.say(1, paused(4)), []);
}

#[test]
fn candidates_are_bounded_and_those_of_the_sender() {
    let mut bench = linking(2);
    let endpoints: Vec<_> = (1..=20).map(|n| format!("10.0.0.{n}:1000")).collect();
    let mut endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    endpoints.splice(0..0, ["0.0.0.0:1", "224.0.0.1:1", "10.0.0.1:0", "[::]:1"]);
    let claim = NodeCandidates { node: node(2), ..candidates(1, 1, &endpoints) };
    let outputs = bench.say(1, ToCoordinator::Candidates(claim));
    let [ToNode::Candidates(taken)] = sent(&outputs, 2)[..] else { panic!("{outputs:?}") };
    assert_eq!(taken.node, node(1));
    let expected = candidates(1, 1, &endpoints[4..4 + MAX_CANDIDATES]).candidates;
    assert_eq!(taken.candidates, expected);
}

#[test]
fn a_node_started_anew_counts_from_one_and_its_peers_still_take_it_for_news() {
    let mut bench = linking(2);
    let old = bench.say(1, ToCoordinator::Candidates(candidates(1, 900, &["10.0.0.1:1"])));
    bench.disconnect(1);
    bench.connect(1);
    let new = bench.say(1, ToCoordinator::Candidates(candidates(1, 1, &["10.0.0.2:1"])));
    let sequence = |outputs: &[Output]| match sent(outputs, 2)[..] {
        [ToNode::Candidates(candidates)] => candidates.sequence,
        _ => panic!("{outputs:?}"),
    };
    assert!(sequence(&new) > sequence(&old));
}

#[test]
fn who_is_no_member_is_told_so() {
    let mut bench = bench_of(3);
    bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All).unwrap();
    let refusal = closed(MESH, "this node is not a member of that network");
    assert_eq!(bench.join(3, MESH), [Output::Send(node(3), refusal)]);
}

#[test]
fn two_members_cannot_have_one_key() {
    let mut bench = bench_of(2);
    bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All).unwrap();
    bench.join(1, MESH);
    let join = ToCoordinator::JoinMesh { mesh: MESH, wireguard_key: key(1), host_key: None };
    let refusal = closed(MESH, "another member uses that key");
    assert_eq!(bench.say(2, join), [Output::Send(node(2), refusal)]);
}

#[test]
fn a_node_that_joins_before_the_launch_is_heard_when_it_comes() {
    let mut bench = bench_of(3);
    assert_eq!(bench.join(1, MESH), []);
    assert_eq!(bench.join(2, MESH), []);
    assert_eq!(bench.join(3, MESH), []);
    bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All).unwrap();
    let outputs = bench.registry.drain();
    assert_eq!(kinds(&outputs, 1), ["ticket", "netmap"]);
    assert_eq!(kinds(&outputs, 2), ["ticket", "netmap"]);
    assert_eq!(sent(&outputs, 3), [&closed(MESH, "this node has no part in that network")]);
}

#[test]
fn a_network_that_never_comes_is_refused_after_a_while() {
    let mut bench = bench_of(1);
    bench.join(1, MESH);
    let due = bench.registry.next_wakeup().unwrap() - bench.now.instant;
    assert_eq!(due, Duration::from_secs(5));
    assert_eq!(bench.advance(Duration::from_millis(4999)), []);
    let refusal = closed(MESH, "this node has no part in that network");
    assert_eq!(bench.advance(Duration::from_millis(1)), [Output::Send(node(1), refusal)]);
    assert_eq!(bench.registry.next_wakeup(), None);
}

#[test]
fn early_joins_are_bounded() {
    let mut bench = bench_of(1);
    let refused: Vec<_> = (0..20)
        .filter(|job| !bench.join(1, MeshId { job: *job, generation: 1 }).is_empty())
        .collect();
    assert_eq!(refused, [16, 17, 18, 19]);
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let mut bench = bench();
    let mut launch =
        |numbers: &[u8]| bench.registry.launch(bench.now, MESH, members(numbers), Pattern::All);
    assert_eq!(launch(&[]), Err(LaunchError::Size(0)));
    assert_eq!(launch(&[1, 2, 1]), Err(LaunchError::Duplicate(node(1))));
    assert_eq!(launch(&[1, 2]), Ok(()));
    assert_eq!(launch(&[1, 2]), Ok(()), "the same again");
    assert_eq!(launch(&[1, 3]), Err(LaunchError::Exists(MESH)));
    bench.registry.close(MESH, "done");
    let again = bench.registry.launch(bench.now, MESH, members(&[1, 2]), Pattern::All);
    assert_eq!(again, Err(LaunchError::Exists(MESH)));
}

#[test]
fn a_newer_connection_replaces_the_older_without_news() {
    let mut bench = bench_of(1);
    let outputs = bench.connect_from(1, "203.0.113.1:5");
    assert_eq!(kinds(&outputs, 1), ["welcome"]);
    assert_eq!(events(&outputs), []);
    assert_eq!(events(&bench.disconnect(1)), [RendezvousEvent::Disconnected(node(1))]);
    assert_eq!(bench.disconnect(1), []);
}

#[test]
fn a_revoked_node_is_disconnected() {
    let mut bench = bench_of(1);
    bench.registry.revoke(node(1));
    let outputs = bench.registry.drain();
    assert_eq!(outputs, [Output::Disconnect(node(1), "this node was revoked".to_owned())]);
    bench.disconnect(1);
    bench.registry.revoke(node(1));
    assert_eq!(bench.registry.drain(), []);
}

#[test]
fn a_member_that_changes_its_key_for_ever_is_refused_in_the_end() {
    let mut bench = linking(2);
    let mut netmaps = 0;
    for number in 100..200 {
        let outputs = bench.join_with(1, number);
        netmaps += kinds(&outputs, 2).iter().filter(|kind| **kind == "netmap").count();
        if kinds(&outputs, 1) == ["closed"] {
            break;
        }
    }
    assert_eq!(netmaps, 16);
    // The key that the others know is still welcome.
    assert!(kinds(&bench.join_with(1, 115), 1).contains(&"netmap"));
}
