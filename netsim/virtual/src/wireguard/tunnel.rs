//! One end of a tunnel: its handshakes, keys and timers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::keys::Keys;
use super::load::Load;
use super::{Inner, Message, Window};

const REKEY_AFTER: Duration = Duration::from_secs(120);
const REJECT_AFTER: Duration = Duration::from_secs(180);
const REKEY_ATTEMPT: Duration = Duration::from_secs(90);
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const COOKIE_EXPIRATION: Duration = Duration::from_secs(120);

/// Keys are forgotten and the tunnel is dead after this without new ones.
const EXPIRE_AFTER: Duration = Duration::from_secs(540);

/// How exact the timers are: overlay/driver lets them run that often.
const GRID: Duration = Duration::from_millis(100);

/// Key pairs that are remembered.
const RING: usize = 8;

/// Packets that wait for keys.
const MAX_QUEUE: usize = 256;

/// What a received message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Not for this tunnel, a replay, or under keys that are not known.
    Refused,
    /// It was authentic, and there is nothing to do.
    Nothing,
    /// To be sent back on the path that it came on.
    Reply(Message),
    /// An inner packet that is not empty.
    Inner(Inner),
}

/// What the timers ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Nothing.
    Nothing,
    /// To be sent.
    Send(Message),
    /// The tunnel is dead: no keys for too long, or no answer to initiations.
    Expired,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Handshake {
    #[default]
    None,
    Sent {
        local: u32,
        ephemeral: u64,
        at: Duration,
    },
    Expired,
}

/// One end of a tunnel. Times count from any beginning, the same in all calls.
#[derive(Debug)]
pub struct Tunnel {
    statics: (u64, u64),
    /// Draws numbers that nobody else draws.
    draw: u64,
    next_local: u32,
    handshake: Handshake,
    /// The one before, whose answer is still taken.
    previous: Handshake,
    /// Of the newest initiation that was answered.
    last_timestamp: Option<u64>,
    last_sent: Option<u32>,
    cookie: Option<(u64, Duration)>,
    load: Load,
    ring: [Option<Box<Keys>>; RING],
    current: u32,
    queue: VecDeque<Inner>,
    was_initiator: bool,
    wants_keepalive: bool,
    wants_handshake: bool,
    established: Duration,
    handshake_started: Duration,
    received: Duration,
    sent: Duration,
    data_received: Duration,
    data_sent: Duration,
}

impl Tunnel {
    /// A tunnel without keys. `own` and `peer` are public keys; `receiver` is its name, below 2^24,
    /// which no other tunnel of that machine has; `draw` is for the numbers that it draws, and no
    /// other tunnel in the world has it.
    pub fn new(now: Duration, own: u64, peer: u64, receiver: u32, draw: u64) -> Self {
        Self {
            statics: (own, peer),
            draw: draw << 24,
            next_local: receiver << 8,
            handshake: Handshake::None,
            previous: Handshake::None,
            last_timestamp: None,
            last_sent: None,
            cookie: None,
            load: Load::new(draw, now),
            ring: Default::default(),
            current: 0,
            queue: VecDeque::new(),
            was_initiator: false,
            wants_keepalive: false,
            wants_handshake: false,
            established: now,
            handshake_started: now,
            received: now,
            sent: now,
            data_received: now,
            data_sent: now,
        }
    }

    /// Whether it is dead: see [`Tick::Expired`].
    pub fn is_expired(&self) -> bool {
        self.handshake == Handshake::Expired
    }

    /// Whether an initiation is out.
    pub fn is_trying(&self) -> bool {
        matches!(self.handshake, Handshake::Sent { .. })
    }

    /// Whether packets can be sealed.
    pub fn has_keys(&self, now: Duration) -> bool {
        self.current_slot(now).is_some()
    }

    /// A new initiation; none if one is out and `force` is not set.
    pub fn initiate(&mut self, now: Duration, force: bool) -> Option<Message> {
        let in_progress = self.is_trying();
        if in_progress && !force {
            return None;
        }
        if self.is_expired() {
            self.clear_timers(now);
        }
        let (local, ephemeral) = (self.next_local(), self.draw());
        self.previous = self.handshake;
        self.handshake = Handshake::Sent { local, ephemeral, at: now };
        self.last_sent = Some(local);
        if !in_progress {
            self.handshake_started = on_grid(now);
        }
        self.tick_sent(now);
        let (statics, timestamp) = (self.statics, self.draw);
        let cookie = self.cookie(now);
        Some(Message::Initiation { sender: local, ephemeral, statics, timestamp, cookie })
    }

    /// Seals an inner packet. Without keys it waits, and an initiation is given unless one is out.
    pub fn seal(&mut self, now: Duration, inner: Inner) -> Option<Message> {
        let Some(slot) = self.current_slot(now) else {
            if self.queue.len() < MAX_QUEUE {
                self.queue.push_back(inner);
            }
            return self.initiate(now, false);
        };
        let message = self.ring[slot].as_mut().map(|keys| keys.seal(inner.clone()));
        self.tick_sent(now);
        if !inner.is_empty() {
            self.data_sent = on_grid(now);
        }
        message
    }

