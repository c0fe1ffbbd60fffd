//! One socket's thread.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use overlay_tunnel::Batches;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use super::Shared;
use super::held::Held;
use super::outbox::{Burst, Outbox};
use super::run::{Run, Timed};
use crate::moment::Moment;
use crate::state::{Action, Route, canonical};

/// A receive buffer holds what the kernel coalesces at most.
const BUFFER_LEN: usize = 65_536;

/// Kernel buffer wished for, each way. Chosen: 30 ms at 1 Gbit/s; the kernel may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// A batch that carried so many bytes is one of many.
const BULK: usize = 32_768;

/// How long more of them are gathered: each waking, and each answer that is sent alone, costs as much as
/// 64 kB. Chosen: what is gathered at 10 Gbit/s fits the kernel's buffer several times over, and a home line adds more
/// (measured at 4 Gbit/s: two thirds of the processor time per byte, against none or 0.2 ms).
const NAP: Duration = Duration::from_micros(500);

/// Wait after a receive error that is not about one datagram, lest the thread spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Worker {
    number: usize,
    outbox: Outbox,
    held: Held,
    /// What was decided about the datagrams of one batch: how many neighbours of which buffer.
    decided: Vec<(usize, usize, Action)>,
    /// Answers that shall come from another port leave here; nothing is received.
    other: Arc<UdpSocket>,
    wakened: UnixStream,
    shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        socket: UdpSocket,
        other: Arc<UdpSocket>,
        wakened: UnixStream,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let udp = UdpSocketState::new((&socket).into())?;
        // Best effort: what the kernel grants is what there is.
        let _ = udp.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER);
        let _ = udp.set_send_buffer_size((&socket).into(), SOCKET_BUFFER);
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self {
            number,
            outbox: Outbox::new(socket, udp, Batches::here(), is_ipv6),
            held: Held::default(),
            decided: Vec::new(),
            other,
            wakened,
            shared,
        })
    }

    pub(super) fn run(mut self) {
        let mut storage = vec![0; BATCH_SIZE * BUFFER_LEN];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        while !self.shared.stop.load(Ordering::Acquire) {
            self.outbox.flush();
            let mut buffers: Vec<_> =
                storage.chunks_exact_mut(BUFFER_LEN).map(IoSliceMut::new).collect();
            match self.outbox.recv(&mut buffers, &mut metas) {
                Ok(count) => {
                    let now = Moment::read();
                    // Before what is newer.
                    self.release(now.instant);
                    self.on_batch(now, &metas[..count], &buffers);
                    self.publish();
                    let carried: usize = metas[..count].iter().map(|meta| meta.len).sum();
                    if carried >= BULK && count < BATCH_SIZE {
                        std::thread::sleep(NAP);
                        continue;
                    }
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
        let wakeup = {
            let mut state = self.shared.state();
            state.handle_wakeup(now);
            state.next_wakeup()
        };
        self.publish();
        let wakeup = self.held.next_due().map_or(wakeup, |due| due.min(wakeup));
        match self.wait(wakeup.saturating_duration_since(now.instant)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                tracing::error!(%error, "the relay cannot wait for packets and ends");
                ControlFlow::Break(())
            }
        }
    }

    /// Handles the datagrams of one batch; neighbours with the same destination leave together.
    fn on_batch(&mut self, now: Moment, metas: &[RecvMeta], buffers: &[IoSliceMut<'_>]) {
        let mut decided = std::mem::take(&mut self.decided);
        {
            let mut state = self.shared.state();
            for (index, (meta, buffer)) in metas.iter().zip(buffers).enumerate() {
                let Some((bytes, stride)) = message(meta, buffer) else { continue };
                state.handle_datagrams(now, from(meta), bytes, stride, |count, action| {
                    decided.push((index, count, action));
                });
            }
        }
        let mut decisions = decided.drain(..).peekable();
        for (index, (meta, buffer)) in metas.iter().zip(buffers).enumerate() {
            let Some((bytes, stride)) = message(meta, buffer) else { continue };
            let (mut run, mut segment) = (Run::new(bytes, stride, meta.ecn), 0);
            while let Some((_, count, action)) = decisions.next_if(|(of, ..)| *of == index) {
                match action {
                    Action::Forward(to) => self.put(run.add(segment, count, to, None)),
                    Action::Hold { to, until } => {
                        self.put(run.add(segment, count, to, Some(until)));
                    }
                    Action::Reply(bytes) => self.outbox.send(Burst::single(from(meta), &bytes)),
                    Action::ReplyElsewhere { to, from_other: false, bytes } => {
                        self.outbox.send(Burst::single(to, &bytes));
                    }
                    Action::ReplyElsewhere { to, from_other: true, bytes } => {
                        // Lost when the socket is full, as on any network.
                        let _ = self.other.send_to(&bytes, self.outbox.socket_form(to.remote));
                    }
                    Action::Drop(_) => {}
                }
                segment += count;
            }
            self.put(run.finish());
        }
        drop(decisions);
        self.outbox.send_joined();
        self.decided = decided;
    }

    /// Sends a burst, or holds it back until its time.
    fn put(&mut self, burst: Option<Timed<'_>>) {
        let Some((burst, until)) = burst else { return };
        match until {
            Some(until) if !self.held.add(until, burst) => self.outbox.give_up(burst),
            Some(_) => {}
            None => self.outbox.add(burst),
        }
    }

    /// Sends what was held back until now.
    fn release(&mut self, now: Instant) {
        for waiting in self.held.take_due(now) {
            self.outbox.send(waiting.burst());
            self.held.recycle(waiting);
        }
    }

    fn publish(&self) {
        if let Some(io) = self.shared.io.get(self.number) {
            *io.lock().unwrap_or_else(PoisonError::into_inner) = self.outbox.stats();
        }
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

fn from(meta: &RecvMeta) -> Route {
    Route { remote: canonical(meta.addr), local: meta.dst_ip }
}

/// The datagrams of one buffer and their length; none of an empty datagram, which has no length to divide by.
fn message<'a>(meta: &RecvMeta, buffer: &'a [u8]) -> Option<(&'a [u8], usize)> {
    let bytes = &buffer[..meta.len.min(buffer.len())];
    (!bytes.is_empty()).then(|| (bytes, meta.stride.clamp(1, bytes.len())))
}
