//! The network as a whole: delays, loss, NATs on the way.

use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{HostId, Link, NatProfile, Network, PUBLIC};

const PORT: u16 = 41641;
const LINK: Link = Link { delay: Duration::from_millis(5), loss: 0.0 };

fn endpoint(network: &Network<&'static str>, host: HostId) -> SocketAddr {
    SocketAddr::new(network.address(host), PORT)
}

#[test]
fn packet_takes_the_delay_of_both_links() {
    let mut network = Network::new(1);
    let (a, b) = (network.add_host(PUBLIC, LINK), network.add_host(PUBLIC, LINK));
    network.send(a, PORT, endpoint(&network, b), "hello");
    assert_eq!(network.step(), None, "at the realm");
    let delivery = network.step().unwrap();
    assert_eq!((delivery.host, delivery.from), (b, endpoint(&network, a)));
    assert_eq!(network.now(), LINK.delay * 2);
}

#[test]
fn loss_is_as_asked_for_and_the_same_for_the_same_seed() {
    let run = |seed| {
        let mut network = Network::new(seed);
        let lossy = Link { loss: 0.1, ..LINK };
        let (a, b) = (network.add_host(PUBLIC, lossy), network.add_host(PUBLIC, LINK));
        for _ in 0..10_000 {
            network.send(a, PORT, endpoint(&network, b), "hello");
        }
        network.counters().lost
    };
    assert_eq!(run(7), run(7));
    assert!((800..1200).contains(&run(7)), "{} of 10,000", run(7));
}

#[test]
fn hairpin_works_only_where_the_nat_has_it() {
    for hairpin in [false, true] {
        let profile = NatProfile { hairpin, ..NatProfile::FULL_CONE };
        let mut network = Network::new(1);
        let server = network.add_host(PUBLIC, LINK);
        let (_, home) = network.add_nat(PUBLIC, profile, LINK);
        let (a, b) = (network.add_host(home, LINK), network.add_host(home, LINK));
        network.send(b, PORT, endpoint(&network, server), "open");
        let outer = run_until_idle(&mut network)[0].from;
        network.send(a, PORT, outer, "hairpin");
        let arrived = run_until_idle(&mut network).iter().any(|seen| seen.host == b);
        assert_eq!(arrived, hairpin);
    }
}

#[test]
fn moved_host_has_a_new_address_and_misses_what_was_on_the_way() {
    let mut network = Network::new(1);
    let (a, b) = (network.add_host(PUBLIC, LINK), network.add_host(PUBLIC, LINK));
    let old = endpoint(&network, b);
    network.send(a, PORT, old, "on the way");
    network.step();
    network.move_host(b, PUBLIC);
    assert_ne!(endpoint(&network, b), old);
    assert_eq!(run_until_idle(&mut network), []);
    assert_eq!(network.counters().unroutable, 1);
}

fn run_until_idle(network: &mut Network<&'static str>) -> Vec<netsim_sim::Delivery<&'static str>> {
    let mut deliveries = Vec::new();
    while network.next_event().is_some() {
        deliveries.extend(network.step());
    }
    deliveries
}
