//! One WireGuard session: boringtun's `Tunn` with what it leaves to its user.
//!
//! The roles are fixed: the initiator starts handshakes (the core says when and on which paths, for
//! the first ones), the other side only answers, unless the job's packets wait for keys. Crossed
//! initiations would fight each other otherwise.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use overlay_core::ladder::flow::Arrivals;
use overlay_core::wire::probe::{MESH_MTU, uses_probe_address};
use overlay_core::{Path, SessionKey, WireGuardKey};

use super::net::Net;
use super::pace::{Activity, Pace};
use super::reports::{Notice, Reports};
use crate::offload::{SEGMENT_BYTES, ecn};

/// What WireGuard adds to a packet (header 16, tag 16).
const OVERHEAD: usize = 32;

/// Packets of the job that wait for keys or a path, the oldest are dropped. Chosen: a TCP stream's
/// first window and a few handshakes; everything else is sent again by its sender.
const MAX_HELD: usize = 128;

/// How long packets wait, or a new session stays without keys, before the side that should only answer
/// starts a handshake itself: the other side does not know when this one has started again.
const ANSWERER_PATIENCE: Duration = Duration::from_secs(2);

/// The same once it has had keys: they are too old, and both sides know it. Chosen: time for the other
/// side, which may have something to send at the same moment.
const RENEWER_PATIENCE: Duration = Duration::from_millis(300);

/// The owner's pings that wait for keys. Chosen: whoever asks more often is answered from then on.
const MAX_ASKED: usize = 8;

/// How long a repeated initiation is answered with the same response. Copies of one initiation arrive
/// on several paths at about the same time.
const ANSWER_LIFETIME: Duration = Duration::from_secs(10);

/// The first byte of WireGuard's messages.
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const TRANSPORT: u8 = 4;

/// The path in use.
#[derive(Clone, Copy)]
pub(super) struct Selected {
    pub(super) primary: Path,
    pub(super) also: Option<Path>,
}

/// What opening a packet gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opened {
    /// Nothing for the job: a handshake, a keepalive, or a packet that was refused.
    Nothing,
    /// An IP packet of that many bytes is in the buffer.
    Packet(usize),
}

pub(super) struct Session {
    pub(super) key: SessionKey,
    /// The mesh's number in the plane.
    pub(super) mesh: usize,
    /// The peer's index in the mesh.
    pub(super) index: u16,
    pub(super) peer_key: WireGuardKey,
    /// The upper 24 bits of this side's receiver indices.
    pub(super) receiver: u32,
    pub(super) selected: Option<Selected>,
    /// Where handshakes go before a path is selected: the pair's relay channel.
    pub(super) fallback: Option<Path>,
    /// Longer packets do not pass on the selected path: they take the relay.
    pub(super) route_mtu: usize,
    pub(super) counts: Arc<Counts>,
    /// What came through relays, of which the packets' numbers tell what is missing.
    relayed: Arrivals,
    pub(super) reports: Reports,
    initiator: bool,
    tunn: Box<Tunn>,
    keyed: bool,
    held: VecDeque<Vec<u8>>,
    held_since: Option<Instant>,
    /// The owner's pings that wait for keys.
    asked: Vec<(Path, Vec<u8>)>,
    /// When the session was made; none once it has had keys, and for the initiator, whose first
    /// handshakes the core times.
    waits_since: Option<Instant>,
    answer: Option<Answer>,
    /// An initiation that a timer asked for was kept back; the next one is sent.
    kept_back: bool,
    activity: Activity,
    /// Its timers run seldom or never: it has to be woken before it is used.
    pub(super) rests: bool,
    /// When they run next.
    pub(super) due: Option<Instant>,
}

struct Answer {
    initiation: Vec<u8>,
    response: Vec<u8>,
    at: Instant,
}

/// The names of a new session.
pub(super) struct SessionConfig {
    pub(super) key: SessionKey,
    pub(super) mesh: usize,
    pub(super) index: u16,
    pub(super) peer_key: WireGuardKey,
    pub(super) role: Role,
    pub(super) counts: Arc<Counts>,
}

/// The job's bytes of one session, and what relays brought. Its worker counts, the first one reads.
#[derive(Default)]
pub(super) struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    relayed: AtomicU64,
    relayed_expected: AtomicU64,
    relayed_bytes: AtomicU64,
}

