//! The switch in the socket: what goes to the coordinator or to a relay may go through a tunnel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use overlay_core::ladder::Rung;
use overlay_core::ladder::train::Nonce;
use overlay_core::wire::ControlFrame;
use overlay_tunnel::Queue;
use tokio::sync::mpsc;

use super::Lane;

/// Where an answer goes that the data plane did not ask for.
pub(super) type Answers = mpsc::UnboundedSender<(Nonce, Instant)>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Detour {
    /// Any of the lanes leads around UDP.
    is_open: AtomicBool,
    /// To the coordinator and its own relay.
    own: Arc<Lane>,
    /// To relays that run alone.
    lone: Mutex<Vec<Arc<Lane>>>,
    /// Somebody besides the data plane waits for answers of the reflector.
    is_asking: AtomicBool,
    questions: Mutex<HashMap<Nonce, Answers>>,
    /// The control session is up, by UDP.
    has_session: AtomicBool,
}

impl Detour {
    /// Whether anything takes it: one load, for every batch that is sent.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// The lane to the coordinator and its own relay.
    pub(super) fn own(&self) -> &Arc<Lane> {
        &self.own
    }

    /// Another lane.
    pub(super) fn add(&self, lane: Arc<Lane>) {
        self.lone().push(lane);
    }

    /// That lane is not there any more.
    pub(super) fn remove(&self, lane: &Arc<Lane>) {
        self.lone().retain(|known| !Arc::ptr_eq(known, lane));
        self.look();
    }

    /// Whether the coordinator sees the other end of a stream in place of this node.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_open() && self.own.rung().is_some_and(Rung::is_stream)
    }

    /// A lane leads through that queue from now on; none: by UDP. A stream carries everything, QUIC's
    /// datagrams what goes to the relay.
    pub(super) fn lead(&self, lane: &Lane, carrier: Option<(Rung, Queue)>, keeps_former: bool) {
        lane.lead(carrier, keeps_former);
        self.look();
    }

    /// The relays of that lane know the way that it leads.
    pub(super) fn forget_former(&self, lane: &Lane) {
        lane.forget_former();
        self.look();
    }

    fn look(&self) {
        let is_open = self.own.is_open() || self.lone().iter().any(|lane| lane.is_open());
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
        self.own.set_control(at);
    }

    /// The coordinator named a relay or reflector of its own.
    pub(crate) fn add_relay(&self, at: SocketAddr) {
        self.own.add_relay(at);
    }

    /// Whether it leads to that relay, by another way than UDP.
    pub(crate) fn leads_to(&self, relay: SocketAddr) -> Option<Rung> {
        let own = self.own.leads_to(relay);
        own.or_else(|| self.lone().iter().find_map(|lane| lane.leads_to(relay)))
    }

    /// Takes datagrams of `segment` bytes each (all of them when none) for `to`; false when they do not
    /// go this way.
    pub(crate) fn take(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> bool {
        self.own.take(to, contents, segment)
            || self.lone().iter().any(|lane| lane.take(to, contents, segment))
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
        self.own.note_silence(relay);
        self.lone().iter().for_each(|lane| lane.note_silence(relay));
    }

    /// The machine's addresses have changed, or it has slept.
    pub(crate) fn note_change(&self) {
        self.own.note_change();
        self.lone().iter().for_each(|lane| lane.note_change());
    }

    fn lone(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.lone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use overlay_core::wire::tunnel::Target;
    use overlay_tunnel::queue;

    use super::*;

    #[test]
    fn each_relay_is_reached_by_its_own_lane() {
        let [control, relay, lone, peer] =
            [1, 2, 3, 4].map(|last| SocketAddr::from(([192, 0, 2, last], 6443)));
        let detour = Detour::default();
        detour.set_control(control);
        detour.add_relay(relay);
        let lane = Arc::new(Lane::to_relay(lone));
        detour.add(Arc::clone(&lane));
        assert!(!detour.is_open() && !detour.take(lone, b"x", None));

        let (entrance, mut queued) = queue();
        detour.lead(&lane, Some((Rung::Tls, entrance)), false);
        assert!(detour.is_open() && !detour.is_stream(), "the coordinator is reached by UDP");
        assert!(detour.take(lone, b"frame", None) && !detour.take(relay, b"x", None));
        assert!(!detour.take(peer, b"x", None) && !detour.take(control, b"x", None));
        assert_eq!(queued.try_next(), Some((Target::Relay, bytes::Bytes::from_static(b"frame"))));
        assert_eq!((detour.leads_to(lone), detour.leads_to(relay)), (Some(Rung::Tls), None));

        let (entrance, _queued) = queue();
        detour.lead(detour.own(), Some((Rung::Tls, entrance)), false);
        assert!(detour.is_stream() && detour.take(control, b"quic", None));
        detour.lead(detour.own(), None, false);
        assert!(detour.is_open() && detour.take(lone, b"frame", None), "the other one stays");
        detour.remove(&lane);
        assert!(!detour.is_open() && !detour.take(lone, b"x", None));
    }

    #[test]
    fn answers_go_to_whom_asked_once() {
        let detour = Detour::default();
        let (answers, mut told) = mpsc::unbounded_channel();
        let observed = SocketAddr::from(([192, 0, 2, 1], 6443));
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
