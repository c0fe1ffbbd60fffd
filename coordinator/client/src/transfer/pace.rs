//! How fast archives go: as fast as the line, or as somebody grants.

use std::time::Duration;

use crate::client::Client;

/// How long it is waited before the grant is looked at again: it may have been raised.
const LOOK: Duration = Duration::from_secs(1);

/// Grants the bytes of archives, both ways, perhaps together with those of others.
pub trait Pace: Send + Sync {
    /// So many bytes have come, or go now.
    fn take(&self, bytes: usize);

    /// How long no more should follow.
    fn wait(&self) -> Duration;
}

impl Client {
    /// Takes bytes of an archive, and returns when more may follow. Calls `waiting` from time to time until then.
    pub(super) async fn pace(&self, bytes: usize, waiting: impl Fn()) {
        let Some(pace) = &self.pace else { return };
        pace.take(bytes);
        loop {
            let wait = pace.wait();
            if wait.is_zero() {
                return;
            }
            waiting();
            tokio::time::sleep(wait.min(LOOK)).await;
        }
    }
}
