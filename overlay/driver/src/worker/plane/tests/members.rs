//! What members and strangers may do.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;

use super::*;

/// A member that may seal what it likes.
struct Attacker {
    tunn: Tunn,
    path: Path,
}

impl Attacker {
    /// Becomes a member of the victim's mesh and shakes hands.
    fn join(victim: &mut Side) -> Self {
        let secret = WireGuardSecret::generate();
        let key = SessionKey { mesh: MESH, peer: NodeId([9; 32]) };
        let role = Role { initiator: false, lazy: false };
        let names = SessionNames { key, peer_key: secret.public(), index: INDEX[1], role };
        victim.plane.add_session(Instant::now(), names, Arc::default());
        let victim_key = PublicKey::from(victim.secret.public().0);
        let tunn = Tunn::new(secret.inner().clone(), victim_key, None, None, 77, None);
        let receiver = Sink::new();
        let via = receiver.path();
        let mut attacker = Self { tunn, path: via };
        let mut buffer = [0u8; 256];
        let TunnResult::WriteToNetwork(packet) =
            attacker.tunn.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        victim.plane.on_wireguard(Instant::now(), via, None, packet);
        victim.plane.shake_hands();
        victim.plane.net.flush();
        let response = receiver.receive();
        let TunnResult::WriteToNetwork(keepalive) =
            attacker.tunn.decapsulate(None, &response, &mut buffer)
        else {
            panic!("no keys")
        };
        victim.plane.on_wireguard(Instant::now(), via, None, keepalive);
        attacker
    }

    fn sends(&mut self, victim: &mut Side, inner: &[u8]) {
        let mut buffer = [0u8; 2048];
        let TunnResult::WriteToNetwork(packet) = self.tunn.encapsulate(inner, &mut buffer) else {
            panic!("not sealed")
        };
        victim.plane.on_wireguard(Instant::now(), self.path, None, packet);
        victim.plane.flush_devices();
    }
}

#[test]
fn a_member_cannot_speak_for_another_or_to_another() {
    let mut victim = side(INDEX[0]);
    let mut attacker = Attacker::join(&mut victim);
    attacker.sends(&mut victim, &packet((v4(1), v4(0)), UDP, 0, 0, b"genuine"));
    assert_eq!(victim.job_receives().len(), 1);

    for (source, destination) in [(v4(2), v4(0)), (v6(2), v6(0)), (v4(0), v4(0)), (v4(1), v4(2))] {
        attacker.sends(&mut victim, &packet((source, destination), UDP, 0, 0, b"spoofed"));
    }
    assert_eq!(victim.plane.net.stats.spoofed_packets, 4);
    assert!(victim.job_receives().is_empty());
}

#[test]
fn probes_go_to_the_core_and_never_to_the_job() {
    let mut victim = side(INDEX[0]);
    let mut attacker = Attacker::join(&mut victim);
    victim.plane.notices.clear();
    let probe = Probe::Ping { transaction: [1; 8], size: 100 }.encode();
    attacker.sends(&mut victim, &probe);
    assert!(victim.job_receives().is_empty());
    assert_eq!(victim.plane.net.stats.tun_received_packets, 0);
    let got = victim.plane.notices.iter().any(
        |notice| matches!(notice, Notice::Probe { bytes, via, .. } if *bytes == probe && *via == attacker.path),
    );
    assert!(got);
}

#[test]
fn packets_for_no_session_and_foreign_handshakes_are_counted() {
    let [mut a, b] = connected();
    let mut unknown = vec![0u8; 64];
    unknown[0] = 4;
    a.plane.on_wireguard(Instant::now(), b.path(), None, &unknown);
    assert_eq!(a.plane.net.stats.unknown_sessions, 1);

    // Made with the right public key of this node, by a stranger to the mesh.
    let to = PublicKey::from(a.secret.public().0);
    let stranger = WireGuardSecret::generate();
    let mut tunn = Tunn::new(stranger.inner().clone(), to, None, None, 5, None);
    let mut buffer = [0u8; 256];
    let TunnResult::WriteToNetwork(initiation) =
        tunn.format_handshake_initiation(&mut buffer, true)
    else {
        panic!("no initiation")
    };
    a.plane.on_wireguard(Instant::now(), b.path(), None, initiation);
    initiation[140] ^= 1;
    a.plane.on_wireguard(Instant::now(), b.path(), None, initiation);
    a.plane.shake_hands();
    assert_eq!(a.plane.net.stats.unknown_sessions, 3);
}
