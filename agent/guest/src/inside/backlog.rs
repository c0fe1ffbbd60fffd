//! How much of a session's input waits for its program, and how fast more may come.
//!
//! The SSH library gives the client new room as soon as bytes have arrived, whether or not the program has read
//! them, and stands still altogether when its own small buffer is full: then a program that answers while
//! it reads, such as `cat`, would wait for the library and the library for it. So what arrives is always taken,
//! and a client whose program does not keep up is given little room at a time until it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The client's room in ordinary times, bytes: a fast link of 100 ms is kept full at 160 Mbit/s.
pub(super) const WINDOW: u32 = 2 << 20;

/// Its room while too much waits, bytes: one packet in each round trip. Chosen: small, and more than nothing,
/// since only what arrives makes the library look again.
const TRICKLE: u32 = 64;

/// So much may wait, bytes. With one [`WINDOW`] on its way this bounds a session's memory.
const ENOUGH: usize = 1 << 20;

/// The bytes that wait, of all the sessions of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// So much has arrived.
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much has been read, or will never be.
    pub(super) fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The room that the client may have.
    pub(super) fn window(&self) -> u32 {
        if self.0.load(Ordering::Relaxed) > ENOUGH { TRICKLE } else { WINDOW }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_slowed_while_too_much_waits() {
        let backlog = Backlog::default();
        assert_eq!(backlog.window(), WINDOW);
        backlog.add(ENOUGH + 1);
        assert_eq!(backlog.clone().window(), TRICKLE);
        backlog.remove(1);
        assert_eq!(backlog.window(), WINDOW);
    }
}
