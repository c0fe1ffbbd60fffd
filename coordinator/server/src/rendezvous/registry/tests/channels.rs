//! Relay channels and their tickets.

use overlay_core::wire::Ticket;
use overlay_core::{MeasuredRelay, RelayTicket};
use overlay_relay::verify_ticket;

use super::*;

fn tickets(outputs: &[Output], to: u8) -> Vec<RelayTicket> {
    let ticket = |message: &ToNode| match message {
        ToNode::Ticket(ticket) => Some(ticket.clone()),
        ToNode::Welcome { .. }
        | ToNode::Netmap(_)
        | ToNode::Candidates(_)
        | ToNode::Relays { .. }
        | ToNode::MeshOpen { .. }
        | ToNode::Member { .. }
        | ToNode::MeshClosed { .. } => None,
    };
    sent(outputs, to).into_iter().filter_map(ticket).collect()
}

/// Lets all members join and gives the outputs of the last one.
fn launch(bench: &mut Bench, mesh: MeshId, numbers: &[u8]) -> Vec<Output> {
    bench.registry.launch(bench.now, mesh, members(numbers), Pattern::All).unwrap();
    numbers.iter().map(|number| bench.join(*number, mesh)).last().unwrap()
}

#[test]
fn both_sides_get_tickets_that_the_relay_takes() {
    let mut bench = bench_of(2);
    let outputs = launch(&mut bench, MESH, &[2, 1]);
    let [lower, higher] = [1, 2].map(|number| tickets(&outputs, number).pop().unwrap());
    assert_eq!((lower.peer, higher.peer), (node(2), node(1)));
    assert_eq!(lower.channel, higher.channel);
    assert_eq!(lower.relay, "192.0.2.200:6444".parse().unwrap());
    for (ticket, side) in [(lower, 0), (higher, 1)] {
        assert_eq!(ticket.expires_unix, 1000 + 12 * 3600);
        let sealed = Ticket::from_hex(&ticket.sealed).unwrap();
        assert_eq!(verify_ticket(&keys(), &sealed, bench.now.unix_s()), Ok(()));
        assert_eq!((sealed.side, sealed.channel), (side, ticket.channel));
        assert_eq!(sealed.expires_unix, ticket.expires_unix);
    }
}

