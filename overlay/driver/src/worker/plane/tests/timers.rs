//! What sessions cost that nobody uses, and what is reported of those that are used.

use overlay_core::control::PathReport;

use super::*;

/// Members that nobody talks with.
const SILENT: u16 = 300;

fn silent_members(side: &mut Side) {
    for index in 0..SILENT {
        let peer = NodeId([3, index as u8, (index >> 8) as u8, 7].repeat(8).try_into().unwrap());
        let role = Role { initiator: index % 2 == 0, lazy: true };
        let (key, index) = (SessionKey { mesh: MESH, peer }, 100 + index);
        let peer_key = WireGuardSecret::generate().public();
        let names = SessionNames { key, peer_key, index, role };
        side.plane.add_session(Instant::now(), names, Arc::default());
    }
}

#[test]
fn sessions_that_nobody_uses_have_no_timers() {
    let mut side = side(0);
    silent_members(&mut side);
    assert_eq!(side.plane.next_tick(), None);
    let now = Instant::now();
    side.job_sends(&plain_frame(&packet((v4(0), v4(100)), UDP, 0, 0, b"the first")));
    let due = side.plane.next_tick().unwrap();
    assert!(due <= now + 2 * TICK);
    side.plane.tick(due);
    assert!(side.plane.next_tick().unwrap() > due);
}

#[test]
fn a_session_that_rests_is_there_at_the_next_packet() {
    let [mut a, mut b] = connected();
    let later = Instant::now() + Duration::from_secs(30);
    for side in [&mut a, &mut b] {
        side.plane.tick(Instant::now() + TICK);
        side.plane.tick(later);
        assert!(side.plane.next_tick().unwrap() > later + 10 * TICK, "it rests");
    }
    a.job_sends(&plain_frame(&packet((v4(0), v4(1)), UDP, 0, 0, b"again")));
    assert!(a.plane.next_tick().unwrap() < later, "its timers run");
    b.receive_until(|plane| plane.net.stats.tun_received_packets == 1);
    assert_eq!(payload(&b.job_receives()[0]), b"again");
    assert!(b.plane.next_tick().unwrap() < later);
}

#[test]
fn only_what_changed_is_reported_and_the_rest_stays() {
    let [mut a, b] = connected();
    let other = SessionKey { mesh: MESH, peer: NodeId([9; 32]) };
    let state = |port| PairState {
        established: true,
        settled: false,
        path: Some(Path::Direct(SocketAddr::from(([192, 0, 2, 1], port)))),
        rtt_us: None,
        established_after_ms: None,
        explain: String::new(),
        activity: Default::default(),
    };
    a.plane.pair_changed(a.key_of(&b), state(1));
    a.plane.pair_changed(other, state(2));
    let now = Instant::now();
    a.plane.publish(now);
    let board = Arc::clone(&a.plane.board);
    let on_board = || {
        let board = board.lock();
        let joined = &board.meshes[&MESH];
        let told = joined.pairs.iter().map(|pair| (pair.peer, pair.path, pair.sent_bytes));
        (joined.revision, told.collect::<Vec<_>>())
    };
    let direct = |port| PathReport::Direct { endpoint: ([192, 0, 2, 1], port).into() };
    assert_eq!(on_board(), (1, vec![(b.node, direct(1), 0), (other.peer, direct(2), 0)]));

    a.plane.pair_changed(other, state(3));
    a.plane.publish(now);
    assert_eq!(on_board(), (2, vec![(b.node, direct(1), 0), (other.peer, direct(3), 0)]));

    let datagram = packet((v4(0), v4(1)), UDP, 0, 0, b"counted");
    a.job_sends(&plain_frame(&datagram));
    a.plane.publish(now);
    assert_eq!(on_board().0, 2, "counts are told once a second");
    a.plane.publish(now + Duration::from_secs(1));
    let sent = datagram.len() as u64;
    assert_eq!(on_board(), (3, vec![(b.node, direct(1), sent), (other.peer, direct(3), 0)]));
    a.plane.publish(now + Duration::from_secs(2));
    assert_eq!(on_board().0, 3, "nothing has changed");
}

#[test]
fn an_observer_hears_of_each_change_of_a_path_once() {
    let mut side = side(0);
    let peer = NodeId([1; 32]);
    let key = SessionKey { mesh: MESH, peer };
    let (to, heard) = std::sync::mpsc::channel();
    side.plane.observer = Some(Box::new(move |observed| to.send(observed.clone()).unwrap()));
    let (endpoint, relay) = ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:9".parse().unwrap());
    let state = |path, rtt_us, explain: &str| PairState {
        established: true,
        settled: false,
        path: Some(path),
        rtt_us,
        established_after_ms: None,
        explain: explain.to_owned(),
        activity: Default::default(),
    };
    let relayed = |rtt_us, explain| state(Path::Relayed { relay, channel: 1 }, rtt_us, explain);

    side.plane.pair_changed(key, relayed(Some(5), "the search goes on (1 probes so far)"));
    side.plane.pair_changed(key, relayed(Some(9), "the search goes on (20 probes so far)"));
    side.plane.pair_changed(key, state(Path::Direct(endpoint), Some(2), ""));
    let report = side.plane.pairs(MESH);
    side.plane.remove_mesh(MESH, report.clone());

    let path = |path, rtt_us, reason: &str| {
        let reason = reason.to_owned();
        Observed::Path { mesh: MESH, peer, member: None, path, rtt_us: Some(rtt_us), reason }
    };
    let answered = "the peer answered a full-size probe at this endpoint";
    assert_eq!(
        heard.try_iter().collect::<Vec<_>>(),
        [
            path(PathReport::Relayed { relay }, 5, "the search goes on (1 probes so far)"),
            path(PathReport::Direct { endpoint }, 2, answered),
            Observed::Pairs { mesh: MESH, pairs: report },
            Observed::Left(MESH),
        ]
    );
}
