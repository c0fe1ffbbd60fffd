//! The switch in the socket: what goes to the coordinator may go through a tunnel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use overlay_core::ladder::Rung;
use overlay_core::ladder::train::Nonce;
use overlay_core::wire::ControlFrame;
use overlay_core::wire::tunnel::Target;
use overlay_tunnel::Queue;
use tokio::sync::{Notify, mpsc};

/// Relay endpoints that are known at a time. Chosen: a coordinator has a few.
const MAX_RELAYS: usize = 16;

/// Where an answer goes that the data plane did not ask for.
pub(super) type Answers = mpsc::UnboundedSender<(Nonce, Instant)>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Detour {
    is_open: AtomicBool,
    routes: Mutex<Routes>,
    /// Somebody besides the data plane waits for answers of the reflector.
    is_asking: AtomicBool,
    questions: Mutex<HashMap<Nonce, Answers>>,
    /// The control session is up, by UDP.
    has_session: AtomicBool,
    /// Packets to a relay are not answered.
    silent: Notify,
    /// The machine's addresses have changed, or it has slept.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Routes {
    /// As QUIC names it.
    control: Option<SocketAddr>,
    /// The newest first.
    relays: Vec<SocketAddr>,
    carrier: Option<(Rung, Queue)>,
}

impl Detour {
    /// Whether anything takes it: one load, for every batch that is sent.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// What carries packets instead of UDP.
    pub(crate) fn rung(&self) -> Option<Rung> {
        self.routes().carrier.as_ref().map(|(rung, _)| *rung)
    }