    /// The next packet that has waited, sealed, if there are keys now.
    pub fn unqueue(&mut self, now: Duration) -> Option<Message> {
        if !self.has_keys(now) {
            return None;
        }
        let inner = self.queue.pop_front()?;
        self.seal(now, inner)
    }

    /// Opens a message that came from there.
    pub fn open(&mut self, now: Duration, from: IpAddr, message: &Message) -> Opened {
        match message {
            Message::Initiation { sender, cookie, .. }
            | Message::Response { sender, cookie, .. } => {
                if let Err(cookie) = self.load.check(now, from, *cookie) {
                    return Opened::Reply(Message::Cookie { receiver: *sender, cookie });
                }
            }
            Message::Cookie { .. } | Message::Transport { .. } => {}
        }
        match message {
            Message::Initiation { sender, ephemeral, statics: (peer, own), timestamp, .. } => {
                let is_newer = self.last_timestamp.is_none_or(|last| *timestamp > last);
                if (*own, *peer) != self.statics || !is_newer {
                    return Opened::Refused;
                }
                self.last_timestamp = Some(*timestamp);
                Opened::Reply(self.respond(now, *sender, *ephemeral))
            }
            Message::Response { sender, receiver, keys, .. } => {
                self.complete(now, *sender, *receiver, *keys)
            }
            Message::Cookie { receiver, cookie } => {
                if self.last_sent != Some(*receiver) {
                    return Opened::Refused;
                }
                self.tick_received(now);
                self.cookie = Some((*cookie, on_grid(now)));
                Opened::Nothing
            }
            Message::Transport { receiver, keys, counter, inner } => {
                self.open_inner(now, *receiver, *keys, *counter, inner)
            }
        }
    }

    /// Does what is due by now.
    pub fn tick(&mut self, now: Duration) -> Tick {
        let now = on_grid(now);
        if self.is_expired() {
            return Tick::Expired;
        }
        if now.saturating_sub(self.established) >= EXPIRE_AFTER {
            return self.expire(now);
        }
        if let Handshake::Sent { at, .. } = self.handshake {
            if now.saturating_sub(self.handshake_started) >= REKEY_ATTEMPT {
                return self.expire(now);
            }
            if now.saturating_sub(at) >= REKEY_TIMEOUT {
                return self.initiate(now, true).map_or(Tick::Nothing, Tick::Send);
            }
            return Tick::Nothing;
        }
        let renews = self.renews_at().is_some_and(|at| at <= now);
        let is_unheard = self.unheard_at().is_some_and(|at| at <= now);
        if is_unheard {
            self.wants_handshake = false;
        }
        if renews || is_unheard {
            return self.initiate(now, true).map_or(Tick::Nothing, Tick::Send);
        }
        if self.keepalive_at().is_some_and(|at| at <= now) {
            self.wants_keepalive = false;
            return self.seal(now, Inner::Keepalive).map_or(Tick::Nothing, Tick::Send);
        }
        Tick::Nothing
    }

    /// When [`Tunnel::tick`] has something to do, at the earliest; none: not before another call.
    pub fn next_tick(&self) -> Option<Duration> {
        let own = match self.handshake {
            Handshake::Expired => return None,
            Handshake::Sent { at, .. } => {
                Some((at + REKEY_TIMEOUT).min(self.handshake_started + REKEY_ATTEMPT))
            }
            Handshake::None => {
                let times = [self.renews_at(), self.unheard_at(), self.keepalive_at()];
                times.into_iter().flatten().min()
            }
        };
        let expires = self.established + EXPIRE_AFTER;
        Some(up_to_grid(own.map_or(expires, |own| own.min(expires))))
    }

    /// When the side that began the last handshake begins another: in use, its keys grow old.
    fn renews_at(&self) -> Option<Duration> {
        let sends = (self.established < self.data_sent).then_some(REKEY_AFTER);
        let receives = (self.established < self.data_received)
            .then_some(REJECT_AFTER - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT);
        let age = sends.or(receives).filter(|_| self.was_initiator)?;
        Some(self.established + age)
    }

    /// When a side that sends and hears nothing begins a handshake.
    fn unheard_at(&self) -> Option<Duration> {
        let waits = self.data_sent > self.received && self.wants_handshake;
        waits.then_some(self.received + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT)
    }

    /// When a side that has received and sent nothing says that it is there.
    fn keepalive_at(&self) -> Option<Duration> {
        let owes = self.data_received > self.sent && self.wants_keepalive;
        owes.then_some(self.sent + KEEPALIVE_TIMEOUT)
    }

