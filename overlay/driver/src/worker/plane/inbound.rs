//! From the socket to the devices.

use std::time::Instant;

use overlay_core::Path;
use overlay_core::wire::probe::uses_probe_address;
use overlay_core::wire::{Class, Demux};
use quinn_udp::EcnCodepoint;

use super::super::crew::Item;
use super::super::net::Net;
use super::super::reports::Notice;
use super::super::session::Opened;
use super::super::sides;
use super::super::slab::Slab;
use super::{MeshPort, Plane};
use crate::limit::{RateLimit, on_the_line};
use crate::offload::{HEADER_BYTES, addresses, ecn};
use crate::stats::Stats;

impl Plane {
    /// Handles a WireGuard packet that arrived on `via` with that congestion mark.
    pub(in crate::worker) fn on_wireguard(
        &mut self,
        now: Instant,
        via: Path,
        ecn: Option<EcnCodepoint>,
        packet: &[u8],
    ) {
        self.receive::<true>(now, via, ecn, packet);
    }

    /// The same; without the checks and counters only to measure what they cost.
    pub(in crate::worker) fn receive<const CHECKED: bool>(
        &mut self,
        now: Instant,
        via: Path,
        ecn: Option<EcnCodepoint>,
        packet: &[u8],
    ) {
        let (kind, receiver) = match packet {
            [1, ..] => return self.put_initiation(via, packet),
            [2, _, _, _, _, _, _, _, _, b, c, d, ..] | [3 | 4, _, _, _, _, b, c, d, ..] => {
                (packet[0], u32::from_le_bytes([*b, *c, *d, 0]))
            }
            _ => {
                self.net.stats.unknown_sessions += 1;
                return;
            }
        };
        let owner = self.share.owner_of(receiver);
        if !self.share.is_own(owner) {
            return self.crew.hand_over(owner, Item::Datagram(via, ecn), packet);
        }
        match self.sessions.of_receiver(receiver) {
            Some(_) if kind == 2 => self.put_response(via, receiver, packet),
            Some(slot) => self.open::<CHECKED>(now, slot, (via, ecn), packet),
            None => self.net.stats.unknown_sessions += 1,
        }
    }

    /// Has a session open a packet, and takes what is in it.
    pub(super) fn open<const CHECKED: bool>(
        &mut self,
        now: Instant,
        slot: usize,
        (via, ecn): (Path, Option<EcnCodepoint>),
        packet: &[u8],
    ) {
        if self.sessions.get(slot).is_some_and(|session| session.rests) {
            self.wake(now, slot);
        }
        let Some(session) = self.sessions.get_mut(slot) else {
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
        if CHECKED {
            let genuine = addresses(inner).is_some_and(|(source, destination)| {
                let mesh = self.meshes.get(session.mesh);
                mesh.is_some_and(|mesh| mesh.accepts(session.index, source, destination))
            });
            if !genuine {
                self.net.stats.spoofed_packets += 1;
                return;
            }
        }
        if ecn::take_over(inner, ecn).is_err() {
            self.net.stats.congested_packets += 1;
            return;
        }
        if CHECKED {
            session.counts.add_received(len);
            self.net.stats.tun_received_packets += 1;
            self.net.stats.tun_received_bytes += len as u64;
        }
        head.fill(0);
        let (meshes, Net { stats, limit, .. }) = (&mut self.meshes, &mut self.net);
        let device = session.mesh;
        let Some(joins) = meshes.get(device).map(MeshPort::joins) else { return };
        self.merger.push((device, joins), &self.plain[..HEADER_BYTES + len], |device, frame| {
            deliver(meshes, (limit, stats), device, frame);
        });
    }

    /// What came to ports beside the socket: WireGuard's packets of the endpoint that each is for.
    pub(in crate::worker) fn take_side_datagrams(&mut self) {
        let mut buffer = vec![0; 65_536];
        for (from, number) in self.net.sides.names() {
            for _ in 0..sides::BATCH {
                let Some(len) = self.net.sides.receive((from, number), &mut buffer) else { break };
                self.net.stats.udp_received_datagrams += 1;
                self.net.stats.udp_received_bytes += len as u64;
                if Demux::classify(&buffer[..len]) != Class::WireGuard {
                    self.net.stats.unknown_datagrams += 1;
                    continue;
                }
                let before = self.notices.len();
                self.on_wireguard(Instant::now(), Path::Direct(from), None, &buffer[..len]);
                // A session has opened it: that is the port that the peer can reach.
                if self.notices.len() > before {
                    self.net.sides.make_use(from, Some(number));
                }
            }
        }
    }

    /// Writes what was gathered for the devices, and hands over what was gathered for other workers.
    pub(in crate::worker) fn flush_devices(&mut self) {
        self.crew.flush();
        let (meshes, Net { stats, limit, .. }) = (&mut self.meshes, &mut self.net);
        self.merger.flush(|device, frame| deliver(meshes, (limit, stats), device, frame));
    }
}

/// Writes a frame to its device, if the owner grants it: what came cannot wait.
fn deliver(
    meshes: &mut Slab<MeshPort>,
    (limit, stats): (&RateLimit, &mut Stats),
    device: usize,
    frame: &[u8],
) {
    if !limit.try_take(on_the_line(frame.len() - HEADER_BYTES)) {
        stats.limited_frames += 1;
    } else if let Some(mesh) = meshes.get_mut(device) {
        mesh.write(frame, stats);
    }
}
