//! From the socket to the devices.

use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use overlay_core::Path;
use overlay_core::wire::probe::uses_probe_address;
use quinn_udp::EcnCodepoint;

use super::super::reports::Notice;
use super::super::session::Opened;
use super::{MeshPort, Plane};
use crate::offload::{HEADER_BYTES, addresses, ecn};

/// The longest reply that handling an initiation may give (a cookie, 64 bytes).
const COOKIE_BYTES: usize = 64;

impl Plane {
    /// Handles a WireGuard packet that arrived on `via` with that congestion mark.
    pub(in crate::worker) fn on_wireguard(
        &mut self,
        now: Instant,
        via: Path,
        ecn: Option<EcnCodepoint>,
        packet: &[u8],
    ) {
        let slot = match packet {
            [1, ..] => self.session_of_initiation(via, packet),
            [2, _, _, _, _, _, _, _, _, b, c, d, ..] | [3 | 4, _, _, _, _, b, c, d, ..] => {
                let receiver = u32::from_le_bytes([*b, *c, *d, 0]);
                self.receivers.get(&receiver).copied()
            }
            _ => None,
        };
        let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) else {
            self.net.stats.unknown_sessions += 1;
            return;
        };
        let (head, plain) = self.plain.split_at_mut(HEADER_BYTES);
        if packet.len() > plain.len() {
            return;
        }
        let opened = session.open(&mut self.net, now, via, packet, plain, &mut self.notices);
        let Opened::Packet(len) = opened else { return };
        let inner = &mut plain[..len];
        if uses_probe_address(inner) {
            let (session, bytes) = (session.key, inner.to_vec());
            self.notices.push_back(Notice::Probe { session, via, bytes });
            return;
        }
        let genuine = addresses(inner).is_some_and(|(source, destination)| {
            let mesh = self.meshes.get(session.mesh);
            mesh.is_some_and(|mesh| mesh.accepts(session.index, source, destination))
        });
        if !genuine {
            self.net.stats.spoofed_packets += 1;
            return;
        }
        if ecn::take_over(inner, ecn).is_err() {
            self.net.stats.congested_packets += 1;
            return;
        }
        session.received_bytes += len as u64;
        self.net.stats.tun_received_packets += 1;
        self.net.stats.tun_received_bytes += len as u64;
        head.fill(0);
        let (meshes, stats) = (&mut self.meshes, &mut self.net.stats);
        let device = session.mesh;
        let Some(joins) = meshes.get(device).map(MeshPort::joins) else { return };
        self.merger.push((device, joins), &self.plain[..HEADER_BYTES + len], |device, frame| {
            if let Some(mesh) = meshes.get_mut(device) {
                mesh.write(frame, stats);
            }
        });
    }

    /// Writes what was gathered for the devices.
    pub(in crate::worker) fn flush_devices(&mut self) {
        let (meshes, stats) = (&mut self.meshes, &mut self.net.stats);
        self.merger.flush(|device, frame| {
            if let Some(mesh) = meshes.get_mut(device) {
                mesh.write(frame, stats);
            }
        });
    }

    /// The session that an initiation is for: the mesh whose key its MAC was made with, the member
    /// whose key is inside. The MAC is looked at before the costly X25519 operation.
    fn session_of_initiation(&mut self, via: Path, packet: &[u8]) -> Option<usize> {
        let mut cookie = [0u8; COOKIE_BYTES];
        for (_, mesh) in self.meshes.iter() {
            match mesh.limiter.verify_packet(Some(via.endpoint().ip()), packet, &mut cookie) {
                Ok(Packet::HandshakeInit(initiation)) => {
                    let half = parse_handshake_anon(mesh.secret.inner(), &mesh.public, &initiation)
                        .ok()?;
                    return mesh.session_of_key(&half.peer_static_public);
                }
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    self.net.push_copy(via, cookie);
                    return None;
                }
                Ok(_) | Err(_) => {}
            }
        }
        None
    }
}
