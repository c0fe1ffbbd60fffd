//! Running code and programs in a network namespace, without touching any other namespace.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::libc;
use nix::sched::{CloneFlags, setns};

/// A network namespace, held open.
#[derive(Clone, Debug)]
pub struct Netns(Arc<File>);

impl Netns {
    /// The namespace of the calling thread.
    pub fn of_this_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(|file| Self(Arc::new(file)))
    }

    /// The namespace of a process.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/ns/net")).map(|file| Self(Arc::new(file)))
    }

    /// A number that tells namespaces apart.
    pub fn inode(&self) -> io::Result<u64> {
        self.0.metadata().map(|meta| meta.st_ino())
    }

    /// It, as this process holds it open.
    pub(crate) fn borrowed(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// This process's descriptor of it.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Moves the calling thread into the namespace, for good or until the next move.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `work` on a thread in the namespace. Sockets that it makes stay there for ever.
    ///
    /// # Panics
    ///
    /// When `work` panics.
    pub fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        let thread = self.spawn("netns", work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts `work` on a thread of that name in the namespace.
    pub fn spawn<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<io::Result<R>>> {
        let netns = Arc::clone(&self.0);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }

    /// A command that will run in the namespace, in a process group of its own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let netns = Arc::clone(&self.0);
        command.process_group(0);
        // SAFETY: between fork and exec only a system call is made; the descriptor is kept open by
        // the closure, and an error is made from errno without allocating.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
        command
    }
}