    /// Whether the coordinator sees the other end of a stream in place of this node.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_open() && self.rung().is_some_and(Rung::is_stream)
    }

    /// Leads through that queue from now on; none: by UDP. A stream carries everything, QUIC's datagrams what
    /// goes to the relay.
    pub(super) fn lead(&self, carrier: Option<(Rung, Queue)>) {
        let is_open = carrier.is_some();
        self.routes().carrier = carrier;
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// The control session is up by UDP, or is not.
    pub(crate) fn note_session_by_udp(&self, is_up: bool) {
        self.has_session.store(is_up, Ordering::Relaxed);
    }

    /// Whether the control session is up by UDP.
    pub(super) fn has_session_by_udp(&self) -> bool {
        self.has_session.load(Ordering::Relaxed)
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

    /// The relays that it leads to.
    pub(crate) fn relays(&self) -> Vec<SocketAddr> {
        self.routes().relays.clone()
    }

    /// Whether it leads to that relay, by another way than UDP.
    pub(crate) fn leads_to(&self, relay: SocketAddr) -> Option<Rung> {
        let routes = self.routes();
        let (rung, _) = routes.carrier.as_ref()?;
        routes.relays.contains(&relay).then_some(*rung)
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
        let Some((rung, queue)) = &routes.carrier else { return false };
        let target = if routes.control == Some(to) {
            Target::Control
        } else if routes.relays.contains(&to) {
            Target::Relay
        } else {
            return false;
        };
        if target == Target::Control && !rung.is_stream() {
            return false;
        }
        // Asked through a tunnel a reflector would see the tunnel's other end. Where UDP gets through to
        // others, it is asked by UDP.
        if segment.is_none() && is_reflection(contents) {
            return rung.is_stream();
        }
        for datagram in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
            // It fails when the tunnel has ended, which is being noticed.
            queue.push(target, datagram.to_vec());
        }
        true
    }

    /// The answer to that question goes there.
    pub(super) fn expect(&self, nonce: Nonce, answers: Answers) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.insert(nonce, answers);
        self.is_asking.store(true, Ordering::Relaxed);
    }

    /// Nobody waits for those answers any more.
    pub(super) fn forget(&self, nonces: &[Nonce]) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.iter().for_each(|nonce| drop(questions.remove(nonce)));
        self.is_asking.store(!questions.is_empty(), Ordering::Relaxed);
    }

    /// Takes a control frame that answers a question of this module's; false when it is somebody else's.
    pub(crate) fn on_control(&self, now: Instant, datagram: &[u8]) -> bool {
        if !self.is_asking.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(ControlFrame::ReflectResponse { nonce, .. }) = ControlFrame::decode(datagram) else {
            return false;
        };
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answers) = questions.remove(&nonce) else { return false };
        // Whoever asked may have gone.
        let _ = answers.send((nonce, now));
        true
    }

    /// Packets to that relay are not answered.
    pub(crate) fn note_silence(&self, relay: SocketAddr) {
        if self.routes().relays.contains(&relay) {
            self.silent.notify_one();
        }
    }

    /// The machine's addresses have changed, or it has slept.
    pub(crate) fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Completes when a relay falls silent.
    pub(super) async fn silent(&self) {
        self.silent.notified().await;
    }

    /// Completes when the network changes.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
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
    use overlay_tunnel::{Datagram, Queued, queue};

    use super::*;

    fn endpoints() -> [SocketAddr; 3] {
        [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 6443)))
    }

    fn taken(queued: &mut Queued) -> Vec<Datagram> {
        std::iter::from_fn(|| queued.try_next()).collect()
    }

    #[test]
    fn only_the_coordinators_own_datagrams_take_it_one_by_one() {
        let [control, relay, peer] = endpoints();
        let detour = Detour::default();
        detour.set_control(control);
        detour.add_relay(relay);
        assert!(!detour.is_open() && !detour.take(control, b"x", None));

        let (entrance, mut queued) = queue();
        detour.lead(Some((Rung::Tls, entrance)));
        assert!(detour.take(control, b"quic", None) && detour.take(relay, b"aabbc", Some(2)));
        assert!(!detour.take(peer, b"x", None));
        let reflect = ControlFrame::ReflectRequest { token: [0; 16], nonce: [0; 8] }.encode();
        assert!(detour.take(relay, &reflect, None), "it is swallowed");
        let expected: Vec<Datagram> = vec![
            (Target::Control, b"quic".to_vec()),
            (Target::Relay, b"aa".to_vec()),
            (Target::Relay, b"bb".to_vec()),
            (Target::Relay, b"c".to_vec()),
        ];
        assert_eq!(taken(&mut queued), expected);
        detour.lead(None);
        assert!(!detour.take(control, b"x", None));
    }

    #[test]
    fn quic_datagrams_carry_what_goes_to_the_relay_alone() {
        let [control, relay, _] = endpoints();
        let detour = Detour::default();
        detour.set_control(control);
        detour.add_relay(relay);
        let (entrance, mut queued) = queue();
        detour.lead(Some((Rung::Quic, entrance)));
        assert!(detour.is_open() && !detour.is_stream());
        assert_eq!(detour.leads_to(relay), Some(Rung::Quic));
        assert!(!detour.take(control, b"quic", None));
        assert!(detour.take(relay, b"frame", None));
        let reflect = ControlFrame::ReflectRequest { token: [0; 16], nonce: [0; 8] }.encode();
        assert!(!detour.take(relay, &reflect, None), "it is asked by UDP");
        assert_eq!(taken(&mut queued), [(Target::Relay, b"frame".to_vec())]);
    }

    #[test]
    fn answers_go_to_whom_asked_once() {
        let detour = Detour::default();
        let (answers, mut told) = mpsc::unbounded_channel();
        let observed = endpoints()[0];
        let frame = |nonce| ControlFrame::ReflectResponse { nonce, observed }.encode();
        let now = Instant::now();
        assert!(!detour.on_control(now, &frame([1; 8])));
        detour.expect([1; 8], answers.clone());
        detour.expect([2; 8], answers);
        assert!(!detour.on_control(now, &frame([3; 8])));
        assert!(detour.on_control(now, &frame([1; 8])) && !detour.on_control(now, &frame([1; 8])));
        assert_eq!(told.try_recv(), Ok(([1; 8], now)));
        detour.forget(&[[2; 8]]);
        assert!(!detour.on_control(now, &frame([2; 8])));
    }
}
