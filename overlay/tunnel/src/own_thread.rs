//! A runtime of one thread, for tasks that hand everything to each other.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Runs tasks on one thread until it is dropped.
///
/// The tasks of a QUIC endpoint wake each other for every few packets; on several threads each of these is a
/// system call and a change of threads (measured on two cores: a third of their time).
#[derive(Debug)]
pub struct OwnThread {
    handle: Handle,
    /// The thread ends when this is gone.
    _running: oneshot::Sender<()>,
}

impl OwnThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // An error says that the other end was dropped: that is the end.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }

    /// Where tasks are spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
