//! Relay channels and their tickets.

use overlay_core::RelayTicket;
use overlay_core::wire::Ticket;
use overlay_relay::verify_ticket;

use super::*;

fn tickets(outputs: &[Output], to: u8) -> Vec<RelayTicket> {
    let ticket = |message: &ToNode| match message {
        ToNode::Ticket(ticket) => Some(ticket.clone()),
        ToNode::Welcome { .. }
        | ToNode::Netmap(_)
        | ToNode::Candidates(_)
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
        assert_eq!(ticket.expires_unix, 1000 + 3600);
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
fn tickets_are_renewed_at_half_of_their_life() {
    let mut bench = linking(2);
    let due = bench.registry.next_wakeup().unwrap() - bench.now.instant;
    assert_eq!(due, Duration::from_secs(1800));
    assert_eq!(bench.advance(due - Duration::from_millis(1)), []);
    let outputs = bench.advance(Duration::from_millis(1));
    for number in 1..=2 {
        assert_eq!(tickets(&outputs, number)[0].expires_unix, 1000 + 1800 + 3600);
    }
    assert_eq!(bench.advance(Duration::from_secs(1799)), []);
    bench.disconnect(2);
    let outputs = bench.advance(Duration::from_secs(1));
    assert_eq!((tickets(&outputs, 1).len(), tickets(&outputs, 2).len()), (1, 0));
    bench.connect(2);
    let outputs = bench.join(2, MESH);
    assert_eq!(tickets(&outputs, 2)[0].expires_unix, 1000 + 3600 + 3600);
}
