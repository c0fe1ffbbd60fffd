//! The axes, one by one.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::nat::Refresh;

const START: Duration = Duration::ZERO;

fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The outer ports towards A:1, A:2 and B:1, and which of those remotes may answer to the first.
fn behaviour(profile: NatProfile) -> ([u16; 3], [bool; 3]) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut table = NatTable::new(profile);
    let inner = endpoint("10.1.0.2:5000");
    let remotes = ["203.0.113.1:1", "203.0.113.1:2", "203.0.113.2:1"].map(endpoint);
    let first = table.outbound(START, inner, remotes[0], &mut rng).unwrap();
    let admitted = remotes.map(|remote| table.inbound(START, first, remote) == Some(inner));
    let ports = remotes.map(|to| table.outbound(START, inner, to, &mut rng).unwrap());
    (ports, admitted)
}

#[test]
fn presets_show_their_mapping_and_filtering() {
    let same = [5000; 3];
    assert_eq!(behaviour(NatProfile::FULL_CONE), (same, [true, true, true]));
    assert_eq!(behaviour(NatProfile::RESTRICTED), (same, [true, true, false]));
    assert_eq!(behaviour(NatProfile::HOME), (same, [true, false, false]));
    let (ports, admitted) = behaviour(NatProfile::SYMMETRIC);
    assert_eq!(admitted, [true, false, false]);
    assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
    let by_address = NatProfile { mapping: Mapping::AddressDependent, ..NatProfile::SYMMETRIC };
    let (ports, _) = behaviour(by_address);
    assert!(ports[0] == ports[1] && ports[1] != ports[2]);
}

#[test]
fn mapping_dies_of_silence_and_lives_on_packets() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut table = NatTable::new(NatProfile::SYMMETRIC);
    let (inner, remote) = (endpoint("10.1.0.2:5000"), endpoint("203.0.113.1:1"));
    let port = table.outbound(START, inner, remote, &mut rng).unwrap();
    let almost = NatProfile::SYMMETRIC.lifetime - Duration::from_secs(1);
    assert_eq!(table.inbound(almost, port, remote), Some(inner));
    assert_eq!(table.inbound(almost * 2, port, remote), Some(inner));
    assert_eq!(table.inbound(almost * 4, port, remote), None);
}

#[test]
fn taken_port_gives_the_next_one_and_a_full_table_none() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut table = NatTable::new(NatProfile::HOME);
    let remote = endpoint("203.0.113.1:1");
    let ports = ["10.1.0.2:5000", "10.1.0.3:5000"]
        .map(|inner| table.outbound(START, endpoint(inner), remote, &mut rng).unwrap());
    assert_eq!(ports, [5000, 5001]);
    let made = (0..NatProfile::HOME.table_size as usize)
        .filter(|index| {
            let inner = SocketAddr::new(endpoint("10.1.0.4:1").ip(), 2000 + *index as u16);
            table.outbound(START, inner, remote, &mut rng).is_some()
        })
        .count();
    assert_eq!(made, NatProfile::HOME.table_size as usize - 2);
}

fn open(table: &mut NatTable, now: u64, inner: &str, to: &str) -> Option<u16> {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    table.outbound(Duration::from_secs(now), endpoint(inner), endpoint(to), &mut rng)
}

const REMOTE: &str = "203.0.113.1:1";

#[test]
fn only_the_stated_direction_keeps_a_mapping_alive() {
    let lifetime = NatProfile::HOME.lifetime.as_secs();
    for (refresh, by_outbound, by_inbound) in [
        (Refresh::Outbound, true, false),
        (Refresh::Inbound, false, true),
        (Refresh::Both, true, true),
    ] {
        for outbound in [true, false] {
            let mut table = NatTable::new(NatProfile { refresh, ..NatProfile::HOME });
            let port = open(&mut table, 0, "10.1.0.2:5000", REMOTE).unwrap();
            let at = Duration::from_secs;
            if outbound {
                open(&mut table, lifetime - 1, "10.1.0.2:5000", REMOTE).unwrap();
            } else {
                table.inbound(at(lifetime - 1), port, endpoint(REMOTE)).unwrap();
            }
            let alive = table.inbound(at(lifetime), port, endpoint(REMOTE)).is_some();
            assert_eq!(alive, if outbound { by_outbound } else { by_inbound }, "{refresh:?}");
        }
    }
}

