//! Keys in use: which packets under them are opened.

use std::time::Duration;

use super::Secret;

/// Counters behind the newest that are still accepted, as boringtun's window.
const WINDOW: u64 = 1024;

/// One pair of keys at one end.
#[derive(Debug)]
pub(super) struct Keys {
    /// This side's name for them.
    pub(super) local: u32,
    /// The other side's.
    pub(super) remote: u32,
    pub(super) secret: Secret,
    pub(super) since: Duration,
    pub(super) sent: u64,
    pub(super) window: Window,
}

/// Which counters have come.
#[derive(Debug, Default)]
pub(super) struct Window {
    next: u64,
    seen: [u64; (WINDOW / 64) as usize],
}

impl Window {
    /// Whether a packet with that counter may be opened; it counts as come from here on.
    pub(super) fn take(&mut self, counter: u64) -> bool {
        if counter + WINDOW < self.next {
            return false;
        }
        if counter >= self.next {
            let skipped = (counter - self.next).min(WINDOW);
            (counter - skipped..=counter).for_each(|skipped| self.set(skipped, false));
            self.next = counter + 1;
        }
        let is_new = !self.is_set(counter);
        self.set(counter, true);
        is_new
    }

    fn is_set(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        self.seen[word] >> bit & 1 == 1
    }

    fn set(&mut self, counter: u64, value: bool) {
        let (word, bit) = place(counter);
        self.seen[word] = self.seen[word] & !(1 << bit) | u64::from(value) << bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let bit = counter % WINDOW;
    ((bit / 64) as usize, bit % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_taken_once_and_not_too_late() {
        let mut window = Window::default();
        for counter in [0, 5, 3, 2000, 1900, 977] {
            assert!(window.take(counter), "{counter}");
            assert!(!window.take(counter), "{counter} again");
        }
        assert!(!window.take(4));
        assert!(!window.take(976));
        assert!(window.take(1 << 40));
        assert!(!window.take(2000));
    }
}
