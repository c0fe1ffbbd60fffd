//! Handshakes under load: whoever begins too many has to prove its address first.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::time::Duration;

/// Handshake messages a second that are answered without a cookie (boringtun's
/// `PEER_HANDSHAKE_RATE_LIMIT`).
pub const MOST_HANDSHAKES: u64 = 10;

/// After this the count begins anew.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a cookie is good for (WireGuard's paper §5.4.7: two minutes).
const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// How many handshake messages have come.
#[derive(Debug, Default)]
pub(super) struct Load {
    secret: u64,
    count: u64,
    since: Duration,
}

impl Load {
    pub(super) fn new(secret: u64, now: Duration) -> Self {
        Self { secret, count: 0, since: now }
    }

    /// A handshake message has come from there. The cookie that it has to show, if it does not.
    pub(super) fn check(
        &mut self,
        now: Duration,
        from: IpAddr,
        shown: Option<u64>,
    ) -> Result<(), u64> {
        if now.saturating_sub(self.since) >= PERIOD {
            (self.count, self.since) = (0, now);
        }
        self.count += 1;
        let cookie = self.cookie(now, from);
        if self.count > MOST_HANDSHAKES && shown != Some(cookie) { Err(cookie) } else { Ok(()) }
    }

    fn cookie(&self, now: Duration, from: IpAddr) -> u64 {
        let period = now.as_secs() / COOKIE_LIFETIME.as_secs();
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.secret, period, from))
    }
}
