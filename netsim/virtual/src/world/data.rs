//! What scenarios make nodes do, beside what the coordinator says.

use overlay_core::{Input, MeshId};

use super::World;
use crate::wireguard::{Inner, Wg};

impl World {
    /// The job sends a numbered packet.
    ///
    /// # Panics
    ///
    /// When there is no path to the peer yet: jobs start when there is one.
    pub fn send_data(&mut self, mesh: MeshId, from: usize, to: usize, number: u64) {
        let session = self.key(mesh, to);
        let Some((primary, also)) = self.nodes[from].paths.get(&session.peer).copied() else {
            panic!("data before there is a path")
        };
        for path in [Some(primary), also].into_iter().flatten() {
            self.seal(from, session, path, Inner::Data(number));
        }
        let now = self.now();
        if self.nodes[from].may_report(now, session, None) {
            self.input(from, Input::Sent(session));
        }
    }

    /// A node's process starts again and has no keys.
    pub fn forget_keys(&mut self, index: usize) {
        for wg in self.nodes[index].sessions.values_mut() {
            *wg = Wg::default();
        }
    }
}