#[test]
fn every_pair_has_a_channel_of_its_own() {
    let mut bench = bench_of(8);
    let outputs = launch(&mut bench, MESH, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut channels: Vec<_> =
        (1..=8).flat_map(|number| tickets(&outputs, number)).map(|t| t.channel).collect();
    assert_eq!(channels.len(), 56);
    channels.sort_unstable();
    channels.dedup();
    assert_eq!(channels.len(), 28);
}

#[test]
fn a_channel_serves_all_networks_of_its_pair_and_ends_with_the_last() {
    let mut bench = bench_of(2);
    let channel = |outputs: &[Output]| tickets(outputs, 1).pop().unwrap().channel;
    let first = channel(&launch(&mut bench, MESH, &[1, 2]));
    let second = channel(&launch(&mut bench, OTHER_MESH, &[2, 1]));
    assert_eq!(first, second);
    bench.registry.close(MESH, "done");
    drop(bench.registry.drain());
    assert!(bench.registry.next_wakeup().is_some(), "tickets are still renewed");
    bench.registry.close(OTHER_MESH, "done");
    assert_eq!(bench.registry.next_wakeup(), None);
    let third = MeshId { job: 9, generation: 1 };
    drop(bench.registry.drain());
    assert_ne!(channel(&launch(&mut bench, third, &[1, 2])), first);
}

#[test]
fn tickets_are_renewed_every_hour() {
    let mut bench = linking(2);
    let due = bench.registry.next_wakeup().unwrap() - bench.now.instant;
    assert_eq!(due, Duration::from_secs(3600));
    assert_eq!(bench.advance(due - Duration::from_millis(1)), []);
    let outputs = bench.advance(Duration::from_millis(1));
    for number in 1..=2 {
        assert_eq!(tickets(&outputs, number)[0].expires_unix, 1000 + 3600 + 12 * 3600);
    }
    assert_eq!(bench.advance(Duration::from_secs(3599)), []);
    bench.disconnect(2);
    let outputs = bench.advance(Duration::from_secs(1));
    assert_eq!((tickets(&outputs, 1).len(), tickets(&outputs, 2).len()), (1, 0));
    bench.connect(2);
    let outputs = bench.join(2, MESH);
    assert_eq!(tickets(&outputs, 2)[0].expires_unix, 1000 + 2 * 3600 + 12 * 3600);
}

/// Announces a relay that runs alone.
fn relay_comes(bench: &mut Bench, number: u8) -> Vec<Output> {
    let endpoints = vec![SocketAddr::from(([192, 0, 2, number], 6444))];
    let relay_keys = RelayKeys { ticket_key: [number; 32], reflector_key: [number; 32] };
    let site = RelaySite { keys: relay_keys, endpoints, tunnel: Some(443) };
    assert!(bench.registry.handle_relay(node(number), site));
    bench.registry.drain()
}

fn relays_of(outputs: &[Output], to: u8) -> Vec<u8> {
    let mut relays: Vec<_> = tickets(outputs, to).iter().map(|t| t.relay).collect();
    relays.dedup();
    let last = |at: &SocketAddr| match at {
        SocketAddr::V4(at) => at.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    };
    relays.iter().map(last).collect()
}

fn measured(bench: &mut Bench, number: u8, relays: &[(u8, u64)]) -> Vec<Output> {
    let measured = relays.iter().map(|(n, rtt_us)| {
        let relay = if *n == 200 { NodeId([0; 32]) } else { node(*n) };
        MeasuredRelay { relay, rtt_us: *rtt_us }
    });
    bench.say(number, ToCoordinator::Relays { measured: measured.collect() })
}

#[test]
fn a_relay_that_comes_is_told_and_pairs_get_tickets_that_it_takes() {
    let mut bench = linking(2);
    let outputs = relay_comes(&mut bench, 100);
    for number in 1..=2 {
        assert_eq!(kinds(&outputs, number), ["relays", "ticket"]);
        let ticket = &tickets(&outputs, number)[0];
        assert_eq!(ticket.relay, "192.0.2.100:6444".parse().unwrap());
        let sealed = Ticket::from_hex(&ticket.sealed).unwrap();
        let own = RelayKeys { ticket_key: [100; 32], reflector_key: [100; 32] };
        assert_eq!(verify_ticket(&own, &sealed, bench.now.unix_s()), Ok(()));
        assert!(
            verify_ticket(&keys(), &sealed, bench.now.unix_s()).is_err(),
            "of no use elsewhere"
        );
    }
    bench.disconnect(1);
    assert_eq!(kinds(&bench.connect(1), 1), ["welcome", "relays"]);
    let outputs = bench.join(1, MESH);
    assert_eq!(relays_of(&outputs, 1), [200, 100]);
}

#[test]
fn pairs_use_the_home_relays_of_both_and_hear_only_of_what_they_lack() {
    let mut bench = linking(2);
    for number in [100, 101, 102] {
        relay_comes(&mut bench, number);
    }
    // Both have 200 (the coordinator's own) and 100 by now.
    let outputs = measured(&mut bench, 1, &[(101, 5000), (100, 9000)]);
    assert_eq!((relays_of(&outputs, 1), relays_of(&outputs, 2)), (vec![101], vec![101]));
    let outputs = measured(&mut bench, 2, &[(102, 5000), (101, 9000)]);
    assert_eq!((relays_of(&outputs, 1), relays_of(&outputs, 2)), (vec![102], vec![102]));
    assert_eq!(measured(&mut bench, 2, &[(102, 5100), (101, 9100)]), []);
}

#[test]
fn a_relay_that_ends_is_dropped_and_replaced() {
    let mut bench = linking(2);
    relay_comes(&mut bench, 100);
    relay_comes(&mut bench, 101);
    measured(&mut bench, 1, &[(100, 5000), (200, 9000)]);
    bench.registry.handle_relay_gone(node(100));
    let outputs = bench.registry.drain();
    let offered = |outputs: &[Output]| {
        sent(outputs, 1)
            .iter()
            .find_map(|message| match message {
                ToNode::Relays { relays } => Some(relays.iter().map(|o| o.relay).collect()),
                ToNode::Ticket(_)
                | ToNode::Welcome { .. }
                | ToNode::Netmap(_)
                | ToNode::Candidates(_)
                | ToNode::Member { .. }
                | ToNode::MeshOpen { .. }
                | ToNode::MeshClosed { .. } => None,
            })
            .unwrap_or(Vec::new())
    };
    assert_eq!(offered(&outputs), [NodeId([0; 32]), node(101)]);
    assert_eq!(relays_of(&outputs, 1), [101], "two where there are two");
    let outputs = relay_comes(&mut bench, 100);
    assert_eq!(relays_of(&outputs, 1), [100], "it may have forgotten everything");
    bench.registry.handle_relay_gone(node(99));
    assert_eq!(bench.registry.drain(), []);
}
