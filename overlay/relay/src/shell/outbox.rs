//! Sending: whole bursts at once, and a bounded queue for when the kernel's buffer is full.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use overlay_tunnel::Batches;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};

use crate::state::Route;
use crate::stats::IoStats;

/// Bytes that wait at most. Chosen: as much as the kernel's buffer; more would only be delay.
const QUEUE_BYTES: usize = 4 << 20;

/// What one UDP send carries at most (IPv4's limit, the smaller one).
const MAX_BURST: usize = 65_507;

/// Bursts up to so many bytes are copied together with what follows them to the same place, since a send costs
/// more. Chosen: where the copy costs a tenth of a send.
const JOINED: usize = 4096;

/// Packets of equal length (the last may be shorter) for one destination.
#[derive(Clone, Copy)]
pub(super) struct Burst<'a> {
    pub(super) route: Route,
    pub(super) ecn: Option<EcnCodepoint>,
    /// Length of each packet, at least 1.
    pub(super) segment: usize,
    pub(super) bytes: &'a [u8],
}

/// A burst that waits, with its own copy of the bytes.
pub(super) struct Waiting {
    route: Route,
    ecn: Option<EcnCodepoint>,
    segment: usize,
    bytes: Vec<u8>,
}

impl Waiting {
    /// A copy, in a buffer that was used before.
    pub(super) fn copy(burst: Burst<'_>, mut buffer: Vec<u8>) -> Self {
        let Burst { route, ecn, segment, bytes } = burst;
        buffer.clear();
        buffer.extend_from_slice(bytes);
        Self { route, ecn, segment, bytes: buffer }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn burst(&self) -> Burst<'_> {
        let Self { route, ecn, segment, ref bytes } = *self;
        Burst { route, ecn, segment, bytes }
    }

    /// Puts a burst behind this one, where both can leave as one; false where they cannot.
    pub(super) fn join(&mut self, burst: &Burst<'_>) -> bool {
        let is_whole = self.bytes.len().is_multiple_of(self.segment);
        let is_like = burst.segment == self.segment || burst.bytes.len() < self.segment;
        let fits = is_whole && is_like && self.bytes.len() + burst.bytes.len() <= MAX_BURST;
        let joins = fits && self.route == burst.route && self.ecn == burst.ecn;
        if joins {
            self.bytes.extend_from_slice(burst.bytes);
        }
        joins
    }
}

/// The socket, and what could not be sent yet.
pub(super) struct Outbox {
    socket: UdpSocket,
    udp: UdpSocketState,
    is_ipv6: bool,
    batches: Batches,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Small bursts of the present batch, one for each place.
    joined: Vec<Waiting>,
    /// Buffers for more of them.
    spare: Vec<Vec<u8>>,
    stats: IoStats,
}

impl<'a> Burst<'a> {
    pub(super) fn single(route: Route, bytes: &'a [u8]) -> Self {
        Self { route, ecn: None, segment: bytes.len().max(1), bytes }
    }

    pub(super) fn packets(&self) -> u64 {
        self.bytes.len().div_ceil(self.segment) as u64
    }
}

impl Outbox {
    pub(super) fn new(
        socket: UdpSocket,
        udp: UdpSocketState,
        batches: Batches,
        is_ipv6: bool,
    ) -> Self {
        Self {
            socket,
            udp,
            is_ipv6,
            batches,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            joined: Vec::new(),
            spare: Vec::new(),
            stats: IoStats::default(),
        }
    }

    pub(super) fn recv(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.udp.recv((&self.socket).into(), buffers, metas)
    }

    /// A burst was given up for want of room.
    pub(super) fn give_up(&mut self, burst: Burst<'_>) {
        self.stats.overflowed += burst.packets();
    }

