//! The owner's pings: probes that the core does not know of.

use std::collections::HashMap;
use std::time::Instant;

use overlay_core::Path;
use overlay_core::wire::Probe;
use tokio::sync::oneshot;

use crate::view::{Answered, PingError};

/// Pings under way at a time. Chosen: a person has one, a program a few.
const MAX_PINGS: usize = 64;

/// The pings that wait for their answers.
#[derive(Default)]
pub(super) struct Pings(HashMap<[u8; 8], Ping>);

struct Ping {
    sent_at: Instant,
    via: Path,
    reply: oneshot::Sender<Result<Answered, PingError>>,
}

impl Pings {
    /// Notes a ping on `via` and gives the packet to send; none when too many are under way.
    pub(super) fn begin(
        &mut self,
        sent_at: Instant,
        via: Path,
        size: usize,
        reply: oneshot::Sender<Result<Answered, PingError>>,
    ) -> Option<Vec<u8>> {
        self.0.retain(|_, ping| !ping.reply.is_closed());
        if self.0.len() >= MAX_PINGS {
            // Whoever asked may have given up.
            let _ = reply.send(Err(PingError::Busy));
            return None;
        }
        let transaction = rand::random();
        self.0.insert(transaction, Ping { sent_at, via, reply });
        Some(Probe::Ping { transaction, size }.encode())
    }

    /// Whether the probe answers one of the pings: on the path that it went.
    pub(super) fn take(&mut self, now: Instant, via: Path, probe: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Ok(Probe::Pong { transaction, .. }) = Probe::decode(probe) else { return false };
        if self.0.get(&transaction).is_none_or(|ping| ping.via != via) {
            return false;
        }
        let Some(ping) = self.0.remove(&transaction) else { return false };
        let (relayed, endpoint) = match via {
            Path::Direct(endpoint) => (false, endpoint),
            Path::Relayed { relay, .. } => (true, relay),
        };
        let rtt = now.saturating_duration_since(ping.sent_at);
        let _ = ping.reply.send(Ok(Answered { rtt, relayed, endpoint }));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn path(port: u16) -> Path {
        Path::Direct(([192, 0, 2, 1], port).into())
    }

    fn pong(ping: &[u8]) -> Vec<u8> {
        let Ok(Probe::Ping { transaction, .. }) = Probe::decode(ping) else { panic!("no ping") };
        Probe::Pong { transaction, observed: None }.encode()
    }

    #[test]
    fn a_pong_counts_once_and_on_its_own_path() {
        let (mut pings, now) = (Pings::default(), Instant::now());
        let (reply, mut answer) = oneshot::channel();
        let ping = pings.begin(now, path(4000), 56, reply).unwrap();
        let at = now + Duration::from_millis(30);
        assert!(!pings.take(at, path(4001), &pong(&ping)));
        assert!(!pings.take(at, path(4000), &ping));
        assert!(pings.take(at, path(4000), &pong(&ping)));
        assert!(!pings.take(at, path(4000), &pong(&ping)));
        let answered = answer.try_recv().unwrap().unwrap();
        assert_eq!((answered.rtt, answered.relayed), (Duration::from_millis(30), false));
    }

    #[test]
    fn pings_that_nobody_waits_for_make_room() {
        let (mut pings, now) = (Pings::default(), Instant::now());
        let waiting: Vec<_> = (0..MAX_PINGS)
            .map(|_| {
                let (reply, answer) = oneshot::channel();
                pings.begin(now, path(4000), 56, reply).unwrap();
                answer
            })
            .collect();
        let (reply, mut refused) = oneshot::channel();
        assert!(pings.begin(now, path(4000), 56, reply).is_none());
        assert_eq!(refused.try_recv().unwrap(), Err(PingError::Busy));
        drop(waiting);
        let (reply, _answer) = oneshot::channel();
        assert!(pings.begin(now, path(4000), 56, reply).is_some());
    }
}
