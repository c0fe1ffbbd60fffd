//! Frames of reflectors and relays, and the keepalives that hold this node's channels.

use std::net::SocketAddr;

use super::Node;
use crate::NodeId;
use crate::io::Output;
use crate::keeper::{Keeper, Kept, MAX_KEEPERS};
use crate::nat::Taken;
use crate::netmap::RelayOffer;
use crate::wire::ControlFrame;

impl Node {
    pub(super) fn on_control(&mut self, from: SocketAddr, bytes: &[u8]) {
        let taken = match ControlFrame::decode(bytes) {
            Ok(ControlFrame::ReflectResponse { nonce, observed })
                if self.homes.on_response(self.now, from, nonce) =>
            {
                let taken = self.nat.on_relay_saw(self.now, from, observed);
                self.on_observed(taken);
                true
            }
            // It came through a tunnel, and says nothing of UDP.
            Ok(ControlFrame::ReflectResponse { observed, .. })
                if observed.ip().is_unspecified() =>
            {
                true
            }
            Ok(ControlFrame::ReflectResponse { nonce, observed }) => {
                let is_active = self.needs_reflector();
                let taken = self.nat.on_response(self.now, from, nonce, observed, is_active);
                self.on_observed(taken)
            }
            Ok(ControlFrame::KeepAliveAck { nonce, observed, channels, lifetime_s: _ }) => {
                self.on_kept(from, nonce, observed, channels.into())
            }
            Ok(frame) => self.on_relay_frame(from, &frame),
            Err(_) => false,
        };
        self.stats.control_refused += u64::from(!taken);
    }

    /// The relays that run now.
    pub(super) fn on_relays(&mut self, offers: &[RelayOffer]) {
        if !self.homes.on_offers(self.now, offers) {
            self.stats.orders_refused += 1;
        }
        let homes = &self.homes;
        for peer in self.peers.values_mut() {
            peer.on_relays_running(|relay| homes.may_run(relay));
        }
    }

    fn on_observed(&mut self, taken: Taken) -> bool {
        if taken == Taken::News {
            self.on_own_candidates();
        }
        taken != Taken::No
    }

    /// While a relay sees this node every 20 s, the reflectors need not.
    pub(super) fn needs_reflector(&self) -> bool {
        !self.meshes.is_empty() && !self.keepers.values().any(Keeper::is_keeping)
    }

    fn on_relay_frame(&mut self, from: SocketAddr, frame: &ControlFrame) -> bool {
        let (ControlFrame::BindChallenge { nonce, .. } | ControlFrame::BindAck { nonce, .. }) =
            frame
        else {
            return false;
        };
        let Some(id) = self.asked.get(nonce).copied().filter(|id| self.peers.contains_key(id))
        else {
            return false;
        };
        let mut is_taken = false;
        self.with_peer(id, |peer, ctx| is_taken = peer.on_control(ctx, from, frame));
        if is_taken && matches!(frame, ControlFrame::BindAck { .. }) {
            self.on_bound(from, id);
        }
        is_taken
    }

    /// A channel at that relay is bound: one keepalive is for all of them.
    fn on_bound(&mut self, relay: SocketAddr, id: NodeId) {
        let may_be_new = self.keepers.len() < MAX_KEEPERS;
        match self.keepers.get(&relay) {
            Some(keeper) if keeper.is_keeping() => {
                self.with_peer(id, |peer, ctx| peer.on_kept(ctx, relay, true));
            }
            None if may_be_new => {
                let keeper = Keeper::new(self.now, relay, &mut self.keeper_rng);
                self.keepers.insert(relay, keeper);
            }
            Some(_) | None => {}
        }
    }

    fn on_kept(
        &mut self,
        relay: SocketAddr,
        nonce: [u8; 8],
        observed: SocketAddr,
        channels: usize,
    ) -> bool {
        let Some(keeper) = self.keepers.get_mut(&relay) else { return false };
        if !keeper.on_ack(self.now, relay, nonce, &mut self.keeper_rng) {
            return false;
        }
        let ours: usize = self.peers.values().map(|peer| peer.bound_at(relay)).sum();
        // Fewer than this node believes: the relay has started again, or has dropped some.
        let kept = channels >= ours;
        self.with_all_peers(|peer, ctx| peer.on_kept(ctx, relay, kept));
        let taken = self.nat.on_relay_saw(self.now, relay, observed);
        self.on_observed(taken);
        true
    }

    /// Whether the home relay is still the same one, and still holds this node's channels.
    pub(super) fn look_at_home(&mut self) {
        let is_kept = |relay: &SocketAddr| self.keepers.get(relay).is_some_and(Keeper::is_keeping);
        let home = self.homes.home().filter(is_kept);
        if std::mem::replace(&mut self.kept_home, home) != home {
            self.with_all_peers(|peer, ctx| peer.on_home(ctx));
        }
    }

    pub(super) fn fire_keepers(&mut self) {
        let due: Vec<_> = self
            .keepers
            .iter()
            .filter(|(_, keeper)| keeper.next_timer() <= self.now)
            .map(|(relay, _)| *relay)
            .collect();
        for relay in due {
            if self.peers.values().all(|peer| peer.bound_at(relay) == 0) {
                self.keepers.remove(&relay);
                continue;
            }
            let Some(keeper) = self.keepers.get_mut(&relay) else { continue };
            match keeper.fire_due_timers(self.now, &mut self.keeper_rng) {
                Some(Kept::Request(frame)) => {
                    self.outputs.push(Output::Transmit { to: relay, bytes: frame.encode() });
                }
                Some(Kept::Silent(frame)) => {
                    self.outputs.push(Output::Transmit { to: relay, bytes: frame.encode() });
                    self.outputs.push(Output::RelaySilent(relay));
                }
                Some(Kept::Lost) => {
                    self.with_all_peers(|peer, ctx| peer.on_kept(ctx, relay, false));
                }
                None => {}
            }
        }
    }
}
