//! WireGuard's timers, and the reports that sessions held back.

use std::time::Instant;

use super::Plane;
use super::handshakes::PER_TURN;

impl Plane {
    /// When [`tick`](Self::tick) is to be called next; none: not before something happens.
    pub(in crate::worker) fn next_tick(&self) -> Option<Instant> {
        [self.sessions.next_due(), self.next_report()].into_iter().flatten().min()
    }

    /// Runs the timers that are due. Where many sessions begin handshakes, as when their keys are equally old, the
    /// round goes on in the next turns.
    pub(in crate::worker) fn tick(&mut self, now: Instant) {
        if !std::mem::take(&mut self.is_ticking) {
            self.observe_pairs(now);
        }
        let mut begun = 0;
        while let Some(slot) = self.sessions.due(now) {
            if begun == PER_TURN {
                self.is_ticking = true;
                return;
            }
            begun += usize::from(self.run_timers(now, slot));
        }
    }

    /// Has a session's timers caught up, and run at their usual pace from now on: it is about to be used.
    pub(super) fn wake(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot).filter(|session| session.rests) else {
            return;
        };
        session.note_use();
        self.run_timers(now, slot);
    }

    /// Whether a handshake was begun.
    fn run_timers(&mut self, now: Instant, slot: usize) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else { return false };
        let has_begun = session.tick(&mut self.net, now, &mut self.notices);
        self.sessions.schedule(now, slot);
        has_begun
    }
}
