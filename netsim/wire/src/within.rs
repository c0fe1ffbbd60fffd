//! Work in another network namespace.

use std::io;
use std::os::fd::AsFd;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Does `work` on a thread of its own in a network namespace. What it opens stays there.
pub(crate) fn within<R: Send>(
    netns: impl AsFd + Send,
    work: impl FnOnce() -> io::Result<R> + Send,
) -> io::Result<R> {
    thread::scope(|scope| {
        let entered = move || {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        };
        let thread = thread::Builder::new().name("netns".to_owned());
        let running = thread.spawn_scoped(scope, entered)?;
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
