//! One WireGuard session as overlay/driver keeps it: a tunnel with what that leaves to its user.
//!
//! As there, the roles are fixed: the initiator starts handshakes when the core says so, the other
//! side only answers, unless the job's packets wait for keys. Copies of one initiation on several
//! paths are answered alike. Reports to the core are at most one in 100 ms for a path.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use overlay_core::Path;

use crate::wireguard::{Inner, Message, Opened, Tick, Tunnel};

/// Packets of the job that wait for keys or a path; beyond, the oldest are dropped. As overlay/driver.
const MAX_HELD: usize = 128;

/// How long packets wait, or a new session stays without keys, before the side that should only
/// answer starts a handshake itself. As overlay/driver.
const ANSWERER_PATIENCE: Duration = Duration::from_secs(2);

/// The same once it has had keys: they are too old, and both sides know it. As overlay/driver.
const RENEWER_PATIENCE: Duration = Duration::from_millis(300);

/// How long a repeated initiation is answered with the same response. As overlay/driver.
const ANSWER_LIFETIME: Duration = Duration::from_secs(10);

/// The least time between two reports of one kind. As overlay/driver.
const REPORT_GAP: Duration = Duration::from_millis(100);

/// Paths on which packets are counted apart. As overlay/driver.
const MAX_PATHS: usize = 16;

/// A packet that leaves, and on which path.
pub(crate) type Sent = (Path, Message);

/// What the core must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Authenticated { via: Path, data: bool },
    Sent,
}

/// What a session wants done.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(crate) sent: Vec<Sent>,
    pub(crate) notices: Vec<Notice>,
}

/// The path in use, and the second one while it is in doubt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected {
    pub(crate) primary: Path,
    pub(crate) also: Option<Path>,
}

/// One WireGuard session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its timer's number.
    pub(crate) slot: usize,
    /// Where handshakes go before a path is selected: the pair's relay channel.
    pub(crate) fallback: Option<Path>,
    pub(crate) statics: (u64, u64),
    tunnel: Tunnel,
    initiator: bool,
    selected: Option<Selected>,
    keyed: bool,
    held: VecDeque<Inner>,
    held_since: Option<Duration>,
    waits_since: Option<Duration>,
    answer: Option<Answer>,
    kept_back: bool,
    reports: Reports,
}

#[derive(Debug)]
struct Answer {
    initiation: Message,
    response: Message,
    at: Duration,
}

impl Session {
    pub(crate) fn new(
        now: Duration,
        slot: usize,
        statics: (u64, u64),
        initiator: bool,
        draw: u64,
    ) -> Self {
        Self {
            slot,
            fallback: None,
            statics,
            tunnel: Tunnel::new(now, statics.0, statics.1, receiver(draw), draw),
            initiator,
            selected: None,
            keyed: false,
            held: VecDeque::new(),
            held_since: None,
            waits_since: (!initiator).then_some(now),
            answer: None,
            kept_back: false,
            reports: Reports::default(),
        }
    }

    /// Starts over with empty keys.
    pub(crate) fn renew(&mut self, now: Duration, draw: u64) {
        self.tunnel = Tunnel::new(now, self.statics.0, self.statics.1, receiver(draw), draw);
        self.keyed = false;
        self.answer = None;
    }

    /// Sends a packet of the job, or holds it until there are keys and a path.
    pub(crate) fn send(&mut self, now: Duration, inner: Inner, wants: &mut Wants) {
        self.reports.sent(now, wants);
        self.look_at_keys(now);
        if let Some(selected) = self.selected.filter(|_| self.keyed) {
            return self.seal(now, selected, inner, wants);
        }
        if self.held.len() == MAX_HELD {
            self.held.pop_front();
        }
        self.held.push_back(inner);
        self.held_since.get_or_insert(now);
    }

    /// Seals a probe and sends it on that path alone.
    pub(crate) fn probe(&mut self, now: Duration, via: Path, bytes: Vec<u8>, wants: &mut Wants) {
        self.look_at_keys(now);
        if self.keyed {
            let selected = Selected { primary: via, also: None };
            self.seal(now, selected, Inner::Probe(bytes), wants);
        }
    }

