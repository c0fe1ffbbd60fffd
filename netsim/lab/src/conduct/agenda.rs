//! What is to be done when: at a time, or some time after a job has got so far. No clock of its own.
//!
//! ```text
//!   at a time ─────────────────────────────┐
//!   when a job gets so far ──> [`reached`] ─┴──> due ──> [`take_due`]
//! ```
//! [`reached`]: Agenda::reached
//! [`take_due`]: Agenda::take_due

use std::time::Duration;

/// When something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When<T> {
    /// At that time, from the start of the work.
    At(Duration),
    /// So long after something has happened for the first time.
    After(T, Duration),
}

/// Things to be done, each once.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<T, A> {
    /// With their places in the order in which they were added, which decides among those that are
    /// due at the same time.
    timed: Vec<(Duration, usize, A)>,
    waiting: Vec<(T, Duration, usize, A)>,
    added: usize,
}

impl<T: PartialEq, A> Agenda<T, A> {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self { timed: Vec::new(), waiting: Vec::new(), added: 0 }
    }

    /// Adds something.
    pub(crate) fn add(&mut self, when: When<T>, action: A) {
        match when {
            When::At(at) => self.timed.push((at, self.added, action)),
            When::After(trigger, delay) => {
                self.waiting.push((trigger, delay, self.added, action));
            }
        }
        self.added += 1;
    }

    /// At `now` that has happened.
    pub(crate) fn reached(&mut self, trigger: &T, now: Duration) {
        let happened = self.waiting.extract_if(.., |(awaited, ..)| awaited == trigger);
        self.timed.extend(happened.map(|(_, delay, place, action)| (now + delay, place, action)));
    }

    /// What is due at `now`, in order.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<A> {
        let mut due: Vec<_> = self.timed.extract_if(.., |(at, ..)| *at <= now).collect();
        due.sort_by_key(|(at, place, _)| (*at, *place));
        due.into_iter().map(|(.., action)| action).collect()
    }

    /// When something will be due next, as far as is known.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.timed.iter().map(|(at, ..)| *at).min()
    }

    /// What has a time, and has not been due yet.
    pub(crate) fn timed(&self) -> impl Iterator<Item = &A> {
        self.timed.iter().map(|(.., action)| action)
    }

    /// What waits for something that has not happened.
    pub(crate) fn never_due(&self) -> impl Iterator<Item = (&T, &A)> {
        self.waiting.iter().map(|(trigger, _, _, action)| (trigger, action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_due_is_given_once_in_the_order_of_time() {
        let mut agenda: Agenda<&str, u8> = Agenda::new();
        agenda.add(When::At(s(5)), 2);
        agenda.add(When::At(s(5)), 3);
        agenda.add(When::At(s(1)), 1);
        agenda.add(When::At(s(9)), 4);

        assert_eq!(agenda.take_due(s(0)), [0; 0]);
        assert_eq!(agenda.next_due(), Some(s(1)));
        assert_eq!(agenda.take_due(s(5)), [1, 2, 3]);
        assert_eq!(agenda.take_due(s(8)), [0; 0]);
        assert_eq!(agenda.next_due(), Some(s(9)));
        assert_eq!(agenda.take_due(s(90)), [4]);
        assert_eq!(agenda.next_due(), None);
    }

    #[test]
    fn a_delay_begins_when_the_trigger_happens_for_the_first_time() {
        let mut agenda = Agenda::new();
        agenda.add(When::After("running", s(2)), 1);
        agenda.add(When::After("ended", s(0)), 2);
        agenda.add(When::After("running", s(0)), 3);
        assert_eq!(agenda.next_due(), None);

        agenda.reached(&"running", s(10));
        agenda.reached(&"running", s(11));

        assert_eq!(agenda.take_due(s(10)), [3]);
        assert_eq!(agenda.next_due(), Some(s(12)));
        assert_eq!(agenda.take_due(s(12)), [1]);
        assert_eq!(agenda.never_due().collect::<Vec<_>>(), [(&"ended", &2)]);
    }
}
