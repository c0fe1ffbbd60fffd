//! The relay's thin shell: a socket, a thread, batches in and batches out.
//!
//! A buffer that the kernel coalesced (GRO) leaves again as one send (GSO) where its segments go to
//! the same destination, straight from the receive buffer.

mod held;
mod outbox;

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSocketState};

use self::held::Held;
use self::outbox::{Burst, Outbox};
use crate::keys::RelayKeys;
use crate::limits::RelayLimits;
use crate::moment::Moment;
use crate::state::{Action, RelayState, Route, canonical};
use crate::stats::RelayStats;

/// A receive buffer holds what the kernel coalesces at most.
const BUFFER_LEN: usize = 65_536;

/// Kernel buffer wished for, each way. Chosen: 30 ms at 1 Gbit/s; the kernel may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Wait after a receive error that is not about one datagram, lest the thread spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Starts relays.
#[derive(Clone, Copy, Debug)]
pub struct Relay;

/// A running relay. Dropping it stops the thread and closes the socket.
pub struct RelayHandle {
    local_addr: SocketAddr,
    stats: Arc<Mutex<RelayStats>>,
    stop: Arc<AtomicBool>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// The relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The socket does not do what a relay needs.
    #[error("prepare the relay's socket")]
    Socket(#[source] io::Error),
    /// No thread, or nothing to wake it with.
    #[error("start the relay's thread")]
    Thread(#[source] io::Error),
}

impl Relay {
    /// Serves a bound socket with the default limits.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the operating system refuses.
    pub fn spawn(socket: UdpSocket, keys: RelayKeys) -> Result<RelayHandle, SpawnError> {
        Self::spawn_with(socket, keys, RelayLimits::default())
    }

    /// Serves a bound socket.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the operating system refuses.
    pub fn spawn_with(
        socket: UdpSocket,
        keys: RelayKeys,
        limits: RelayLimits,
    ) -> Result<RelayHandle, SpawnError> {
        let local_addr = socket.local_addr().map_err(SpawnError::Socket)?;
        let udp = UdpSocketState::new((&socket).into()).map_err(SpawnError::Socket)?;
        // Best effort: what the kernel grants is what there is.
        let _ = udp.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER);
        let _ = udp.set_send_buffer_size((&socket).into(), SOCKET_BUFFER);
        let other =
            UdpSocket::bind(SocketAddr::new(local_addr.ip(), 0)).map_err(SpawnError::Socket)?;
        other.set_nonblocking(true).map_err(SpawnError::Socket)?;
        let (waker, wakened) = UnixStream::pair().map_err(SpawnError::Thread)?;
        let stats = Arc::new(Mutex::new(RelayStats::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            state: RelayState::new(keys, limits, rand::random(), Moment::read()),
            outbox: Outbox::new(socket, udp, local_addr.is_ipv6()),
            held: Held::default(),
            other,
            wakened,
            stop: Arc::clone(&stop),
            stats: Arc::clone(&stats),
        };
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || worker.run())
            .map_err(SpawnError::Thread)?;
        Ok(RelayHandle { local_addr, stats, stop, waker, thread: Some(thread) })
    }
}

impl RelayHandle {
    /// The address of the socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The counters as of the last batch.
    pub fn stats(&self) -> RelayStats {
        self.meter().stats()
    }

    /// Tells the counters after this handle is gone, too.
    pub fn meter(&self) -> RelayMeter {
        RelayMeter(Arc::clone(&self.stats))
    }
}

/// Tells a relay's counters.
#[derive(Clone, Debug, Default)]
pub struct RelayMeter(Arc<Mutex<RelayStats>>);

impl RelayMeter {
    /// The counters as of the last batch.
    pub fn stats(&self) -> RelayStats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The thread sees the end of the stream. It can only fail when the thread has gone.
        let _ = self.waker.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay's thread had panicked");
        }
    }
}

struct Worker {
    state: RelayState,
    outbox: Outbox,
    held: Held,
    /// Answers that shall come from another port leave here; nothing is received.
    other: UdpSocket,
    wakened: UnixStream,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<RelayStats>>,
}