    /// Makes a fresh initiation and sends it on each path.
    pub(crate) fn initiate(&mut self, now: Duration, via: &[Path], wants: &mut Wants) {
        if let Some(message) = self.tunnel.initiate(now, true) {
            wants.sent.extend(via.iter().map(|path| (*path, message.clone())));
        }
    }

    /// Uses another path from now on.
    pub(crate) fn select(&mut self, now: Duration, selected: Selected, wants: &mut Wants) {
        self.selected = Some(selected);
        self.release(now, None, wants);
    }

    /// Opens a message.
    pub(crate) fn open(
        &mut self,
        now: Duration,
        (via, from): (Path, IpAddr),
        message: &Message,
        wants: &mut Wants,
    ) -> Option<Inner> {
        if message.is_initiation() && self.answer_again(now, via, message, wants) {
            return None;
        }
        let inner = match self.tunnel.open(now, from, message) {
            Opened::Refused => return None,
            Opened::Nothing => None,
            Opened::Inner(inner) => Some(inner),
            Opened::Reply(reply) => {
                if message.is_initiation() && matches!(reply, Message::Response { .. }) {
                    let (initiation, response) = (message.clone(), reply.clone());
                    self.answer = Some(Answer { initiation, response, at: now });
                }
                wants.sent.push((via, reply));
                None
            }
        };
        let keys = match message {
            Message::Response { receiver, .. } | Message::Transport { receiver, .. } => *receiver,
            Message::Initiation { .. } | Message::Cookie { .. } => {
                self.refresh(now, Some(via), wants);
                return inner;
            }
        };
        let data = matches!(inner, Some(Inner::Data(_) | Inner::Bulk(_)));
        self.kept_back = false;
        self.reports.authenticated(now, via, keys, data, wants);
        if !self.keyed || matches!(message, Message::Response { .. }) {
            self.refresh(now, Some(via), wants);
        }
        inner
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Duration, wants: &mut Wants) {
        match self.tunnel.tick(now) {
            Tick::Send(message) => {
                let out_of_role = message.is_initiation() && !self.initiator;
                let keep_back = out_of_role && !mem::replace(&mut self.kept_back, true);
                if let Some(selected) = self.selected.filter(|_| !keep_back) {
                    push(selected, message, wants);
                }
            }
            // Its keys are gone. It goes on with the next handshake, and knows which of the peer's are old.
            Tick::Expired | Tick::Nothing => {}
        }
        self.look_at_keys(now);
        if self.begins_at().is_some_and(|at| at <= now)
            && let Some(selected) = self.way()
            && let Some(message) = self.tunnel.initiate(now, false)
        {
            push(selected, message, wants);
        }
        self.reports.tick(now, wants);
    }

    /// When [`Session::tick`] has something to do, at the earliest.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        let begins = self.begins_at().filter(|_| self.way().is_some());
        // Nothing comes of it while an initiation is out: the tunnel's own timer is next then.
        let begins = begins.filter(|_| !self.tunnel.is_trying());
        [self.tunnel.next_tick(), begins, self.reports.next_tick()].into_iter().flatten().min()
    }

    /// Nobody begins a handshake before there is something to send. As overlay/driver.
    pub(crate) fn wait_for_data(&mut self) {
        self.waits_since = None;
    }

    /// When a side without keys begins a handshake without being told to.
    fn begins_at(&self) -> Option<Duration> {
        let patience = match (self.initiator, self.waits_since) {
            (true, _) => Duration::ZERO,
            (false, Some(_)) => ANSWERER_PATIENCE,
            (false, None) => RENEWER_PATIENCE,
        };
        let since = self.held_since.or(self.waits_since).filter(|_| !self.keyed)?;
        Some(since + patience)
    }

    fn way(&self) -> Option<Selected> {
        let relayed = self.fallback.map(|primary| Selected { primary, also: None });
        self.selected.or(relayed)
    }

    fn answer_again(
        &mut self,
        now: Duration,
        via: Path,
        message: &Message,
        wants: &mut Wants,
    ) -> bool {
        let known = self.answer.as_ref().filter(|answer| {
            now.saturating_sub(answer.at) < ANSWER_LIFETIME && answer.initiation == *message
        });
        wants.sent.extend(known.map(|answer| (via, answer.response.clone())));
        known.is_some()
    }

    fn seal(&mut self, now: Duration, selected: Selected, inner: Inner, wants: &mut Wants) {
        if let Some(message) = self.tunnel.seal(now, inner) {
            push(selected, message, wants);
        }
    }

    fn refresh(&mut self, now: Duration, via: Option<Path>, wants: &mut Wants) {
        self.look_at_keys(now);
        self.release(now, via, wants);
    }

    /// The driver does so ten times a second; here nothing happens between two events.
    fn look_at_keys(&mut self, now: Duration) {
        self.keyed = self.tunnel.has_keys(now);
        if self.keyed {
            self.waits_since = None;
        }
    }

    /// As overlay/driver: through the relay that the keys came by.
    fn release(&mut self, now: Duration, keys_via: Option<Path>, wants: &mut Wants) {
        let Some(mut selected) = self.selected.filter(|_| self.keyed) else { return };
        if let (Path::Relayed { .. }, Some(via @ Path::Relayed { .. })) =
            (selected.primary, keys_via)
        {
            selected.primary = via;
        }
        self.held_since = None;
        for inner in mem::take(&mut self.held) {
            self.seal(now, selected, inner, wants);
        }
    }
}

