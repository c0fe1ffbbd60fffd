//! The plane's tables, for the owner's questions.

use overlay_core::{NodeId, Path, SessionKey};

use super::Plane;
use crate::view::{Flow, MeshView, PingError, Via};

impl Plane {
    /// The meshes, with their members and pairs.
    pub(in crate::worker) fn mesh_views(&self) -> Vec<MeshView> {
        let view = |(_, mesh): (usize, &super::MeshPort)| MeshView {
            id: mesh.id,
            is_open: mesh.is_open,
            netmap: mesh.netmap.clone(),
            pairs: self.pairs(mesh.id),
        };
        self.meshes.iter().map(view).collect()
    }

    /// What relays have brought.
    pub(in crate::worker) fn flows(&self) -> Vec<Flow> {
        let flow = |key: SessionKey| {
            let Path::Relayed { relay, .. } = self.paths.get(&key.peer)?.primary else {
                return None;
            };
            let own = self.sessions.of_key(key).map(|own| &own.counts);
            let counts = own.or_else(|| self.away.counts(key))?;
            let (sent_bytes, _) = counts.read();
            Some(Flow { session: key, relay, arrivals: counts.relayed(), sent_bytes })
        };
        self.sessions.keys().chain(self.away.keys().copied()).filter_map(flow).collect()
    }

    /// A session with that peer, whichever mesh it belongs to, and a path to it.
    pub(in crate::worker) fn path_to(
        &self,
        peer: NodeId,
        via: Via,
    ) -> Result<(SessionKey, Path), PingError> {
        let away = || self.away.keys().filter(|key| key.peer == peer).min().copied();
        let session = self.sessions.with_peer(peer).or_else(away).ok_or(PingError::NoSession)?;
        let path = match via {
            Via::Current => self.paths.get(&peer).map(|selected| selected.primary),
            Via::Relay => self.channels.get(&peer).copied(),
        };
        Ok((session, path.ok_or(PingError::NoPath)?))
    }
}
