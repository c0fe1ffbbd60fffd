//! From the devices to the socket.

use std::mem;
use std::net::IpAddr;
use std::time::Instant;

use overlay_core::MeshId;
use overlay_core::wire::probe::uses_probe_address;
use tun_rs::VirtioNetHdr;

use super::super::crew::Item;
use super::{Place, Plane};
use crate::limit::on_the_line;
use crate::offload::{HEADER_BYTES, addresses, split};

/// Bytes read from one device before the others have their turn: four superpackets.
const TURN_BYTES: usize = 256 * 1024;

/// Frames read from one device before the others have their turn.
const TURN_FRAMES: usize = 64;

impl Plane {
    /// Reads what the job of that mesh sent, within the bounds of a turn.
    pub(in crate::worker) fn on_device_readable(&mut self, now: Instant, slot: usize) {
        let mut frame = mem::take(&mut self.frame);
        let mut bytes = 0;
        for _ in 0..TURN_FRAMES {
            let mesh = self.meshes.get_mut(slot);
            let Some(len) = mesh.and_then(|mesh| mesh.read(&mut frame)) else { break };
            self.net.limit.take(on_the_line(len.saturating_sub(HEADER_BYTES)));
            self.on_frame(now, slot, &mut frame[..len]);
            bytes += len;
            if bytes >= TURN_BYTES || !self.net.limit.wait().is_zero() {
                break;
            }
        }
        self.frame = frame;
        self.crew.flush();
    }

    /// Takes a frame that another worker has read.
    pub(in crate::worker) fn on_handed_frame(
        &mut self,
        now: Instant,
        mesh: MeshId,
        frame: &mut [u8],
    ) {
        match self.mesh_slots.get(&mesh) {
            Some(slot) => self.on_frame(now, *slot, frame),
            None => self.net.stats.unroutable_packets += 1,
        }
    }

    fn on_frame(&mut self, now: Instant, slot: usize, frame: &mut [u8]) {
        let stats = &mut self.net.stats;
        let Some((head, packet)) = frame.split_at_mut_checked(HEADER_BYTES) else {
            stats.dropped_packets += 1;
            return;
        };
        let (Ok(header), Some((source, destination))) =
            (VirtioNetHdr::decode(head), addresses(packet))
        else {
            stats.dropped_packets += 1;
            return;
        };
        if is_link_noise(destination) {
            return;
        }
        let Some(mesh) = self.meshes.get(slot) else { return };
        let allowed = mesh.is_own(source) && !uses_probe_address(packet);
        let session = match mesh.session_of_address(destination).filter(|_| allowed) {
            Some(Place::Here(session)) => session,
            Some(Place::There { number, .. }) => {
                return self.crew.hand_over(number, Item::Frame(mesh.id), frame);
            }
            None => {
                stats.unroutable_packets += 1;
                return;
            }
        };
        if self.sessions.get(session).is_some_and(|session| session.rests) {
            self.wake(now, session);
        }
        let Some(session) = self.sessions.get_mut(session) else { return };
        let (net, notices) = (&mut self.net, &mut self.notices);
        let cut = split(&header, packet, &mut self.scratch, |segment| {
            session.send(net, now, segment, notices);
        });
        if let Err(error) = cut {
            tracing::debug!(%error, "frame from the device dropped");
            self.net.stats.dropped_packets += 1;
        }
    }
}

/// Router solicitations, multicast listener reports and the like: every device sends them, no member
/// of a mesh wants them.
fn is_link_noise(destination: IpAddr) -> bool {
    destination.is_multicast()
        || match destination {
            IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
}
