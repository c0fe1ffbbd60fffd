//! Links in virtual time.

use netsim_sim::{GilbertElliott, Loss, Mtu, OneWay, Rate, TooBig};

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An IPv4 packet of that many bytes, from 198.18.1.2 to `to`.
fn packet(bytes: usize, to: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(u16::try_from(bytes).unwrap().to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 1, 2]);
    frame.extend(to);
    frame.extend([0x13, 0x88, 0x1b, 0x58]);
    frame.resize(ETHERNET + bytes, 0);
    frame
}

fn line(up: OneWay, down: OneWay) -> (Forwarder, LineId) {
    let mut forwarder = Forwarder::default();
    let profile = LinkProfile { up, down };
    let id = forwarder.add(LineSpec { profile, seed: 3, ..LineSpec::default() });
    (forwarder, id)
}

/// All arrivals with their times, up to an hour.
fn run(forwarder: &mut Forwarder) -> Vec<(Duration, Arrival)> {
    let mut arrivals = Vec::new();
    let mut now = Duration::ZERO;
    while let Some(due) = forwarder.next_due() {
        now = now.max(due);
        while let Some(arrival) = forwarder.pop(now) {
            arrivals.push((now, arrival));
        }
    }
    arrivals
}

#[test]
fn each_direction_has_its_own_delay() {
    let way = |delay| OneWay { delay, ..OneWay::PERFECT };
    let (mut forwarder, id) = line(way(ms(20)), way(ms(5)));
    forwarder.receive(ms(1), id, Side::Near, packet(100, [198, 18, 2, 2]));
    forwarder.receive(ms(1), id, Side::Far, packet(100, [198, 18, 2, 2]));
    assert_eq!(forwarder.next_due(), Some(ms(6)));
    assert_eq!(forwarder.pop(ms(5)), None);
    let seen: Vec<_> = run(&mut forwarder).into_iter().map(|(at, a)| (at, a.side)).collect();
    assert_eq!(seen, [(ms(6), Side::Near), (ms(21), Side::Far)]);
}

#[test]
fn neighbours_talk_passes_at_once_unless_the_link_is_down() {
    let slow = OneWay { delay: ms(500), loss: Loss::Independent(1.0), ..OneWay::PERFECT };
    let (mut forwarder, id) = line(slow, slow);
    let mut arp = packet(28, [0; 4]);
    arp[12..14].copy_from_slice(&[8, 6]);
    forwarder.receive(ms(1), id, Side::Near, arp.clone());
    assert_eq!(forwarder.pop(ms(1)).unwrap().frame, arp);
    forwarder.set_down(id, true);
    forwarder.receive(ms(2), id, Side::Near, arp);
    assert_eq!(forwarder.pop(ms(9)), None);
    assert_eq!(forwarder.counters(id).unwrap()[0].down, 1);
}

#[test]
fn senders_hear_of_packets_that_are_too_big() {
    for (too_big, heard) in [(TooBig::Notice, 1), (TooBig::Drop, 0)] {
        let mtu = Some(Mtu { bytes: 1400, too_big });
        let (mut forwarder, id) = line(OneWay { mtu, ..OneWay::PERFECT }, OneWay::PERFECT);
        forwarder.receive(ms(1), id, Side::Near, packet(1401, [198, 18, 2, 2]));
        forwarder.receive(ms(1), id, Side::Near, packet(1400, [198, 18, 2, 2]));
        let arrivals = run(&mut forwarder);
        let notices = arrivals.iter().filter(|(_, arrival)| arrival.side == Side::Near).count();
        assert_eq!((arrivals.len(), notices), (1 + heard, heard));
    }
}

#[test]
fn full_queues_drop_and_what_waits_leaves_at_the_rate() {
    // 100 bytes take a millisecond, and five may wait.
    let rate = Some(Rate { bits_per_s: 800_000, queue_bytes: 500 });
    let (mut forwarder, id) = line(OneWay { rate, ..OneWay::PERFECT }, OneWay::PERFECT);
    for _ in 0..8 {
        forwarder.receive(ms(10), id, Side::Near, packet(100, [198, 18, 2, 2]));
    }
    let times: Vec<_> = run(&mut forwarder).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [11, 12, 13, 14, 15].map(ms));
    assert_eq!(forwarder.counters(id).unwrap()[0].queue_full, 3);
}

#[test]
fn loss_is_the_simulators() {
    let chain = GilbertElliott { enter: 0.05, leave: 0.3, loss_good: 0.0, loss_bad: 1.0 };
    let way = OneWay { loss: Loss::Bursty(chain), ..OneWay::PERFECT };
    let (mut forwarder, id) = line(way, OneWay::PERFECT);
    for _ in 0..20_000 {
        forwarder.receive(ms(1), id, Side::Near, packet(100, [198, 18, 2, 2]));
        while forwarder.pop(ms(1)).is_some() {}
    }
    let [up, _] = forwarder.counters(id).unwrap();
    assert_eq!(up.delivered + up.lost, 20_000);
    let share = f64::from(u32::try_from(up.lost).unwrap()) / 20_000.0;
    assert!((share - chain.mean_loss()).abs() < 0.02, "{share}");
}

#[test]
fn ways_between_regions_are_met_after_the_link_and_shared() {
    let (here, there) = (Region(0), Region(1));
    let mut forwarder = Forwarder::default();
    let up = OneWay { delay: ms(10), ..OneWay::PERFECT };
    let spec = LineSpec {
        profile: LinkProfile { up, down: OneWay::PERFECT },
        region: Some(here),
        ..LineSpec::default()
    };
    let [one, two] = [1, 2].map(|seed| forwarder.add(LineSpec { seed, ..spec }));
    // 100 bytes take a millisecond on the way, whoever sends them.
    let rate = Some(Rate { bits_per_s: 800_000, queue_bytes: 10_000 });
    forwarder.ways().set(here, there, OneWay { delay: ms(40), rate, ..OneWay::PERFECT });
    forwarder.ways().place_network([198, 18, 2, 9].into(), there);
    forwarder.ways().place([198, 18, 2, 7].into(), here);
    for line in [one, two] {
        forwarder.receive(ms(0), line, Side::Near, packet(100, [198, 18, 2, 2]));
    }
    // Near: the same region, though the network is elsewhere.
    forwarder.receive(ms(0), one, Side::Near, packet(100, [198, 18, 2, 7]));
    let times: Vec<_> = run(&mut forwarder).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [ms(10), ms(51), ms(52)]);
}

#[test]
fn removed_links_deliver_nothing_more() {
    let (mut forwarder, id) = line(OneWay { delay: ms(5), ..OneWay::PERFECT }, OneWay::PERFECT);
    forwarder.receive(ms(0), id, Side::Near, packet(100, [198, 18, 2, 2]));
    forwarder.remove(id);
    assert_eq!(run(&mut forwarder), []);
    forwarder.receive(ms(9), id, Side::Near, packet(100, [198, 18, 2, 2]));
    assert_eq!((forwarder.next_due(), forwarder.waiting_bytes), (None, 0));
}
