//! Trying again while the coordinator is away: for ever, more and more slowly, never in step with others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use coordinator_client::ClientError;
use coordinator_client::transfer::TransferError;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// The longest pause, before jitter. Chosen: a restarted coordinator has its nodes back well within the
/// node timeout of 60 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pauses between attempts: doubled each time, with jitter, without an end.
pub fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Whether an error can go away without anybody changing this node's job.
pub trait MayPass {
    /// Try again.
    fn may_pass(&self) -> bool;
}

impl MayPass for ClientError {
    fn may_pass(&self) -> bool {
        match self {
            // A credential that was revoked by mistake can be given back, and room be made on a full disk.
            Self::Refused { status, .. } => self.is_transient() || matches!(status, 401 | 507),
            Self::Unreachable { .. } | Self::NotTheCoordinator { .. } | Self::BadAnswer { .. } => {
                true
            }
            Self::BadUrl { .. } | Self::BadCredential => false,
        }
    }
}

impl MayPass for TransferError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Client(error) => error.may_pass(),
            // The caller counts these.
            Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::File { .. }
            | Self::Changed { .. }
            | Self::NotTaken { .. } => false,
        }
    }
}

/// Whether the server answers, for the log: one line when it goes, one when it comes back.
#[derive(Default)]
pub struct Reach {
    away: AtomicBool,
}

impl Reach {
    /// A request was answered.
    pub fn answered(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("the server answers again");
        }
    }

    /// A request was not answered.
    pub fn failed(&self, error: &dyn std::error::Error) {
        if self.away.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "the server still does not answer");
        } else {
            tracing::warn!(%error, "the server does not answer; trying again until it does");
        }
    }

    /// Repeats `attempt` until it brings something, or an error that trying again does not mend.
    ///
    /// # Errors
    /// That error.
    pub async fn insist<T, E, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, E>
    where
        E: MayPass + std::error::Error,
        F: Future<Output = Result<T, E>>,
    {
        let mut pauses = pauses();
        loop {
            match attempt().await {
                Err(error) if error.may_pass() => self.failed(&error),
                done => {
                    self.answered();
                    return done;
                }
            }
            tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_never_end() {
        let all: Vec<_> = pauses().take(200).collect();
        assert_eq!(all.len(), 200);
        assert!(all[0] <= FIRST_PAUSE * 2);
        assert!(all.iter().all(|pause| *pause <= LONGEST_PAUSE * 2));
        assert!(all[100] >= LONGEST_PAUSE);
    }

    #[test]
    fn a_refusal_is_final_and_silence_is_not() {
        let refused =
            |status| ClientError::Refused { status, title: String::new(), message: String::new() };
        assert!(!refused(409).may_pass());
        assert!(!refused(403).may_pass());
        assert!(refused(503).may_pass());
        assert!(refused(401).may_pass());
        assert!(refused(507).may_pass());
        let silence = ClientError::Unreachable { host: String::new(), reason: String::new() };
        assert!(silence.may_pass());
    }
}
