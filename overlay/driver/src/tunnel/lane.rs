//! One way around UDP: whom it leads to, and what carries it now.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use overlay_core::ladder::Rung;
use overlay_core::wire::ControlFrame;
use overlay_core::wire::relay;
use overlay_core::wire::tunnel::Target;
use overlay_tunnel::Queue;
use tokio::sync::Notify;

/// Relay endpoints that are known at a time. Chosen: a coordinator has a few.
const MAX_RELAYS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    routes: Mutex<Routes>,
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
    /// What carried before, while the relays still know this node there.
    former: Former,
}

#[derive(Debug, Default)]
enum Former {
    #[default]
    None,
    Udp,
    Tunnel(Queue),
}

impl Lane {
    /// To that relay alone.
    pub(super) fn to_relay(at: SocketAddr) -> Self {
        let lane = Self::default();
        lane.add_relay(at);
        lane
    }

    /// What carries packets instead of UDP.
    pub(super) fn rung(&self) -> Option<Rung> {
        self.routes().carrier.as_ref().map(|(rung, _)| *rung)
    }

    /// Leads through that queue from now on; none: by UDP. Until [`Self::forget_former`], relay frames go by what
    /// carried before as well: until the relays have been shown the new way they know this node there, and then here.
    /// What comes twice, the sessions drop.
    pub(super) fn lead(&self, carrier: Option<(Rung, Queue)>, keeps_former: bool) {
        let mut routes = self.routes();
        let former = std::mem::replace(&mut routes.carrier, carrier);
        routes.former = match former {
            _ if !keeps_former => Former::None,
            Some((_, queue)) => Former::Tunnel(queue),
            None => Former::Udp,
        };
    }

    /// The relays know the new way.
    pub(super) fn forget_former(&self) {
        self.routes().former = Former::None;
    }

    /// Whether anything goes another way than UDP.
    pub(super) fn is_open(&self) -> bool {
        let routes = self.routes();
        routes.carrier.is_some() || matches!(routes.former, Former::Tunnel(_))
    }

    /// The coordinator's control endpoint.
    pub(super) fn set_control(&self, at: SocketAddr) {
        self.routes().control = Some(at);
    }

    /// A relay or reflector that it leads to.
    pub(super) fn add_relay(&self, at: SocketAddr) {
        let mut routes = self.routes();
        routes.relays.retain(|known| *known != at);
        routes.relays.insert(0, at);
        routes.relays.truncate(MAX_RELAYS);
    }

    /// The relays that it leads to.
    pub(super) fn relays(&self) -> Vec<SocketAddr> {
        self.routes().relays.clone()
    }

    /// What leads to that relay instead of UDP.
    pub(super) fn leads_to(&self, relay: SocketAddr) -> Option<Rung> {
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
    pub(super) fn take(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> bool {
        let routes = self.routes();
        let target = if routes.control == Some(to) {
            Target::Control
        } else if routes.relays.contains(&to) {
            Target::Relay
        } else {
            return false;
        };
        let segment_len = segment.unwrap_or(contents.len());
        let is_frame = target == Target::Relay && relay::is_frame(contents);
        if is_frame && let Former::Tunnel(queue) = &routes.former {
            queue.extend_from_slice(target, contents, segment_len);
        }
        let Some((rung, queue)) = &routes.carrier else { return false };
        if target == Target::Control && !rung.is_stream() {
            return false;
        }
        // It fails when the tunnel has ended, which is being noticed.
        queue.extend_from_slice(target, contents, segment_len);
        // Through a tunnel a reflector tells how far the relay is, but not where this node is: where UDP gets through
        // to others, it is asked by UDP, too.
        let asks_reflector = segment.is_none() && is_reflection(contents) && !rung.is_stream();
        let goes_by_udp_too = asks_reflector || (is_frame && matches!(routes.former, Former::Udp));
        !goes_by_udp_too
    }

    /// Packets to that relay are not answered.
    pub(super) fn note_silence(&self, relay: SocketAddr) {
        if self.routes().relays.contains(&relay) {
            self.silent.notify_one();
        }
    }

    /// The machine's addresses have changed, or it has slept.
    pub(super) fn note_change(&self) {
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
    use bytes::Bytes;
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
        let lane = Lane::to_relay(relay);
        lane.set_control(control);
        assert!(!lane.take(control, b"x", None));

        let (entrance, mut queued) = queue();
        lane.lead(Some((Rung::Tls, entrance)), false);
        assert!(lane.take(control, b"quic", None) && lane.take(relay, b"aabbc", Some(2)));
        assert!(!lane.take(peer, b"x", None));
        let reflect = ControlFrame::ReflectRequest { token: [0; 16], nonce: [0; 8] }.encode();
        assert!(lane.take(relay, &reflect, None));
        let expected: Vec<Datagram> = vec![
            (Target::Control, Bytes::from_static(b"quic")),
            (Target::Relay, Bytes::from_static(b"aa")),
            (Target::Relay, Bytes::from_static(b"bb")),
            (Target::Relay, Bytes::from_static(b"c")),
            (Target::Relay, reflect.into()),
        ];
        assert_eq!(taken(&mut queued), expected);
        lane.lead(None, false);
        assert!(!lane.take(control, b"x", None));
    }

    #[test]
    fn quic_datagrams_carry_what_goes_to_the_relay_alone() {
        let [control, relay, _] = endpoints();
        let lane = Lane::to_relay(relay);
        lane.set_control(control);
        let (entrance, mut queued) = queue();
        lane.lead(Some((Rung::Quic, entrance)), false);
        assert_eq!(lane.leads_to(relay), Some(Rung::Quic));
        assert!(!lane.take(control, b"quic", None));
        assert!(lane.take(relay, b"frame", None));
        let reflect = ControlFrame::ReflectRequest { token: [0; 16], nonce: [0; 8] }.encode();
        assert!(!lane.take(relay, &reflect, None), "it is asked by UDP, too");
        let expected =
            [(Target::Relay, Bytes::from_static(b"frame")), (Target::Relay, reflect.into())];
        assert_eq!(taken(&mut queued), expected);
    }

    #[test]
    fn while_the_relay_is_told_of_another_way_its_frames_go_both_ways_and_nothing_else_does() {
        let [_, at, _] = endpoints();
        let lane = Lane::to_relay(at);
        let frame = relay::encode(7, b"sealed");
        let asked = ControlFrame::KeepAlive { nonce: [0; 8] }.encode();
        let (quic, mut by_quic) = queue();
        lane.lead(Some((Rung::Quic, quic)), true);
        assert!(!lane.take(at, &frame, None), "by UDP, too");
        assert!(lane.take(at, &asked, None), "the relay shall see the new way");
        assert_eq!(taken(&mut by_quic).len(), 2);
        lane.forget_former();
        assert!(lane.take(at, &frame, None));

        lane.lead(None, true);
        assert!(lane.is_open() && !lane.take(at, &frame, None) && !lane.take(at, &asked, None));
        let frames = vec![(Target::Relay, Bytes::from(frame.clone())); 2];
        assert_eq!(taken(&mut by_quic), frames, "the one before, and a copy");
        let (tls, mut by_tls) = queue();
        lane.forget_former();
        assert!(!lane.is_open() && !lane.take(at, &frame, None));
        assert_eq!(taken(&mut by_quic), []);
        lane.lead(Some((Rung::Tls, tls)), false);
        assert!(lane.take(at, &frame, None));
        assert_eq!(taken(&mut by_tls).len(), 1);
    }
}