#[test]
fn lifetime_is_exact() {
    let mut table = NatTable::new(NatProfile::HOME);
    let port = open(&mut table, 0, "10.1.0.2:5000", REMOTE).unwrap();
    let end = NatProfile::HOME.lifetime;
    let nanosecond = Duration::from_nanos(1);
    let mut other = NatTable::new(NatProfile::HOME);
    open(&mut other, 0, "10.1.0.2:5000", REMOTE).unwrap();
    assert!(table.inbound(end - nanosecond, port, endpoint(REMOTE)).is_some());
    assert!(other.inbound(end, port, endpoint(REMOTE)).is_none());
    assert!(other.by_port.is_empty() && other.by_inner.is_empty() && other.alive.len() == 0);
}

#[test]
fn oldest_makes_room_where_it_shall() {
    let profile =
        NatProfile { table_size: 2, when_full: WhenFull::EvictOldest, ..NatProfile::HOME };
    let mut table = NatTable::new(profile);
    open(&mut table, 0, "10.1.0.2:5000", REMOTE).unwrap();
    open(&mut table, 1, "10.1.0.2:5001", REMOTE).unwrap();
    open(&mut table, 2, "10.1.0.2:5000", REMOTE).unwrap();
    assert_eq!(open(&mut table, 3, "10.1.0.2:5002", REMOTE), Some(5002));
    let ports: Vec<u16> = table.by_port.keys().copied().collect();
    assert_eq!(ports, [5000, 5002]);
}

#[test]
fn sequential_ports_follow_each_other_and_a_reboot_moves_them() {
    let profile = NatProfile { port: PortAllocation::Sequential, ..NatProfile::HOME };
    let mut table = NatTable::new(profile);
    let mut ports =
        |inners: [&str; 2]| inners.map(|inner| open(&mut table, 0, inner, REMOTE).unwrap());
    assert_eq!(ports(["10.1.0.2:7000", "10.1.0.2:6000"]), [1024, 1025]);
    table.reboot(&mut ChaCha8Rng::seed_from_u64(1));
    let port = open(&mut table, 0, "10.1.0.2:7000", REMOTE).unwrap();
    assert!(port > 1026, "{port}");
    assert_eq!(open(&mut table, 0, "10.1.0.2:6000", REMOTE), Some(port + 1));
}

#[test]
fn conflicts_give_the_next_port_or_any() {
    for (allocation, is_next) in
        [(PortAllocation::Preserving, true), (PortAllocation::PreservingOrRandom, false)]
    {
        let mut table = NatTable::new(NatProfile { port: allocation, ..NatProfile::HOME });
        assert_eq!(open(&mut table, 0, "10.1.0.2:5000", REMOTE), Some(5000));
        let second = open(&mut table, 0, "10.1.0.3:5000", REMOTE).unwrap();
        assert_ne!(second, 5000);
        assert_eq!(second == 5001, is_next);
    }
}

#[test]
fn all_ports_can_be_used_and_no_more() {
    let port = PortAllocation::Sequential;
    let profile = NatProfile { table_size: u32::MAX, port, ..NatProfile::HOME };
    let mut table = NatTable::new(profile);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let made = (0..=u16::MAX)
        .flat_map(|port| [("10.1.0.2", port), ("10.1.0.3", port)])
        .take(PORTS + 10)
        .filter(|(address, port)| {
            let inner = SocketAddr::new(address.parse().unwrap(), *port);
            table.outbound(START, inner, endpoint(REMOTE), &mut rng).is_some()
        })
        .count();
    assert_eq!(made, PORTS);
    assert!(table.admitted.len() <= MAX_ADMISSIONS);
}

#[test]
fn mapping_that_is_not_refreshed_gives_way_to_a_new_one() {
    for (refresh, same) in [(Refresh::Inbound, false), (Refresh::Both, true)] {
        let port = PortAllocation::Sequential;
        let mut table = NatTable::new(NatProfile { refresh, port, ..NatProfile::HOME });
        let lifetime = NatProfile::HOME.lifetime.as_secs();
        let mut at = |now| open(&mut table, now, "10.1.0.2:5000", REMOTE).unwrap();
        let ports = [at(0), at(lifetime - 1), at(lifetime)];
        assert_eq!(ports[0], ports[1]);
        assert_eq!(ports[1] == ports[2], same, "{refresh:?}");
    }
}