impl Counts {
    pub(super) fn add_sent(&self, bytes: usize) {
        add(&self.sent, bytes);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        add(&self.received, bytes);
    }

    fn note_relayed(&self, arrivals: &Arrivals) {
        self.relayed.store(arrivals.received, Ordering::Relaxed);
        self.relayed_expected.store(arrivals.expected, Ordering::Relaxed);
        self.relayed_bytes.store(arrivals.bytes, Ordering::Relaxed);
    }

    /// What came through relays.
    pub(super) fn relayed(&self) -> Arrivals {
        let mut arrivals = Arrivals::default();
        arrivals.received = self.relayed.load(Ordering::Relaxed);
        arrivals.expected = self.relayed_expected.load(Ordering::Relaxed);
        arrivals.bytes = self.relayed_bytes.load(Ordering::Relaxed);
        arrivals
    }

    /// Bytes sent and received.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// There is one writer: what a locked addition would cost is saved.
fn add(count: &AtomicU64, bytes: usize) {
    count.store(count.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
}

/// Who begins the handshake.
#[derive(Clone, Copy)]
pub(super) struct Role {
    /// This side does; the other one answers.
    pub(super) initiator: bool,
    /// Nobody, before there is something to send.
    pub(super) lazy: bool,
}

impl Session {
    /// `receiver` is a random number below 2^24 that no other session has.
    pub(super) fn new(
        now: Instant,
        config: SessionConfig,
        secret: &StaticSecret,
        receiver: u32,
    ) -> Self {
        Self {
            key: config.key,
            mesh: config.mesh,
            index: config.index,
            peer_key: config.peer_key,
            receiver,
            selected: None,
            fallback: None,
            route_mtu: MESH_MTU,
            counts: config.counts,
            relayed: Arrivals::default(),
            reports: Reports::new(config.key),
            initiator: config.role.initiator,
            tunn: tunnel(secret, config.peer_key, receiver),
            keyed: false,
            held: VecDeque::new(),
            held_since: None,
            asked: Vec::new(),
            waits_since: (!config.role.initiator && !config.role.lazy).then_some(now),
            answer: None,
            kept_back: false,
            activity: Activity::default(),
            rests: false,
            due: None,
        }
    }

    /// Somebody is about to use it, or has.
    pub(super) fn note_use(&mut self) {
        self.activity.note();
    }

    /// How often its timers have to run from now on.
    pub(super) fn pace(&mut self, now: Instant) -> Pace {
        let pace = self.activity.pace(now);
        let waits = self.held_since.or(self.waits_since).is_some();
        let pace = if waits { Pace::InUse } else { pace };
        self.rests = pace != Pace::InUse;
        pace
    }

    /// Sends a packet of the job, or holds it until there are keys and a path.
    pub(super) fn send(
        &mut self,
        net: &mut Net,
        now: Instant,
        packet: &[u8],
        notices: &mut VecDeque<Notice>,
    ) {
        self.activity.note();
        self.counts.add_sent(packet.len());
        net.stats.tun_sent_packets += 1;
        net.stats.tun_sent_bytes += packet.len() as u64;
        self.reports.sent(now, notices);
        match self.selected {
            Some(selected) if self.keyed => {
                let selected = self.wide_enough(selected, packet.len());
                self.seal(net, selected, packet);
            }
            _ => self.hold(net, now, packet),
        }
    }

    /// Seals a probe and sends it on that path alone; without keys there is nothing to probe with.
    pub(super) fn probe(&mut self, net: &mut Net, via: Path, packet: &[u8]) {
        if !self.keyed || packet.len() > SEGMENT_BYTES {
            return;
        }
        self.activity.note();
        let mut buffer = [0u8; SEGMENT_BYTES + OVERHEAD];
        if let TunnResult::WriteToNetwork(sealed) = self.tunn.encapsulate(packet, &mut buffer) {
            net.push_whole(via, sealed);
        }
    }

    /// Whether packets can be sealed, as far as the timers know.
    pub(super) fn has_keys(&self) -> bool {
        self.keyed
    }

    /// The same for the owner's ping, which waits for keys as a packet of the job does.
    pub(super) fn ask(&mut self, net: &mut Net, now: Instant, via: Path, packet: &[u8]) {
        if self.keyed {
            self.probe(net, via, packet);
        } else if self.asked.len() < MAX_ASKED {
            self.asked.push((via, packet.to_vec()));
            self.held_since.get_or_insert(now);
        }
    }

    /// Makes a fresh initiation and sends it on each path.
    pub(super) fn initiate(&mut self, net: &mut Net, via: &[Path]) {
        self.activity.note();
        let mut buffer = [0u8; 256];
        let result = self.tunn.format_handshake_initiation(&mut buffer, true);
        if let TunnResult::WriteToNetwork(packet) = result {
            for path in via {
                net.push_copy(*path, packet);
            }
        }
    }

    /// Uses another path from now on.
    pub(super) fn select(&mut self, net: &mut Net, selected: Selected) {
        self.selected = Some(selected);
        self.release(net, None);
    }

    /// Opens a WireGuard packet into `plain`, which is at least as long and at least 256 bytes.
    pub(super) fn open(
        &mut self,
        net: &mut Net,
        now: Instant,
        via: Path,
        packet: &[u8],
        plain: &mut [u8],
        notices: &mut VecDeque<Notice>,
    ) -> Opened {
        self.activity.note();
        let kind = packet[0];
        if kind == INITIATION && self.answer_again(net, now, via, packet) {
            return Opened::Nothing;
        }
        let opened = match self.tunn.decapsulate(Some(via.endpoint().ip()), packet, plain) {
            TunnResult::WriteToTunnelV4(inner, _) | TunnResult::WriteToTunnelV6(inner, _) => {
                Opened::Packet(inner.len())
            }
            TunnResult::WriteToNetwork(reply) => {
                // A response to an initiation, or the first keepalive of new keys: back where it
                // came from, since no other path is known to work yet.
                net.push_copy(via, reply);
                if kind == INITIATION && reply[0] == RESPONSE {
                    let (initiation, response) = (packet.to_vec(), reply.to_vec());
                    self.answer = Some(Answer { initiation, response, at: now });
                }
                Opened::Nothing
            }
            TunnResult::Done => Opened::Nothing,
            TunnResult::Err(error) => {
                tracing::trace!(?error, kind, "packet refused");
                net.stats.refused_packets += 1;
                return Opened::Nothing;
            }
        };
        if kind == RESPONSE || kind == TRANSPORT {
            let at = if kind == RESPONSE { 8 } else { 4 };
            let receiver =
                u32::from_le_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
            let data = match opened {
                Opened::Packet(len) => !uses_probe_address(&plain[..len]),
                Opened::Nothing => false,
            };
            if kind == TRANSPORT && matches!(via, Path::Relayed { .. }) {
                let number: [u8; 8] = packet[8..16].try_into().unwrap_or_default();
                self.relayed.take(receiver, u64::from_le_bytes(number), packet.len());
                self.counts.note_relayed(&self.relayed);
            }
            self.kept_back = false;
            self.reports.authenticated(now, via, receiver, data, notices);
        }
        if !self.keyed || kind != TRANSPORT {
            self.refresh_keys();
            self.release(net, Some(via));
        }
        opened
    }

    /// Runs WireGuard's timers; to be called at least every 250 ms while the session is in use, and before that,
    /// since boringtun's clock only advances here. Whether a handshake was begun, which is costly.
    pub(super) fn tick(
        &mut self,
        net: &mut Net,
        now: Instant,
        notices: &mut VecDeque<Notice>,
    ) -> bool {
        let (mut buffer, mut has_begun) = ([0u8; 256], false);
        match self.tunn.update_timers(&mut buffer) {
            TunnResult::WriteToNetwork(packet) => {
                has_begun = packet[0] == INITIATION;
                let out_of_role = has_begun && !self.initiator;
                let keep_back = out_of_role && !mem::replace(&mut self.kept_back, true);
                if let Some(selected) = self.selected.filter(|_| !keep_back) {
                    push_sealed(net, selected, packet);
                }
            }
            // Its keys are gone. It goes on with the next handshake: one made anew would not know which of the
            // peer's initiations are old, and answer whoever has kept some.
            TunnResult::Err(WireGuardError::ConnectionExpired)
            | TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
        self.refresh_keys();
        let patience = match (self.initiator, self.waits_since) {
            (true, _) => Duration::ZERO,
            (false, Some(_)) => ANSWERER_PATIENCE,
            (false, None) => RENEWER_PATIENCE,
        };
        let relayed = self.fallback.map(|primary| Selected { primary, also: None });
        if let (Some(since), Some(selected)) =
            (self.held_since.or(self.waits_since), self.selected.or(relayed))
            && !self.keyed
            && now.duration_since(since) >= patience
            && let TunnResult::WriteToNetwork(packet) =
                self.tunn.format_handshake_initiation(&mut buffer, false)
        {
            has_begun = true;
            push_sealed(net, selected, packet);
        }
        self.reports.tick(now, notices);
        if has_begun {
            self.activity.note();
        }
        has_begun
    }

    /// Answers a copy of the last initiation, which boringtun would refuse as a replay.
    fn answer_again(&mut self, net: &mut Net, now: Instant, via: Path, packet: &[u8]) -> bool {
        let known = self.answer.as_ref().filter(|answer| {
            now.duration_since(answer.at) < ANSWER_LIFETIME && answer.initiation == packet
        });
        if let Some(answer) = known {
            net.push_copy(via, &answer.response);
        }
        known.is_some()
    }

    /// The selected path, or the relay for packets that do not pass there.
    fn wide_enough(&self, selected: Selected, len: usize) -> Selected {
        match self.fallback {
            Some(primary) if len > self.route_mtu => Selected { primary, also: None },
            Some(_) | None => selected,
        }
    }

    fn seal(&mut self, net: &mut Net, selected: Selected, packet: &[u8]) {
        let (len, mark) = (packet.len() + OVERHEAD, ecn::mark(packet));
        let tunn = &mut self.tunn;
        match selected.also {
            None => net.push((selected.primary, mark), len, |slot| {
                let sealed = tunn.encapsulate(packet, slot);
                debug_assert!(matches!(sealed, TunnResult::WriteToNetwork(_)));
            }),
            Some(also) => {
                let mut buffer = [0u8; SEGMENT_BYTES + OVERHEAD];
                if let TunnResult::WriteToNetwork(sealed) = tunn.encapsulate(packet, &mut buffer) {
                    for path in [selected.primary, also] {
                        net.push((path, mark), sealed.len(), |slot| slot.copy_from_slice(sealed));
                    }
                }
            }
        }
    }

    fn hold(&mut self, net: &mut Net, now: Instant, packet: &[u8]) {
        if self.held.len() == MAX_HELD {
            self.held.pop_front();
            net.stats.dropped_packets += 1;
        }
        self.held.push_back(packet.to_vec());
        self.held_since.get_or_insert(now);
    }

    /// Sends what was held, once there are keys and a path: through the relay that the keys came by, if they did, since
    /// the peer need not be bound to another one.
    fn release(&mut self, net: &mut Net, keys_via: Option<Path>) {
        let Some(mut selected) = self.selected.filter(|_| self.keyed) else { return };
        if let (Path::Relayed { .. }, Some(via @ Path::Relayed { .. })) =
            (selected.primary, keys_via)
        {
            selected.primary = via;
        }
        self.held_since = None;
        for packet in mem::take(&mut self.held) {
            let selected = self.wide_enough(selected, packet.len());
            self.seal(net, selected, &packet);
        }
        for (via, packet) in mem::take(&mut self.asked) {
            self.probe(net, via, &packet);
        }
    }

    fn refresh_keys(&mut self) {
        self.keyed = self.tunn.time_since_last_handshake().is_some();
        if self.keyed {
            self.waits_since = None;
        }
    }
}

fn push_sealed(net: &mut Net, selected: Selected, packet: &[u8]) {
    net.push_copy(selected.primary, packet);
    if let Some(also) = selected.also {
        net.push_copy(also, packet);
    }
}

fn tunnel(secret: &StaticSecret, peer: WireGuardKey, receiver: u32) -> Box<Tunn> {
    // Without a shared limiter each tunnel has its own, which its timers reset.
    let peer = PublicKey::from(peer.0);
    Box::new(Tunn::new(secret.clone(), peer, None, None, receiver, None))
}
