//! How often a session's timers must run: those of a session that nobody uses need not.

use std::time::{Duration, Instant};

/// How long after its last packet a session's timers go on. boringtun's own look back 15 s at most, while no
/// handshake is under way; each attempt at one counts as use.
const IN_USE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Packets go, or a handshake is under way.
    InUse,
    /// Keys may get too old, and nothing else happens.
    Resting,
    /// There never was a packet.
    Unused,
}

/// When a session was used.
#[derive(Default)]
pub(super) struct Activity {
    /// Since the last look.
    used: bool,
    /// At the look that found it used; none before the first.
    last: Option<Instant>,
}

impl Activity {
    /// The session is used. Costs next to nothing: every packet says so.
    pub(super) fn note(&mut self) {
        self.used = true;
    }

    /// Looks how it stands.
    pub(super) fn pace(&mut self, now: Instant) -> Pace {
        if std::mem::take(&mut self.used) {
            self.last = Some(now);
        }
        match self.last {
            None => Pace::Unused,
            Some(last) if now.saturating_duration_since(last) < IN_USE => Pace::InUse,
            Some(_) => Pace::Resting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_rests_a_while_after_its_last_packet() {
        let (start, mut activity) = (Instant::now(), Activity::default());
        assert_eq!(activity.pace(start), Pace::Unused);
        activity.note();
        assert_eq!(activity.pace(start), Pace::InUse);
        let before = start + IN_USE - Duration::from_millis(1);
        assert_eq!(activity.pace(before), Pace::InUse);
        assert_eq!(activity.pace(start + IN_USE), Pace::Resting);
        activity.note();
        assert_eq!(activity.pace(start + IN_USE), Pace::InUse);
    }
}
