//! What a session tells the core about its traffic, at most every 100 ms.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use overlay_core::{Path, SessionKey};

/// The least time between two reports of one kind.
const INTERVAL: Duration = Duration::from_millis(100);

/// Paths on which a peer's packets arrive. Chosen: as many as the candidates of both sides that can be
/// on trial at a time; more only cost earlier reports.
const MAX_PATHS: usize = 16;

/// Something that the core must hear about a session.
pub(super) enum Notice {
    /// See [`Input::Authenticated`](overlay_core::Input::Authenticated).
    Authenticated { session: SessionKey, via: Path, data: bool },
    /// See [`Input::Sent`](overlay_core::Input::Sent).
    Sent(SessionKey),
    /// See [`Input::Probe`](overlay_core::Input::Probe).
    Probe { session: SessionKey, via: Path, bytes: Vec<u8> },
}

/// The reports of one session.
pub(super) struct Reports {
    session: SessionKey,
    received: Vec<Received>,
    sent_at: Option<Instant>,
    sent_waits: bool,
    /// The receiver indices of the two newest key pairs that packets came for.
    keys: [Option<u32>; 2],
}

struct Received {
    via: Path,
    at: Instant,
    waits: bool,
    data: bool,
}

impl Reports {
    pub(super) fn new(session: SessionKey) -> Self {
        Self { session, received: Vec::new(), sent_at: None, sent_waits: false, keys: [None; 2] }
    }

    /// A packet for the keys with that receiver index was authenticated on `via`.
    pub(super) fn authenticated(
        &mut self,
        now: Instant,
        via: Path,
        receiver: u32,
        data: bool,
        notices: &mut VecDeque<Notice>,
    ) {
        let new_keys = !self.keys.contains(&Some(receiver));
        if new_keys {
            self.keys = [Some(receiver), self.keys[0]];
        }
        let entry = match self.received.iter().position(|entry| entry.via == via) {
            Some(index) => {
                let entry = &mut self.received[index];
                entry.data |= data;
                entry.waits = true;
                if !new_keys && now.duration_since(entry.at) < INTERVAL {
                    return;
                }
                entry
            }
            None => {
                if self.received.len() == MAX_PATHS {
                    let oldest = (0..MAX_PATHS).min_by_key(|&index| self.received[index].at);
                    self.received.swap_remove(oldest.unwrap_or(0));
                }
                self.received.push(Received { via, at: now, waits: true, data });
                let last = self.received.len() - 1;
                &mut self.received[last]
            }
        };
        notices.push_back(entry.take(self.session, now));
    }

    /// The job's packets were sent.
    pub(super) fn sent(&mut self, now: Instant, notices: &mut VecDeque<Notice>) {
        if self.sent_at.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            self.sent_waits = true;
        } else {
            self.sent_at = Some(now);
            self.sent_waits = false;
            notices.push_back(Notice::Sent(self.session));
        }
    }

    /// Reports what was held back for long enough.
    pub(super) fn tick(&mut self, now: Instant, notices: &mut VecDeque<Notice>) {
        if self.sent_waits {
            self.sent(now, notices);
        }
        for entry in &mut self.received {
            if entry.waits && now.duration_since(entry.at) >= INTERVAL {
                notices.push_back(entry.take(self.session, now));
            }
        }
    }
}

impl Received {
    fn take(&mut self, session: SessionKey, now: Instant) -> Notice {
        let data = std::mem::take(&mut self.data);
        (self.waits, self.at) = (false, now);
        Notice::Authenticated { session, via: self.via, data }
    }
}
