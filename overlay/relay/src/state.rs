//! What a relay does with a datagram, without sockets or clocks.
//!
//! ```text
//!   nothing ──BindRequest, valid ticket──▶ nothing      answered by a cookie over (ticket, nonce, source)
//!   nothing ──BindAnswer, ticket + cookie─▶ bound       (channel, side) ↦ source, for 120 s
//!   bound ────packet from that source─────▶ bound       passed on to the other side, 120 s again
//!   bound ────keepalive of that source────▶ bound       answered; every side of that source lives on
//!   bound ────120 s of silence, or the ticket's end──▶ nothing
//! ```
//!
//! A sender holds no place in the table before it has shown that it receives at its address, so
//! forged sources cost two keyed hashes and no memory. No answer is longer than what asked for it.
//! A ticket is a bearer's right: the newest address that proves itself with it holds the side. What the one before it
//! has sent passes for three seconds more, and is sent nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use overlay_core::wire::{ControlFrame, Ticket, control, relay};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use subtle::ConstantTimeEq;

use crate::holders::Holders;
use crate::keys::{self, RelayKeys, TicketError};
use crate::limits::{Bucket, RelayLimits};
use crate::moment::Moment;
use crate::stats::{DropReason, RelayStats};

/// How long a cookie secret is the current one; it is accepted for as long again.
const COOKIE_ROTATION: Duration = Duration::from_secs(120);

/// How often silent channels are swept out of the table. Chosen: a sixth of a bind's life.
const SWEEP_INTERVAL: Duration = Duration::from_secs(20);

/// Between sweeps that a full table asks for, so that a full table cannot make the relay slow.
const FORCED_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Packets that are held back leave together, every so often. Chosen: hundreds of packets at 1 Gbit/s, which
/// makes the waking and the answers' packets cheap (measured), and less than what a home line adds.
const HOLD_ROUND: Duration = Duration::from_millis(4);

/// For how long packets still pass that come from where a side was bound before: they were on their way, by a slower
/// one. Chosen: more than any line holds back.
const ON_THEIR_WAY: Duration = Duration::from_secs(3);

/// The lowest port of a sender's address that an answer is sent to when the sender names it.
const LOWEST_PORT: u16 = 1024;

/// Where a datagram came from, and so where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The other end, in canonical form (see [`canonical`]).
    pub remote: SocketAddr,
    /// The local address that it was sent to, where the socket knows it: answers come from there,
    /// or a host with several addresses would answer from one that the NAT does not expect.
    pub local: Option<IpAddr>,
}

/// What to do with a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the same bytes to the other side of the channel.
    Forward(Route),
    /// The same, but not before that time: the channel's rate is reached. A channel's packets leave in
    /// the order in which they came, if what is due is sent before anything newer is decided about.
    Hold {
        /// Where to.
        to: Route,
        /// When. Packets that are held at about the same time leave at the same time.
        until: Instant,
    },
    /// Send these bytes back where the datagram came from.
    Reply(Vec<u8>),
    /// Send these bytes to another port of the address where the datagram came from, or from the
    /// reflector's second socket, or both.
    ReplyElsewhere {
        /// Where to.
        to: Route,
        /// Whether from the second socket.
        from_other: bool,
        /// No longer than the datagram.
        bytes: Vec<u8>,
    },
    /// Nothing.
    Drop(DropReason),
}

/// One side of a channel, held by an address.
#[derive(Clone, Copy, Debug)]
struct Bind {
    route: Route,
    /// The last packet or bind from that address.
    heard_at: Instant,
    /// When the ticket ends.
    ends_at: Instant,
}

#[derive(Debug)]
struct Channel {
    sides: [Option<Bind>; 2],
    /// Where each side was bound before, and until when what comes from there passes.
    before: [Option<(SocketAddr, Instant)>; 2],
    bucket: Bucket,
    /// Until when the newest packet that was held back is held.
    held_until: Option<Instant>,
    carried: u64,
}

