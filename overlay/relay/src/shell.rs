//! The relay's thin shell: sockets, a thread for each, batches in and batches out.
//!
//! ```text
//!   socket ──batch──▶ worker ──decide──▶ state (one for all, locked for a batch's decisions)
//!     ▲                 │
//!     └─────bursts──────┘   a buffer that the kernel coalesced (GRO) leaves again as one send (GSO) where its
//!                           segments go to the same destination, straight from the receive buffer
//! ```

mod held;
mod outbox;
mod run;
mod worker;

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use self::worker::Worker;
use crate::keys::RelayKeys;
use crate::limits::RelayLimits;
use crate::moment::Moment;
use crate::state::RelayState;
use crate::stats::{IoStats, RelayStats};

/// Starts relays.
#[derive(Clone, Copy, Debug)]
pub struct Relay;

/// A running relay. Dropping it stops the threads and closes the sockets.
pub struct RelayHandle {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    wakers: Vec<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

/// The relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A socket does not do what a relay needs.
    #[error("prepare the relay's socket")]
    Socket(#[source] io::Error),
    /// No thread, or nothing to wake it with.
    #[error("start the relay's thread")]
    Thread(#[source] io::Error),
}

/// What the workers have in common.
struct Shared {
    state: Mutex<RelayState>,
    /// Each worker's counters, as of its last batch.
    io: Vec<Mutex<IoStats>>,
    stop: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, RelayState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> RelayStats {
        let io = self.io.iter().map(|io| *io.lock().unwrap_or_else(PoisonError::into_inner));
        let io = io.fold(IoStats::default(), IoStats::plus);
        RelayStats { io, ..self.state().stats() }
    }
}

impl Relay {
    /// Serves a bound socket with the default limits.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the operating system refuses.
    pub fn spawn(socket: UdpSocket, keys: RelayKeys) -> Result<RelayHandle, SpawnError> {
        Self::spawn_with(vec![socket], keys, RelayLimits::default())
    }

    /// Serves bound sockets of one address (see [`bind`](crate::bind)), each by a thread.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the operating system refuses.
    pub fn spawn_with(
        sockets: Vec<UdpSocket>,
        keys: RelayKeys,
        limits: RelayLimits,
    ) -> Result<RelayHandle, SpawnError> {
        let first = sockets.first().ok_or(io::ErrorKind::InvalidInput.into());
        let local_addr = first.and_then(UdpSocket::local_addr).map_err(SpawnError::Socket)?;
        let state = RelayState::new(keys, limits, rand::random(), Moment::read());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            io: sockets.iter().map(|_| Mutex::default()).collect(),
            stop: AtomicBool::new(false),
        });
        // Dropped, and so stopped, if one of the threads does not start.
        let mut handle =
            RelayHandle { local_addr, shared, wakers: Vec::new(), threads: Vec::new() };
        let other =
            UdpSocket::bind(SocketAddr::new(local_addr.ip(), 0)).map_err(SpawnError::Socket)?;
        other.set_nonblocking(true).map_err(SpawnError::Socket)?;
        let other = Arc::new(other);
        for (number, socket) in sockets.into_iter().enumerate() {
            let (waker, wakened) = UnixStream::pair().map_err(SpawnError::Thread)?;
            let shared = Arc::clone(&handle.shared);
            let worker = Worker::new(number, socket, Arc::clone(&other), wakened, shared)
                .map_err(SpawnError::Socket)?;
            let thread = std::thread::Builder::new()
                .name(format!("relay-{number}"))
                .spawn(move || worker.run())
                .map_err(SpawnError::Thread)?;
            handle.wakers.push(waker);
            handle.threads.push(thread);
        }
        Ok(handle)
    }
}

impl RelayHandle {
    /// The address of the sockets.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The counters: of packets as of now, of calls as of the last batch.
    pub fn stats(&self) -> RelayStats {
        self.shared.stats()
    }

    /// Tells the counters after this handle is gone, too.
    pub fn meter(&self) -> RelayMeter {
        RelayMeter(Some(Arc::clone(&self.shared)))
    }
}

/// Tells a relay's counters.
#[derive(Clone, Default)]
pub struct RelayMeter(Option<Arc<Shared>>);

impl RelayMeter {
    /// The counters: of packets as of now, of calls as of the last batch.
    pub fn stats(&self) -> RelayStats {
        self.0.as_ref().map(|shared| shared.stats()).unwrap_or_default()
    }
}

impl fmt::Debug for RelayMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RelayMeter").field(&self.stats()).finish()
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for waker in &self.wakers {
            // The thread sees the end of the stream. It can only fail when the thread has gone.
            let _ = waker.shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the relay had panicked");
            }
        }
    }
}
