//! What stays of a launch between the end of its command and the end of its job.
//!
//! The other ranks may still be at work. Their kernels wait for the last acknowledgements of this one, and
//! ask again when one was lost; a node that left at once would keep them waiting until they give up, as
//! would a TCP without its TIME-WAIT (RFC 9293, 3.3.2). So the job's network stays until the coordinator closes
//! it, which it does when all ranks have ended.

use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;

use super::ending::Outcome;
use super::life::{Order, ordered};
use crate::mesh::{Mesh, MeshEvent};
use crate::shim::client::ShimClient;

/// How long to stay in a network that nobody closes. Chosen: the ranks of most jobs end together, and
/// after ten minutes no connection of one that has ended is alive.
const LINGER: Duration = Duration::from_secs(600);

/// A network namespace without a command, in the shim that made it, and its place in the mesh.
pub(super) struct Remains {
    pub(super) mesh: Option<Mesh>,
    pub(super) shim: ShimClient,
    pub(super) child: Option<Child>,
}

impl Remains {
    /// What is left when this outcome is known. Where no command has come to its end of itself, nothing
    /// may go on, least of all while the results are packed: it is parted with at once.
    pub(super) async fn after(self, outcome: &Outcome) -> Option<Self> {
        if !matches!(outcome, Outcome::Ended(_)) {
            self.end().await;
            return None;
        }
        if let Some(mesh) = &self.mesh {
            // The figures of the job, while the coordinator still takes them.
            mesh.pairs().await;
        }
        Some(self)
    }

    /// Waits until the job's network has been closed, or nobody wants this launch any more; then nothing
    /// of it is left but the folder.
    pub(super) async fn part(mut self, orders: &mut watch::Receiver<Order>) {
        if let Some(mesh) = &mut self.mesh {
            tokio::select! {
                () = closed(mesh) => {}
                () = ordered(orders, Order::Kill) => {}
                () = tokio::time::sleep(LINGER) => {}
            }
        }
        self.end().await;
    }

    async fn end(self) {
        if let Some(mesh) = self.mesh {
            mesh.leave().await;
        }
        let _ = self.shim.release().await;
        if let Some(mut child) = self.child {
            let _ = child.wait().await;
        }
    }
}

async fn closed(mesh: &mut Mesh) {
    while !matches!(mesh.event().await, MeshEvent::Closed { .. }) {}
}