impl Channel {
    /// How many of its sides are held.
    fn held(&self) -> usize {
        self.sides.iter().flatten().count()
    }

    /// Where packets from there go; the sender was heard.
    fn pass(
        &mut self,
        now: Instant,
        from: Route,
        limits: &RelayLimits,
        holders: &Holders,
    ) -> Result<Route, DropReason> {
        let lifetime = limits.bind_lifetime;
        let is_sender =
            |bind: &Bind| bind.route.remote == from.remote && bind.is_alive(now, lifetime, holders);
        let [lower, higher] = &mut self.sides;
        let (sender, receiver) = if lower.as_ref().is_some_and(is_sender) {
            (lower, higher)
        } else if higher.as_ref().is_some_and(is_sender) {
            (higher, lower)
        } else {
            let was_there =
                |(at, until): &(SocketAddr, Instant)| *at == from.remote && now < *until;
            // It says nothing of whether the side is heard of now.
            let receiver = match &self.before {
                [Some(before), _] if was_there(before) => higher,
                [_, Some(before)] if was_there(before) => lower,
                [..] => return Err(DropReason::Unbound),
            };
            let receiver = receiver.as_ref().filter(|bind| bind.is_alive(now, lifetime, holders));
            return Ok(receiver.ok_or(DropReason::PeerUnbound)?.route);
        };
        if let Some(sender) = sender {
            sender.heard_at = now;
        }
        let receiver = receiver.as_ref().filter(|bind| bind.is_alive(now, lifetime, holders));
        Ok(receiver.ok_or(DropReason::PeerUnbound)?.route)
    }

    /// Counts packets against quota and rates; they may pass at once (none) or at that time.
    fn charge(
        &mut self,
        now: Instant,
        bytes: u64,
        limits: &RelayLimits,
        total: &mut Bucket,
        began: Instant,
    ) -> Result<Option<Instant>, DropReason> {
        let carried = self.carried + bytes;
        if carried > limits.channel_quota {
            return Err(DropReason::OverQuota);
        }
        let wait = self.bucket.take(&limits.channel_rate, now, bytes, limits.channel_hold);
        let wait = wait.ok_or(DropReason::OverRate)?;
        if total.take(&limits.total_rate, now, bytes, Duration::ZERO).is_none() {
            self.bucket.put_back(bytes);
            return Err(DropReason::OverRate);
        }
        self.carried = carried;
        self.held_until = self.held_until.filter(|until| *until > now);
        if !wait.is_zero() {
            self.held_until = self.held_until.max(Some(round_up(began, now + wait)));
        }
        Ok(self.held_until)
    }
}

/// Neighbours of `stride` bytes each, of which the last may be shorter.
#[derive(Clone, Copy)]
struct Packets {
    count: usize,
    bytes: usize,
    stride: usize,
}

impl Packets {
    fn lens(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |n| self.stride.min(self.bytes - n * self.stride))
    }
}

/// What is held in the whole table.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bindings: u64,
    pairs: u64,
}

impl Held {
    /// A channel has so many sides held now, and had before.
    fn change(&mut self, before: usize, now: usize) {
        self.bindings = self.bindings + now as u64 - before as u64;
        self.pairs = self.pairs + u64::from(now == 2) - u64::from(before == 2);
    }
}

/// The relay and reflector.
pub struct RelayState {
    keys: RelayKeys,
    limits: RelayLimits,
    channels: HashMap<u32, Channel>,
    held: Held,
    holders: Holders,
    bucket: Bucket,
    /// What rounds of held packets are counted from.
    began: Instant,
    rng: ChaCha12Rng,
    /// The current cookie secret and the one before.
    secrets: [[u8; 32]; 2],
    rotate_at: Instant,
    swept_at: Instant,
    stats: RelayStats,
}

