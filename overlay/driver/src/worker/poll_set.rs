//! The descriptors that a turn waits for. The list keeps its memory from turn to turn.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::libc;
use nix::poll::PollTimeout;

/// Descriptors to be polled for reading, in the order in which they were added.
#[derive(Default)]
pub(super) struct PollSet(Vec<libc::pollfd>);

impl PollSet {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, fd: BorrowedFd<'_>) {
        self.0.push(libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    }

    /// Waits until one of them can be read, or has an error to tell.
    pub(super) fn wait(&mut self, timeout: PollTimeout) -> io::Result<()> {
        let count = self.0.len() as libc::nfds_t;
        // SAFETY: the pointer and the count are those of a living vector. A descriptor that was
        // closed meanwhile is answered with POLLNVAL.
        match unsafe { libc::poll(self.0.as_mut_ptr(), count, timeout.into()) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether the descriptor that was added as this one has something.
    pub(super) fn is_ready(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|fd| fd.revents != 0)
    }
}