impl Worker {
    fn run(mut self) {
        let mut storage = vec![0; BATCH_SIZE * BUFFER_LEN];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        while !self.stop.load(Ordering::Acquire) {
            self.outbox.flush();
            let mut buffers: Vec<_> =
                storage.chunks_exact_mut(BUFFER_LEN).map(IoSliceMut::new).collect();
            match self.outbox.recv(&mut buffers, &mut metas) {
                Ok(count) => {
                    let now = Moment::read();
                    // Before what is newer.
                    self.release(now.instant);
                    for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
                        self.on_buffer(now, meta, &buffer[..meta.len.min(BUFFER_LEN)]);
                    }
                    self.publish();
                    // Fewer than could be received: another call would only tell that these were all.
                    if count == BATCH_SIZE {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "the relay's socket refuses to receive");
                    std::thread::sleep(ERROR_PAUSE);
                    continue;
                }
            }
            if self.rest().is_break() {
                return;
            }
        }
    }

    /// Does what is due and waits for more.
    fn rest(&mut self) -> ControlFlow<()> {
        let now = Moment::read();
        self.release(now.instant);
        self.state.handle_wakeup(now);
        self.publish();
        let wakeup = self.state.next_wakeup();
        let wakeup = self.held.next_due().map_or(wakeup, |due| due.min(wakeup));
        match self.wait(wakeup.saturating_duration_since(now.instant)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                tracing::error!(%error, "the relay cannot wait for packets and ends");
                ControlFlow::Break(())
            }
        }
    }

    /// Handles the segments of one buffer; neighbours with the same destination leave together.
    fn on_buffer(&mut self, now: Moment, meta: &RecvMeta, buffer: &[u8]) {
        // An empty datagram: nothing, and no stride to divide by.
        if buffer.is_empty() {
            return;
        }
        let from = Route { remote: canonical(meta.addr), local: meta.dst_ip };
        let stride = meta.stride.clamp(1, buffer.len());
        let Self { state, outbox, held, other, .. } = self;
        let (mut run, mut index) = (Run::new(buffer, stride, meta.ecn), 0);
        state.handle_datagrams(now, from, buffer, stride, |action| {
            match action {
                Action::Forward(to) => put(outbox, held, run.add(index, to, None)),
                Action::Hold { to, until } => put(outbox, held, run.add(index, to, Some(until))),
                Action::Reply(bytes) => outbox.send(Burst::single(from, &bytes)),
                Action::ReplyElsewhere { to, from_other: false, bytes } => {
                    outbox.send(Burst::single(to, &bytes));
                }
                Action::ReplyElsewhere { to, from_other: true, bytes } => {
                    // Lost when the socket is full, as on any network.
                    let _ = other.send_to(&bytes, outbox.socket_form(to.remote));
                }
                Action::Drop(_) => {}
            }
            index += 1;
        });
        put(outbox, held, run.finish());
    }

    /// Sends what was held back until now.
    fn release(&mut self, now: Instant) {
        for waiting in self.held.take_due(now) {
            self.outbox.send(waiting.burst());
            self.held.recycle(waiting);
        }
    }

    fn publish(&self) {
        let stats = RelayStats { io: self.outbox.stats(), ..self.state.stats() };
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// Waits for packets, for room to send if something waits, or to be stopped.
    fn wait(&self, patience: Duration) -> io::Result<()> {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, !self.outbox.is_empty());
        let mut fds = [
            PollFd::new(self.outbox.as_fd(), interest),
            PollFd::new(self.wakened.as_fd(), PollFlags::POLLIN),
        ];
        // Rounded up, or the thread would spin through the last millisecond.
        let patience_ms = patience.as_nanos().div_ceil(1_000_000);
        let patience_ms = u16::try_from(patience_ms).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(patience_ms)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A burst, and when it leaves; none: at once.
type Timed<'a> = (Burst<'a>, Option<Instant>);

/// Sends a burst, or holds it back until its time.
fn put(outbox: &mut Outbox, held: &mut Held, burst: Option<Timed<'_>>) {
    let Some((burst, until)) = burst else { return };
    match until {
        Some(until) if !held.add(until, burst) => outbox.give_up(burst),
        Some(_) => {}
        None => outbox.send(burst),
    }
}

/// Neighbouring segments of one buffer that go to the same destination at the same time.
struct Run<'a> {
    buffer: &'a [u8],
    stride: usize,
    ecn: Option<EcnCodepoint>,
    open: Option<Open>,
}

/// First segment, one past the last, where they go and when; none: at once.
#[derive(Clone, Copy)]
struct Open {
    first: usize,
    end: usize,
    to: Route,
    until: Option<Instant>,
}

impl<'a> Run<'a> {
    fn new(buffer: &'a [u8], stride: usize, ecn: Option<EcnCodepoint>) -> Self {
        Self { buffer, stride, ecn, open: None }
    }

    /// Adds a segment; gives the run before it back if it belongs to another one.
    fn add(&mut self, index: usize, to: Route, until: Option<Instant>) -> Option<Timed<'a>> {
        if let Some(open) = &mut self.open
            && (open.end, open.to, open.until) == (index, to, until)
        {
            open.end += 1;
            return None;
        }
        let before = self.finish();
        self.open = Some(Open { first: index, end: index + 1, to, until });
        before
    }

    fn finish(&mut self) -> Option<Timed<'a>> {
        let Open { first, end, to: route, until } = self.open.take()?;
        let end = (end * self.stride).min(self.buffer.len());
        let bytes = &self.buffer[first * self.stride..end];
        let segment = self.stride.min(bytes.len());
        Some((Burst { route, ecn: self.ecn, segment, bytes }, until))
    }
}