impl RelayState {
    /// An empty relay. The seed is that of the cookie secrets: it must be secret, too.
    pub fn new(keys: RelayKeys, limits: RelayLimits, seed: [u8; 32], now: Moment) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        Self {
            keys,
            limits,
            channels: HashMap::new(),
            held: Held::default(),
            holders: Holders::default(),
            bucket: Bucket::full(&limits.total_rate, now.instant),
            secrets: [rng.random(), rng.random()],
            rng,
            began: now.instant,
            rotate_at: now.instant + COOKIE_ROTATION,
            swept_at: now.instant,
            stats: RelayStats::default(),
        }
    }

    /// Decides about one datagram. Total: anyone can send anything.
    pub fn handle_datagram(&mut self, now: Moment, from: Route, datagram: &[u8]) -> Action {
        let from = Route { remote: canonical(from.remote), ..from };
        if let Some(channel) = relay::channel_of(datagram) {
            let mut decided = Action::Drop(DropReason::Malformed);
            let packets = Packets { count: 1, bytes: datagram.len(), stride: datagram.len() };
            self.on_packets(now.instant, from, channel, packets, |_, action| decided = action);
            return decided;
        }
        let decided = if datagram.starts_with(&control::MAGIC) {
            self.fire_due_timers(now.instant);
            self.on_control(now, from, datagram)
        } else {
            Err(DropReason::Malformed)
        };
        decided.unwrap_or_else(|reason| {
            self.stats.dropped.count(reason, 1);
            Action::Drop(reason)
        })
    }

    /// Decides about datagrams of `stride` bytes each (the last may be shorter) that came together from one
    /// sender, in order: about so many neighbours at a time. Packets of one channel are looked up and charged
    /// for once.
    pub fn handle_datagrams(
        &mut self,
        now: Moment,
        from: Route,
        datagrams: &[u8],
        stride: usize,
        mut each: impl FnMut(usize, Action),
    ) {
        let from = Route { remote: canonical(from.remote), ..from };
        let mut rest = datagrams.chunks(stride.max(1)).peekable();
        while let Some(first) = rest.next() {
            let Some(header) = relay::channel_of(first) else {
                each(1, self.handle_datagram(now, from, first));
                continue;
            };
            let same = |next: &&[u8]| relay::channel_of(next) == Some(header);
            let (mut count, mut bytes) = (1, first.len());
            while let Some(next) = rest.next_if(same) {
                count += 1;
                bytes += next.len();
            }
            let packets = Packets { count, bytes, stride };
            self.on_packets(now.instant, from, header, packets, &mut each);
        }
    }

    /// Rotates secrets and forgets silent channels, where that is due.
    pub fn handle_wakeup(&mut self, now: Moment) {
        self.fire_due_timers(now.instant);
    }

    /// When [`RelayState::handle_wakeup`] has something to do again.
    pub fn next_wakeup(&self) -> Instant {
        self.rotate_at.min(self.swept_at + SWEEP_INTERVAL)
    }

    /// The counters.
    pub fn stats(&self) -> RelayStats {
        let Held { bindings, pairs } = self.held;
        RelayStats { channels: self.channels.len() as u64, bindings, pairs, ..self.stats }
    }

    /// Packets of one channel.
    fn on_packets(
        &mut self,
        now: Instant,
        from: Route,
        channel: u32,
        packets: Packets,
        mut each: impl FnMut(usize, Action),
    ) {
        let Self { channels, holders, limits, bucket, stats, began, .. } = self;
        let found = channels
            .get_mut(&channel)
            .ok_or(DropReason::Unbound)
            .and_then(|channel| Ok((channel.pass(now, from, limits, holders)?, channel)));
        let (to, channel) = match found {
            Ok(found) => found,
            Err(reason) => {
                stats.dropped.count(reason, packets.count);
                return each(packets.count, Action::Drop(reason));
            }
        };
        let mut charge = |count: usize, bytes: usize| {
            let until = channel.charge(now, bytes as u64, limits, bucket, *began)?;
            stats.forwarded_packets += count as u64;
            stats.forwarded_bytes += bytes as u64;
            Ok(until.map_or(Action::Forward(to), |until| Action::Hold { to, until }))
        };
        if let Ok(action) = charge(packets.count, packets.bytes) {
            return each(packets.count, action);
        }
        // Not all of them: as many as there is room for.
        for len in packets.lens() {
            each(
                1,
                charge(1, len).unwrap_or_else(|reason| {
                    stats.dropped.count(reason, 1);
                    Action::Drop(reason)
                }),
            );
        }
    }

    fn on_control(
        &mut self,
        now: Moment,
        from: Route,
        datagram: &[u8],
    ) -> Result<Action, DropReason> {
        let answer = match ControlFrame::decode(datagram) {
            Ok(ControlFrame::ReflectRequest { token, nonce }) => {
                self.reflect(from, &token, nonce)?
            }
            Ok(ControlFrame::ReflectElsewhere { token, nonce, port, from_other }) => {
                let answer = self.reflect(from, &token, nonce)?;
                let to = elsewhere(from, port).ok_or(DropReason::Malformed)?;
                return Ok(Action::ReplyElsewhere { to, from_other, bytes: answer.encode() });
            }
            Ok(ControlFrame::BindRequest { ticket, nonce }) => {
                self.check_ticket(now, &ticket)?;
                let [current, _] = &self.secrets;
                let cookie = keys::cookie(current, &ticket, &nonce, from.remote);
                self.stats.challenged += 1;
                ControlFrame::BindChallenge { nonce, cookie }
            }
            Ok(ControlFrame::BindAnswer { ticket, nonce, cookie }) => {
                self.check_ticket(now, &ticket)?;
                let made_for_sender = |secret| {
                    let expected = keys::cookie(secret, &ticket, &nonce, from.remote);
                    bool::from(expected.ct_eq(&cookie))
                };
                if !self.secrets.iter().any(made_for_sender) {
                    return Err(DropReason::BadCookie);
                }
                self.bind(now, from, &ticket)?;
                self.stats.bound += 1;
                let lifetime_s = self.limits.bind_lifetime.as_secs();
                let lifetime_s = u16::try_from(lifetime_s).unwrap_or(u16::MAX);
                ControlFrame::BindAck { nonce, channel: ticket.channel, lifetime_s }
            }
            Ok(ControlFrame::KeepAlive { nonce }) => {
                let channels =
                    self.holders.hear(now.instant, from.remote, self.limits.bind_lifetime);
                let channels = channels.ok_or(DropReason::Unbound)?;
                let lifetime_s = self.limits.bind_lifetime.as_secs();
                let lifetime_s = u16::try_from(lifetime_s).unwrap_or(u16::MAX);
                ControlFrame::KeepAliveAck { nonce, observed: from.remote, channels, lifetime_s }
            }
            Ok(
                ControlFrame::ReflectResponse { .. }
                | ControlFrame::BindChallenge { .. }
                | ControlFrame::BindAck { .. }
                | ControlFrame::KeepAliveAck { .. },
            )
            | Err(_) => return Err(DropReason::Malformed),
        };
        Ok(Action::Reply(answer.encode()))
    }

    fn reflect(
        &mut self,
        from: Route,
        token: &[u8; 16],
        nonce: [u8; 8],
    ) -> Result<ControlFrame, DropReason> {
        if !keys::verify_reflector_token(&self.keys, token) {
            return Err(DropReason::BadToken);
        }
        self.stats.reflected += 1;
        Ok(ControlFrame::ReflectResponse { nonce, observed: from.remote })
    }

    fn check_ticket(&self, now: Moment, ticket: &Ticket) -> Result<(), DropReason> {
        keys::verify_ticket(&self.keys, ticket, now.unix_s()).map_err(|error| match error {
            TicketError::Forged => DropReason::ForgedTicket,
            TicketError::Expired => DropReason::ExpiredTicket,
        })
    }

    fn bind(&mut self, now: Moment, from: Route, ticket: &Ticket) -> Result<(), DropReason> {
        let at = now.instant;
        if !self.channels.contains_key(&ticket.channel) {
            if self.is_full() && at >= self.swept_at + FORCED_SWEEP_INTERVAL {
                self.sweep(at);
            }
            if self.is_full() {
                return Err(DropReason::TableFull);
            }
        }
        let channel = self.channels.entry(ticket.channel).or_insert_with(|| Channel {
            sides: [None, None],
            before: [None, None],
            bucket: Bucket::full(&self.limits.channel_rate, at),
            held_until: None,
            carried: 0,
        });
        let held_before = channel.held();
        let [lower, higher] = &mut channel.sides;
        let (own, other) = if ticket.side == 0 { (lower, higher) } else { (higher, lower) };
        // A NAT may give one node's old endpoint to the other: the newer claim is the true one.
        if other.as_ref().is_some_and(|bind| bind.route.remote == from.remote) {
            *other = None;
            self.holders.leave(from.remote);
        }
        let left_s = ticket.expires_unix.saturating_sub(now.unix_s());
        let ends_at = at.checked_add(Duration::from_secs(left_s));
        let ends_at = ends_at.unwrap_or(at + self.limits.bind_lifetime);
        self.holders.enter(at, from.remote);
        if let Some(before) = own.replace(Bind { route: from, heard_at: at, ends_at }) {
            self.holders.leave(before.route.remote);
            if before.route.remote != from.remote {
                let [lower, higher] = &mut channel.before;
                let former = if ticket.side == 0 { lower } else { higher };
                *former = Some((before.route.remote, at + ON_THEIR_WAY));
            }
        }
        self.held.change(held_before, channel.held());
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.channels.len() >= self.limits.max_channels
    }

    fn fire_due_timers(&mut self, now: Instant) {
        if now >= self.rotate_at {
            let [current, _] = self.secrets;
            // After a long silence both are too old.
            let is_late = now >= self.rotate_at + COOKIE_ROTATION;
            let previous = if is_late { self.rng.random() } else { current };
            self.secrets = [self.rng.random(), previous];
            self.rotate_at = now + COOKIE_ROTATION;
        }
        if now >= self.swept_at + SWEEP_INTERVAL {
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let lifetime = self.limits.bind_lifetime;
        let mut gone = Vec::new();
        self.channels.retain(|_, channel| {
            let held_before = channel.held();
            for side in &mut channel.sides {
                // What is not alive can only be bound anew.
                let dead = side.take_if(|bind| !bind.is_alive(now, lifetime, &self.holders));
                gone.extend(dead.map(|bind| bind.route.remote));
            }
            self.held.change(held_before, channel.held());
            channel.held() > 0
        });
        for address in gone {
            self.holders.leave(address);
        }
        self.swept_at = now;
    }
}

/// The first round that is no earlier.
fn round_up(began: Instant, at: Instant) -> Instant {
    let since = at.saturating_duration_since(began).as_nanos();
    let rounded = since.next_multiple_of(HOLD_ROUND.as_nanos());
    began + Duration::from_nanos(u64::try_from(rounded).unwrap_or(u64::MAX))
}

/// Another port of the sender's address; none where services live, which nobody asked to be poked.
fn elsewhere(from: Route, port: u16) -> Option<Route> {
    let mut to = from;
    if port != 0 {
        to.remote.set_port(port);
    }
    (port == 0 || port >= LOWEST_PORT).then_some(to)
}

impl Bind {
    fn is_alive(&self, now: Instant, lifetime: Duration, holders: &Holders) -> bool {
        let is_heard =
            || now < self.heard_at + lifetime || holders.is_alive(now, self.route.remote, lifetime);
        now < self.ends_at && is_heard()
    }
}

/// The one form of an address: IPv4 as IPv4 also on a dual-stack socket, and no IPv6 flow label.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

#[cfg(test)]
mod tests;