fn push(Selected { primary, also }: Selected, message: Message, wants: &mut Wants) {
    if let Some(also) = also {
        wants.sent.push((primary, message.clone()));
        wants.sent.push((also, message));
    } else {
        wants.sent.push((primary, message));
    }
}

/// A name below 2^24. Two tunnels of a machine may share one after 16 million others: they differ in
/// everything else.
fn receiver(draw: u64) -> u32 {
    (draw & 0xff_ffff) as u32
}

/// What a session tells the core about its traffic.
#[derive(Debug, Default)]
struct Reports {
    received: Vec<Received>,
    sent_at: Option<Duration>,
    sent_waits: bool,
    /// The names of the two newest key pairs that packets came for.
    keys: [Option<u32>; 2],
}

#[derive(Debug)]
struct Received {
    via: Path,
    at: Duration,
    waits: bool,
    data: bool,
}

impl Reports {
    fn authenticated(
        &mut self,
        now: Duration,
        via: Path,
        keys: u32,
        data: bool,
        wants: &mut Wants,
    ) {
        let new_keys = !self.keys.contains(&Some(keys));
        if new_keys {
            self.keys = [Some(keys), self.keys[0]];
        }
        let known = self.received.iter_mut().find(|entry| entry.via == via);
        if let Some(entry) = known {
            entry.data |= data;
            entry.waits = true;
            if new_keys || now.saturating_sub(entry.at) >= REPORT_GAP {
                entry.report(now, wants);
            }
            return;
        }
        if self.received.len() == MAX_PATHS {
            let oldest = (0..MAX_PATHS).min_by_key(|index| self.received[*index].at);
            self.received.swap_remove(oldest.unwrap_or(0));
        }
        let mut entry = Received { via, at: now, waits: true, data };
        entry.report(now, wants);
        self.received.push(entry);
    }

    fn sent(&mut self, now: Duration, wants: &mut Wants) {
        if self.sent_at.is_some_and(|at| now.saturating_sub(at) < REPORT_GAP) {
            self.sent_waits = true;
        } else {
            (self.sent_at, self.sent_waits) = (Some(now), false);
            wants.notices.push(Notice::Sent);
        }
    }

    fn tick(&mut self, now: Duration, wants: &mut Wants) {
        if self.sent_waits {
            self.sent(now, wants);
        }
        for entry in &mut self.received {
            if entry.waits && now.saturating_sub(entry.at) >= REPORT_GAP {
                entry.report(now, wants);
            }
        }
    }

    fn next_tick(&self) -> Option<Duration> {
        let sent = self.sent_at.filter(|_| self.sent_waits);
        let received = self.received.iter().filter(|entry| entry.waits).map(|entry| entry.at);
        Some(received.chain(sent).min()? + REPORT_GAP)
    }
}

impl Received {
    fn report(&mut self, now: Duration, wants: &mut Wants) {
        let data = mem::take(&mut self.data);
        (self.waits, self.at) = (false, now);
        wants.notices.push(Notice::Authenticated { via: self.via, data });
    }
}