    pub(super) fn stats(&self) -> IoStats {
        self.stats
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends a burst of a batch, or keeps it until [`send_joined`](Self::send_joined) if it is small: answers
    /// of a receiver go many at a time. What goes to one place keeps its order.
    pub(super) fn add(&mut self, burst: Burst<'_>) {
        let is_small = burst.bytes.len() <= JOINED;
        let before = self.joined.iter().position(|waiting| waiting.route == burst.route);
        if let Some(before) = before {
            if is_small && self.joined[before].join(&burst) {
                return;
            }
            let before = self.joined.swap_remove(before);
            self.send(before.burst());
            self.spare.push(before.into_buffer());
        }
        if is_small {
            self.joined.push(Waiting::copy(burst, self.spare.pop().unwrap_or_default()));
        } else {
            self.send(burst);
        }
    }

    /// The batch is over: sends what was kept.
    pub(super) fn send_joined(&mut self) {
        while let Some(joined) = self.joined.pop() {
            self.send(joined.burst());
            self.spare.push(joined.into_buffer());
        }
    }

    /// Sends in as few calls as the kernel allows; queues what does not fit its buffer.
    pub(super) fn send(&mut self, burst: Burst<'_>) {
        let segments =
            self.batches.limit(self.udp.max_gso_segments()).min(MAX_BURST / burst.segment).max(1);
        for bytes in burst.bytes.chunks(segments * burst.segment) {
            let piece = Burst { bytes, ..burst };
            // What already waits goes first, or packets would be reordered.
            if !self.waiting.is_empty() || !self.send_now(piece) {
                self.enqueue(piece);
            }
        }
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(super) fn flush(&mut self) {
        while let Some(first) = self.waiting.pop_front() {
            if !self.send_now(first.burst()) {
                self.waiting.push_front(first);
                return;
            }
            self.waiting_bytes -= first.bytes.len();
        }
    }

    /// Whether the burst is dealt with, be it by an error; if not, the kernel's buffer is full.
    fn send_now(&mut self, burst: Burst<'_>) -> bool {
        match self.try_send(burst) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // A device without segmentation offload refuses with EIO, and quinn-udp has by now
            // stopped offering it: these packets still go, one by one.
            Err(_) if burst.packets() > 1 => {
                for bytes in burst.bytes.chunks(burst.segment) {
                    if self.try_send(Burst { bytes, ..burst }).is_err() {
                        self.stats.send_errors += 1;
                    }
                }
                true
            }
            Err(error) => {
                tracing::trace!(%error, "a packet was refused");
                self.stats.send_errors += 1;
                true
            }
        }
    }

    fn try_send(&mut self, burst: Burst<'_>) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.socket_form(burst.route.remote),
            ecn: burst.ecn,
            contents: burst.bytes,
            segment_size: (burst.bytes.len() > burst.segment).then_some(burst.segment),
            src_ip: burst.route.local.map(|ip| self.socket_ip(ip)),
        };
        self.udp.try_send((&self.socket).into(), &transmit)?;
        self.stats.sends += 1;
        Ok(())
    }

    fn enqueue(&mut self, burst: Burst<'_>) {
        self.waiting_bytes += burst.bytes.len();
        self.waiting.push_back(Waiting::copy(burst, Vec::new()));
        while self.waiting_bytes > QUEUE_BYTES
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.waiting_bytes -= oldest.bytes.len();
            self.stats.overflowed += oldest.bytes.len().div_ceil(oldest.segment) as u64;
        }
    }

    /// A dual-stack socket is told IPv4 addresses in their IPv6-mapped form.
    pub(super) fn socket_form(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.is_ipv6 => {
                SocketAddr::new(self.socket_ip((*v4.ip()).into()), v4.port())
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => address,
        }
    }

    fn socket_ip(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.is_ipv6 => v4.to_ipv6_mapped().into(),
            IpAddr::V4(_) | IpAddr::V6(_) => ip,
        }
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bursts_of_a_batch_leave_together_and_in_order() {
        let [socket, one, two] = [0, 1, 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let udp = UdpSocketState::new((&socket).into()).unwrap();
        let singly = udp.max_gso_segments() < 2;
        let mut outbox = Outbox::new(socket, udp, Batches::here(), false);
        let to = |sink: &UdpSocket| Route { remote: sink.local_addr().unwrap(), local: None };
        let long = [7; JOINED + 1];
        let bursts =
            [(&one, &b"aa"[..]), (&two, b"xx"), (&one, b"bb"), (&one, &long), (&one, b"c")];
        for (sink, bytes) in bursts {
            outbox.add(Burst { route: to(sink), ecn: None, segment: bytes.len(), bytes });
        }
        outbox.send_joined();
        let mut buffer = [0; 8192];
        for (sink, bytes) in
            [(&one, &b"aa"[..]), (&one, b"bb"), (&one, &long), (&one, b"c"), (&two, b"xx")]
        {
            let len = sink.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], bytes);
        }
        assert_eq!(outbox.stats().sends, if singly { 5 } else { 4 });
    }

    fn sends(release: &str) -> u64 {
        let [socket, sink] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let udp = UdpSocketState::new((&socket).into()).unwrap();
        let mut outbox = Outbox::new(socket, udp, Batches::of(release), false);
        let route = Route { remote: sink.local_addr().unwrap(), local: None };
        outbox.send(Burst { route, ecn: None, segment: 3, bytes: b"aaabbbcc" });
        for expected in [&b"aaa"[..], b"bbb", b"cc"] {
            let mut buffer = [0; 16];
            let len = sink.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected, "{release}");
        }
        outbox.stats().sends
    }

    #[test]
    fn a_kernel_that_damages_batches_gets_single_datagrams() {
        assert_eq!(sends("7.1.2"), 3);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let is_offered = UdpSocketState::new((&udp).into()).unwrap().max_gso_segments() > 1;
        assert_eq!(sends("6.18.1"), if is_offered { 1 } else { 3 });
    }
}
