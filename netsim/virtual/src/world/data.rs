//! What scenarios make nodes do, beside what the coordinator says.

use netsim_sim::Change;
use overlay_core::MeshId;

use super::World;
use crate::wireguard::Inner;

impl World {
    /// The job sends a numbered packet. As a driver does, it is held for a while if there are no keys
    /// or no path yet.
    pub fn send_data(&mut self, mesh: MeshId, from: usize, to: usize, number: u64) {
        self.send_inner(mesh, from, to, Inner::Data(number));
    }

    /// The job sends a packet.
    pub fn send_inner(&mut self, mesh: MeshId, from: usize, to: usize, inner: Inner) {
        let key = self.key(mesh, to);
        self.with_session(from, key, |session, now, wants| session.send(now, inner, wants));
    }

    /// A node's machine stands still: it sends and hears nothing, and no timer of it fires.
    pub fn suspend(&mut self, index: usize) {
        self.apply(Change::Suspend(self.nodes[index].host));
    }

    /// It goes on, and its driver fires the timers that are long due.
    pub fn resume(&mut self, index: usize) {
        self.apply(Change::Resume(self.nodes[index].host));
    }

    /// A node's process starts again and has no keys.
    pub fn forget_keys(&mut self, index: usize) {
        let keys: Vec<_> = self.nodes[index].sessions.keys().copied().collect();
        for key in keys {
            self.renew(index, key);
        }
    }
}
