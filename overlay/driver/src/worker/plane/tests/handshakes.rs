//! Many handshakes at once.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;

use super::*;

/// Members beside the one that has data, as when a large job begins.
const CROWD: u16 = 80;

#[test]
fn data_goes_on_between_the_handshakes_of_a_large_jobs_start() {
    let [mut a, mut b] = connected();
    let early = Instant::now();
    // All of them want a handshake at once, and this side wants one with as many others.
    let mut buffer = [0u8; 256];
    for index in 0..CROWD {
        let secret = WireGuardSecret::generate();
        let member = |first| NodeId([first, index as u8, 7, 7].repeat(8).try_into().unwrap());
        let meet = |b: &mut Side, peer, index, initiator, peer_key| {
            let (key, role) = (SessionKey { mesh: MESH, peer }, Role { initiator, lazy: false });
            b.plane.add_session(early, SessionNames { key, peer_key, index, role }, Arc::default());
            key
        };
        meet(&mut b, member(1), 100 + index, false, secret.public());
        let key = meet(&mut b, member(2), 300 + index, true, WireGuardSecret::generate().public());
        b.plane.initiate(key, vec![a.path()]);
        let to = PublicKey::from(b.secret.public().0);
        let mut tunn = Tunn::new(secret.inner().clone(), to, None, None, u32::from(index), None);
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        b.plane.on_wireguard(early, a.path(), None, initiation);
    }
    let sent = b.plane.net.stats.udp_sent_datagrams;
    let mut turns = 0;
    while b.plane.has_handshakes() {
        // A packet in each turn is delivered in that turn, whatever waits.
        a.job_sends(&plain_frame(&packet((v4(0), v4(1)), UDP, 0, 0, b"goes on")));
        wait_readable(&b.socket.as_fd());
        let Side { plane, socket, receiver, .. } = &mut b;
        let each = |meta: &RecvMeta, message: &[u8]| {
            for datagram in datagrams(meta, message) {
                let via = Path::Direct(plain(meta.addr));
                plane.on_wireguard(Instant::now(), via, meta.ecn, datagram);
            }
        };
        receiver.receive(socket, each).unwrap();
        plane.flush_devices();
        assert_eq!(payload(&b.job_receives()[0]), b"goes on");
        let before = b.plane.net.stats.udp_sent_datagrams;
        b.plane.shake_hands();
        b.plane.net.flush();
        let shaken = b.plane.net.stats.udp_sent_datagrams - before;
        assert!((1..=2).contains(&shaken), "{shaken} handshakes in one turn");
        turns += 1;
    }
    assert_eq!(b.plane.net.stats.udp_sent_datagrams - sent, 2 * u64::from(CROWD));
    assert_eq!(turns, CROWD);
}

#[test]
fn sessions_whose_keys_are_equally_old_renew_them_one_after_the_other() {
    let [mut a, b] = connected();
    for index in 0..CROWD {
        let peer = NodeId([2, index as u8, 7, 7].repeat(8).try_into().unwrap());
        let (key, index) = (SessionKey { mesh: MESH, peer }, 100 + index);
        let role = Role { initiator: true, lazy: false };
        let peer_key = WireGuardSecret::generate().public();
        let names = SessionNames { key, peer_key, index, role };
        a.plane.add_session(Instant::now(), names, Arc::default());
        a.plane.use_path(peer, b.path(), None);
        a.job_sends(&plain_frame(&packet((v4(0), v4(index)), UDP, 0, 0, b"waits")));
    }
    let (sent, now) = (a.plane.net.stats.udp_sent_datagrams, Instant::now() + TICK);
    let mut begun = Vec::new();
    a.plane.tick(now);
    loop {
        a.plane.net.flush();
        begun.push(a.plane.net.stats.udp_sent_datagrams - sent - begun.iter().sum::<u64>());
        if !a.plane.has_handshakes() {
            break;
        }
        a.plane.tick(now);
    }
    assert!(begun.iter().all(|count| *count <= 2), "{begun:?}");
    assert_eq!(begun.iter().sum::<u64>(), u64::from(CROWD));
}

#[test]
fn handshakes_that_nobody_makes_cost_the_others_no_turn() {
    let [mut a, b] = connected();
    let mut junk = [0u8; 148];
    junk[0] = 1;
    for _ in 0..2000 {
        a.plane.on_wireguard(Instant::now(), b.path(), None, &junk);
    }
    assert!(a.plane.net.stats.refused_packets > 0, "the queue is bounded");
    let mut turns = 0;
    while a.plane.has_handshakes() {
        a.plane.shake_hands();
        turns += 1;
    }
    assert!(turns < 20, "{turns}");
}