    fn respond(&mut self, now: Duration, remote: u32, theirs: u64) -> Message {
        let (local, own) = (self.next_local(), self.draw());
        // Its own initiation may still be answered.
        self.previous = self.handshake;
        self.handshake = Handshake::None;
        self.last_sent = Some(local);
        self.keep(now, local, remote, (theirs, own));
        self.tick_received(now);
        self.tick_sent(now);
        self.was_initiator = false;
        let cookie = self.cookie(now);
        Message::Response { sender: local, receiver: remote, keys: (theirs, own), cookie }
    }

    fn complete(&mut self, now: Duration, remote: u32, local: u32, keys: (u64, u64)) -> Opened {
        let answers = |state: Handshake| {
            matches!(state, Handshake::Sent { local: sent, ephemeral, .. }
            if sent == local && ephemeral == keys.0)
        };
        if answers(self.handshake) {
            self.handshake = Handshake::None;
        } else if answers(self.previous) {
            self.previous = Handshake::None;
        } else {
            return Opened::Refused;
        }
        self.keep(now, local, remote, keys);
        // The keepalive that confirms the keys moves no timer, as in boringtun.
        let slot = local as usize % RING;
        let confirmation = self.ring[slot].as_mut().map(|keys| keys.seal(Inner::Keepalive));
        self.tick_received(now);
        self.was_initiator = true;
        self.use_keys(local);
        confirmation.map_or(Opened::Nothing, Opened::Reply)
    }

    fn open_inner(
        &mut self,
        now: Duration,
        local: u32,
        secret: (u64, u64),
        counter: u64,
        inner: &Inner,
    ) -> Opened {
        let slot = local as usize % RING;
        let keys = self.ring[slot].as_mut().filter(|keys| !is_old(keys, now));
        let opens = keys.is_some_and(|keys| {
            keys.local == local && keys.secret == secret && keys.window.take(counter)
        });
        if !opens {
            return Opened::Refused;
        }
        self.use_keys(local);
        self.tick_received(now);
        if inner.is_empty() {
            return Opened::Nothing;
        }
        self.data_received = on_grid(now);
        Opened::Inner(inner.clone())
    }

    fn keep(&mut self, now: Duration, local: u32, remote: u32, secret: (u64, u64)) {
        let since = on_grid(now);
        let (sent, window) = (0, Window::default());
        let keys = Keys { local, remote, secret, since, sent, window };
        self.ring[local as usize % RING] = Some(Box::new(keys));
        self.established = since;
    }

    /// Sends under these keys from here on, unless there are newer ones.
    fn use_keys(&mut self, local: u32) {
        let since = |index: u32| self.ring[index as usize % RING].as_ref().map(|keys| keys.since);
        if since(self.current).is_none() || since(local) >= since(self.current) {
            self.current = local;
        }
    }

    fn current_slot(&self, now: Duration) -> Option<usize> {
        let slot = self.current as usize % RING;
        self.ring[slot].as_ref().is_some_and(|keys| !is_old(keys, now)).then_some(slot)
    }

    fn expire(&mut self, now: Duration) -> Tick {
        (self.handshake, self.previous) = (Handshake::Expired, Handshake::Expired);
        self.ring = Default::default();
        self.queue.clear();
        self.clear_timers(now);
        Tick::Expired
    }

    fn clear_timers(&mut self, now: Duration) {
        let now = on_grid(now);
        self.established = now;
        self.handshake_started = now;
        (self.received, self.sent) = (now, now);
        (self.data_received, self.data_sent) = (now, now);
        (self.wants_keepalive, self.wants_handshake) = (false, false);
    }

    fn cookie(&mut self, now: Duration) -> Option<u64> {
        self.cookie =
            self.cookie.filter(|(_, since)| now.saturating_sub(*since) < COOKIE_EXPIRATION);
        self.cookie.map(|(cookie, _)| cookie)
    }

    fn tick_received(&mut self, now: Duration) {
        self.received = on_grid(now);
        (self.wants_keepalive, self.wants_handshake) = (true, false);
    }

    fn tick_sent(&mut self, now: Duration) {
        self.sent = on_grid(now);
        (self.wants_keepalive, self.wants_handshake) = (false, true);
    }

    fn next_local(&mut self) -> u32 {
        let [low, rest @ ..] = self.next_local.to_le_bytes();
        self.next_local = u32::from_le_bytes([low.wrapping_add(1), rest[0], rest[1], rest[2]]);
        self.next_local
    }

    fn draw(&mut self) -> u64 {
        self.draw += 1;
        self.draw
    }
}

impl Keys {
    fn seal(&mut self, inner: Inner) -> Message {
        let counter = self.sent;
        self.sent += 1;
        Message::Transport { receiver: self.remote, keys: self.secret, counter, inner }
    }
}

fn is_old(keys: &Keys, now: Duration) -> bool {
    now.saturating_sub(keys.since) > REJECT_AFTER
}

fn on_grid(now: Duration) -> Duration {
    let grid = GRID.as_nanos() as u64;
    Duration::from_nanos(now.as_nanos() as u64 / grid * grid)
}

fn up_to_grid(at: Duration) -> Duration {
    let floor = on_grid(at);
    if floor == at { at } else { floor + GRID }
}
