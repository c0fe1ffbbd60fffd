//! The switch in the socket: what goes to the coordinator may go through a tunnel.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use overlay_core::wire::ControlFrame;
use overlay_core::wire::tunnel::Target;
use tokio::sync::broadcast;

/// Relay endpoints that are known at a time. Chosen: a coordinator has a few.
const MAX_RELAYS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Detour {
    is_open: AtomicBool,
    routes: Mutex<Routes>,
}

#[derive(Debug, Default)]
struct Routes {
    /// As QUIC names it.
    control: Option<SocketAddr>,
    /// The newest first.
    relays: Vec<SocketAddr>,
    stream: Option<broadcast::Sender<(Target, Vec<u8>)>>,
}

impl Detour {
    /// Whether anything takes it: one load, for every batch that is sent.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self, stream: broadcast::Sender<(Target, Vec<u8>)>) {
        self.routes().stream = Some(stream);
        self.is_open.store(true, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.routes().stream = None;
    }

    /// The coordinator's control endpoint.
    pub(crate) fn set_control(&self, at: SocketAddr) {
        self.routes().control = Some(at);
    }

    /// The coordinator named a relay or reflector of its own.
    pub(crate) fn add_relay(&self, at: SocketAddr) {
        let mut routes = self.routes();
        routes.relays.retain(|known| *known != at);
        routes.relays.insert(0, at);
        routes.relays.truncate(MAX_RELAYS);
    }

    /// Where datagrams of that target seem to come from.
    pub(super) fn source(&self, target: Target) -> Option<SocketAddr> {
        let routes = self.routes();
        match target {
            Target::Control => routes.control,
            Target::Relay => routes.relays.first().copied(),
        }
    }

    /// Takes datagrams of `segment` bytes each (all of them when none) for `to`; false when they do not
    /// go this way.
    pub(crate) fn take(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> bool {
        let routes = self.routes();
        let Some(stream) = &routes.stream else { return false };
        let target = if routes.control == Some(to) {
            Target::Control
        } else if routes.relays.contains(&to) {
            Target::Relay
        } else {
            return false;
        };
        for datagram in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
            // Asked through the tunnel a reflector would see the tunnel's other end.
            if !is_reflection(datagram) {
                // It fails when the stream has ended, which is being noticed.
                let _ = stream.send((target, datagram.to_vec()));
            }
        }
        true
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_reflection(datagram: &[u8]) -> bool {
    matches!(
        ControlFrame::decode(datagram),
        Ok(ControlFrame::ReflectRequest { .. } | ControlFrame::ReflectElsewhere { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_coordinators_own_datagrams_take_it_one_by_one() {
        let [control, relay, peer] =
            [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 6443)));
        let detour = Detour::default();
        detour.set_control(control);
        detour.add_relay(relay);
        assert!(!detour.is_open() && !detour.take(control, b"x", None));

        let (sender, mut stream) = broadcast::channel(8);
        detour.open(sender);
        assert!(detour.take(control, b"quic", None) && detour.take(relay, b"aabbc", Some(2)));
        assert!(!detour.take(peer, b"x", None));
        let reflect = ControlFrame::ReflectRequest { token: [0; 16], nonce: [0; 8] }.encode();
        assert!(detour.take(relay, &reflect, None), "it is swallowed");
        let mut taken = Vec::new();
        while let Ok(frame) = stream.try_recv() {
            taken.push(frame);
        }
        let expected: Vec<(Target, Vec<u8>)> = vec![
            (Target::Control, b"quic".to_vec()),
            (Target::Relay, b"aa".to_vec()),
            (Target::Relay, b"bb".to_vec()),
            (Target::Relay, b"c".to_vec()),
        ];
        assert_eq!(taken, expected);
        detour.close();
        assert!(!detour.take(control, b"x", None));
    }
}
