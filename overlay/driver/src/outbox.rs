//! Datagrams on their way to the UDP socket, gathered for segmentation offload.
//!
//! A batch holds datagrams of one size and one congestion mark to one endpoint, of which the last may be
//! smaller; one system call sends it. Several batches are open at a time, so that packets to a few peers (or on two paths
//! of one peer) that arrive mixed still leave in runs.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use std::{array, io};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use overlay_core::Path;
use overlay_core::wire::relay;
use quinn_udp::EcnCodepoint;

use crate::socket::Socket;
use crate::stats::Stats;

/// The bytes of one batch: a UDP datagram's 65,507 less a margin (measured: 60 kB superpackets at MTU
/// 1420 fit, with everything that sealing adds).
const BATCH_BYTES: usize = 65_000;

/// Relay frames of so many bytes pass everywhere: IPv6's least MTU less its headers.
const ALWAYS_PASSES: usize = 1280 - 48;

/// Paths that are remembered to be wide. Chosen: four of the largest meshes.
const MAX_WHOLE: usize = 4096;

/// Open batches. Chosen: two paths of two peers.
const BATCHES: usize = 4;

/// How long a full socket buffer holds the data plane up before the batch is dropped.
const SEND_PATIENCE: Duration = Duration::from_millis(5);

/// Datagrams that wait for their system call.
pub(crate) struct Outbox {
    batches: [Batch; BATCHES],
    /// The one that the last packet went to: most likely the next one does, too.
    last: usize,
    next_victim: usize,
    /// The paths through relays that long packets pass on whole.
    whole: HashSet<Path>,
    /// Packets that travelled in two parts.
    parted: u16,
}

struct Batch {
    to: Option<SocketAddr>,
    /// The mark on all of them.
    ecn: Option<EcnCodepoint>,
    bytes: Box<[u8]>,
    len: usize,
    stride: usize,
    count: usize,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            batches: array::from_fn(|_| Batch {
                to: None,
                ecn: None,
                bytes: vec![0; BATCH_BYTES].into_boxed_slice(),
                len: 0,
                stride: 0,
                count: 0,
            }),
            last: 0,
            next_victim: 0,
            whole: HashSet::new(),
            parted: 0,
        }
    }

    /// Long packets go whole on that path through a relay, or in two parts.
    pub(crate) fn set_whole(&mut self, path: Path, whole: bool) {
        if !whole {
            self.whole.remove(&path);
        } else if self.whole.len() < MAX_WHOLE {
            self.whole.insert(path);
        }
    }

    /// Adds one packet of `len` bytes on `path`, which `write` fills in; in two parts where it is long and
    /// not known to pass whole. The parts carry no mark, so that a congested router drops one: it could not
    /// tell which mark the whole shall have.
    pub(crate) fn push(
        &mut self,
        socket: &Socket,
        stats: &mut Stats,
        (path, ecn): (Path, Option<EcnCodepoint>),
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) {
        let Path::Relayed { relay, channel } = path else {
            return self.push_whole(socket, stats, (path, ecn), len, write);
        };
        if len + relay::HEADER_LEN <= ALWAYS_PASSES || self.whole.contains(&path) {
            return self.push_whole(socket, stats, (path, ecn), len, write);
        }
        let mut packet = vec![0; len];
        write(&mut packet);
        self.parted = self.parted.wrapping_add(1);
        for half in relay::split(channel, self.parted, &packet).into_iter().flatten() {
            let to = Path::Direct(relay);
            self.push_whole(socket, stats, (to, None), half.len(), |slot| {
                slot.copy_from_slice(&half)
            });
        }
    }

    /// Adds one datagram of `len` bytes on `path`, which `write` fills in.
    ///
    /// A relay's header is put before it. `len` is at most a few thousand bytes.
    pub(crate) fn push_whole(
        &mut self,
        socket: &Socket,
        stats: &mut Stats,
        (path, ecn): (Path, Option<EcnCodepoint>),
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) {
        let (to, channel) = match path {
            Path::Direct(endpoint) => (endpoint, None),
            Path::Relayed { relay, channel } => (relay, Some(channel)),
        };
        let size = len + if channel.is_some() { relay::HEADER_LEN } else { 0 };
        let batch = self.batch_for(socket, stats, to);
        let joins = size <= batch.stride && batch.ecn == ecn && batch.len + size <= BATCH_BYTES;
        if batch.count > 0 && !joins {
            batch.flush(socket, stats);
        }
        if batch.count == 0 {
            batch.to = Some(to);
            batch.ecn = ecn;
            batch.stride = size;
        }
        let slot = &mut batch.bytes[batch.len..batch.len + size];
        match channel {
            None => write(slot),
            Some(channel) => {
                if let Some((header, payload)) = slot.split_first_chunk_mut() {
                    relay::write_header(header, channel);
                    write(payload);
                }
            }
        }
        batch.len += size;
        batch.count += 1;
        if size < batch.stride || batch.count >= socket.max_segments() {
            batch.flush(socket, stats);
        }
    }

    /// Sends everything that waits.
    pub(crate) fn flush(&mut self, socket: &Socket, stats: &mut Stats) {
        for batch in &mut self.batches {
            batch.flush(socket, stats);
        }
    }

    fn batch_for(&mut self, socket: &Socket, stats: &mut Stats, to: SocketAddr) -> &mut Batch {
        if self.batches[self.last].to == Some(to) {
            return &mut self.batches[self.last];
        }
        let found = self
            .batches
            .iter()
            .position(|batch| batch.to == Some(to))
            .or_else(|| self.batches.iter().position(|batch| batch.to.is_none()));
        let index = found.unwrap_or_else(|| {
            self.next_victim = (self.next_victim + 1) % BATCHES;
            self.batches[self.next_victim].flush(socket, stats);
            self.next_victim
        });
        self.last = index;
        &mut self.batches[index]
    }
}

impl Batch {
    fn flush(&mut self, socket: &Socket, stats: &mut Stats) {
        let Some(to) = self.to.take() else { return };
        let bytes = &self.bytes[..self.len];
        let segment_size = (self.count > 1).then_some(self.stride);
        let offload_refused = match send(socket, (to, self.ecn), bytes, segment_size) {
            Ok(()) => false,
            Err(error) if self.count > 1 && refuses_offload(&error) => true,
            Err(error) => {
                tracing::debug!(%error, "datagrams not sent");
                stats.udp_send_errors += self.count as u64;
                false
            }
        };
        if offload_refused {
            for datagram in bytes.chunks(self.stride) {
                if send(socket, (to, self.ecn), datagram, None).is_err() {
                    stats.udp_send_errors += 1;
                }
            }
        }
        stats.udp_sent_datagrams += self.count as u64;
        stats.udp_sent_bytes += self.len as u64;
        (self.len, self.count) = (0, 0);
    }
}

/// EIO and EINVAL mean that the device or the kernel cannot segment; quinn-udp then stops offering it.
fn refuses_offload(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

/// Sends, and waits a moment when the socket's buffer is full: the job's own queue then fills up and
/// slows its sender, which costs less than a loss.
pub(crate) fn send(
    socket: &Socket,
    (to, ecn): (SocketAddr, Option<EcnCodepoint>),
    bytes: &[u8],
    segment_size: Option<usize>,
) -> io::Result<()> {
    match socket.send((to, ecn), bytes, segment_size) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            let patience = PollTimeout::try_from(SEND_PATIENCE).unwrap_or(PollTimeout::ZERO);
            poll(&mut fds, patience)?;
            socket.send((to, ecn), bytes, segment_size)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
