//! Larger batches than QUIC gives.
//!
//! quinn hands its socket ten datagrams at a time, and a call costs the kernel nearly the same for ten as for forty:
//! routes, filters and devices are asked once for each. So full batches wait here for the ones behind them, as long as
//! the connection's task goes on writing. Whatever is shorter says that nothing comes behind it, and goes at once.
//!
//! ```text
//!   quinn ──10 datagrams──▶ waiting ──no room, a shorter one, or nothing more comes──▶ one call, up to 64
//! ```

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, ServerConfig, TokioRuntime, UdpPoller,
};
use tokio::sync::Notify;

use crate::Batches;

/// Datagrams in quinn's batches (`MAX_TRANSMIT_SEGMENTS` of quinn 0.11): fewer are all that there were.
const BATCH: usize = 10;

/// What one call sends at most: IPv4's limit, the smaller one.
const MAX_BURST: usize = 65_507;

/// Kernel buffer wished for, each way. Chosen: 10 ms of 3 Gbit/s; with the kernel's usual 200 kB a millisecond in which
/// the socket's thread does not run costs packets.
const SOCKET_BUFFER: usize = 4 << 20;

/// An endpoint for connections that carry datagrams, with room for bursts on its socket. To be called within a
/// tokio runtime.
///
/// # Errors
///
/// Those of the operating system.
pub fn endpoint(
    config: EndpointConfig,
    server: Option<ServerConfig>,
    socket: UdpSocket,
) -> io::Result<Endpoint> {
    let udp = UdpSocketState::new((&socket).into())?;
    widen(&udp, &socket);
    let runtime = Arc::new(TokioRuntime);
    let socket = Gathering::start(runtime.wrap_udp_socket(socket)?, Batches::here());
    Endpoint::new_with_abstract_socket(config, server, socket, runtime)
}

/// Asks for larger buffers. What the kernel grants is what there is.
pub fn widen(udp: &UdpSocketState, socket: &impl AsFd) {
    let _ = udp.set_recv_buffer_size(socket.into(), SOCKET_BUFFER);
    let _ = udp.set_send_buffer_size(socket.into(), SOCKET_BUFFER);
}

/// See the module.
struct Gathering {
    socket: Arc<dyn AsyncUdpSocket>,
    batches: Batches,
    waiting: Mutex<Waiting>,
    /// Something waits that did not before, or there is nothing to wait for any more.
    news: Arc<Notify>,
}

impl Gathering {
    fn start(socket: Arc<dyn AsyncUdpSocket>, batches: Batches) -> Arc<Self> {
        let news = Arc::new(Notify::new());
        let gathering =
            Arc::new(Self { socket, batches, waiting: Mutex::default(), news: Arc::clone(&news) });
        tokio::spawn(send_what_stays(Arc::downgrade(&gathering), news));
        gathering
    }

    /// Sends what waits, if it is as many bytes as before.
    fn look(&self, before: usize) -> Look {
        let mut waiting = self.waiting();
        match waiting.contents.len() {
            0 => Look::Empty,
            bytes if bytes != before => Look::Grown(bytes),
            _ => match waiting.send(&*self.socket) {
                Ok(()) => Look::Empty,
                Err(_) => Look::NoRoom,
            },
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what has waited while everybody else had a turn.
async fn send_what_stays(gathering: Weak<Gathering>, news: Arc<Notify>) {
    loop {
        news.notified().await;
        let mut seen = 0;
        loop {
            let Some(gathering) = gathering.upgrade() else { return };
            match gathering.look(seen) {
                Look::Empty => break,
                Look::Grown(bytes) => {
                    seen = bytes;
                    drop(gathering);
                    tokio::task::yield_now().await;
                }
                Look::NoRoom => {
                    let mut poller = Arc::clone(&gathering.socket).create_io_poller();
                    // An error comes again when it is sent.
                    let _ = poll_fn(|context| poller.as_mut().poll_writable(context)).await;
                }
            }
        }
    }
}

/// What became of the datagrams that wait.
enum Look {
    /// Nothing waits, any more.
    Empty,
    /// There are that many bytes, more than before.
    Grown(usize),
    /// The socket does not take them.
    NoRoom,
}

/// Datagrams for one call.
#[derive(Debug, Default)]
struct Waiting {
    /// None: nothing waits.
    head: Option<Head>,
    contents: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    segment: usize,
}

impl Head {
    fn of(transmit: &Transmit<'_>) -> Self {
        Self {
            destination: transmit.destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            segment: transmit.segment_size.unwrap_or(transmit.contents.len()),
        }
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// How many bytes may still join.
    fn room(&self, max_segments: usize) -> usize {
        let most = |head: Head| (MAX_BURST / head.segment.max(1)).min(max_segments) * head.segment;
        self.head.map_or(0, |head| most(head).saturating_sub(self.contents.len()))
    }

    /// Whether the kernel could send that behind what waits in the same call: of one size but for the last.
    fn is_followed_by(&self, transmit: &Transmit<'_>, max_segments: usize) -> bool {
        let Some(head) = self.head else { return false };
        let next = Head::of(transmit);
        let is_last = transmit.segment_size.is_none() && next.segment < head.segment;
        let fits = transmit.contents.len() <= self.room(max_segments);
        fits && (next == head || (is_last && Head { segment: head.segment, ..next } == head))
    }

    fn push(&mut self, transmit: &Transmit<'_>) {
        self.head.get_or_insert_with(|| Head::of(transmit));
        self.contents.extend_from_slice(transmit.contents);
    }

    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`]: it waits on.
    fn send(&mut self, socket: &dyn AsyncUdpSocket) -> io::Result<()> {
        let Some(Head { destination, ecn, src_ip, segment }) = self.head else { return Ok(()) };
        let segment_size = (self.contents.len() > segment).then_some(segment);
        let contents = &self.contents[..];
        let sent = socket.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip });
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return sent;
        }
        // Any other error is a loss, which QUIC mends.
        self.head = None;
        self.contents.clear();
        Ok(())
    }
}

/// Whether more is likely to come behind it.
fn is_full(transmit: &Transmit<'_>) -> bool {
    transmit.segment_size.is_some_and(|segment| transmit.contents.len() == BATCH * segment)
}

impl AsyncUdpSocket for Gathering {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut waiting = self.waiting();
        let max_segments = self.max_transmit_segments();
        if !waiting.is_followed_by(transmit, max_segments) {
            waiting.send(&*self.socket)?;
            if !is_full(transmit) {
                return self.socket.try_send(transmit);
            }
        }
        let was_empty = waiting.is_empty();
        waiting.push(transmit);
        let has_room = waiting.room(max_segments) >= transmit.contents.len();
        // Without room in the socket the rest is the task's.
        if (!is_full(transmit) || !has_room) && waiting.send(&*self.socket).is_ok() {
            return Ok(());
        }
        if was_empty {
            self.news.notify_one();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.batches.limit(self.socket.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.news.notify_one();
    }
}

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was sent: datagrams and bytes of each call.
    #[derive(Debug)]
    struct Sink {
        calls: Mutex<Vec<(usize, Vec<u8>)>>,
        is_full: Mutex<bool>,
    }

    #[derive(Debug)]
    struct Poller(Arc<Sink>);

    impl UdpPoller for Poller {
        fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !*self.0.is_full.lock().unwrap() {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    impl AsyncUdpSocket for Sink {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Poller(self))
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            if *self.is_full.lock().unwrap() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
            let datagrams = transmit.contents.len().div_ceil(segment);
            self.calls.lock().unwrap().push((datagrams, transmit.contents.to_vec()));
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn max_transmit_segments(&self) -> usize {
            64
        }
    }

    struct Bench {
        sink: Arc<Sink>,
        gathering: Arc<Gathering>,
        sent: Vec<u8>,
    }

    const SEGMENT: usize = 1000;

    impl Bench {
        fn new(release: &str) -> Self {
            let sink = Arc::new(Sink { calls: Mutex::default(), is_full: Mutex::default() });
            let gathering = Gathering::start(Arc::clone(&sink) as _, Batches::of(release));
            Self { sink, gathering, sent: Vec::new() }
        }

        /// quinn sends so many bytes in datagrams of that length, to that port.
        fn send(&mut self, bytes: usize, segment: usize, port: u16) -> io::Result<()> {
            let contents: Vec<u8> = (0..bytes).map(|at| (self.sent.len() + at) as u8).collect();
            let sent = self.gathering.try_send(&Transmit {
                destination: ([192, 0, 2, 1], port).into(),
                ecn: None,
                contents: &contents,
                segment_size: (bytes > segment).then_some(segment),
                src_ip: None,
            });
            if sent.is_ok() {
                self.sent.extend(contents);
            }
            sent
        }

        /// The datagrams of each call so far, after everybody had a few turns.
        async fn calls(&self) -> Vec<usize> {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let calls = self.sink.calls.lock().unwrap();
            let bytes: Vec<u8> = calls.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(bytes, self.sent, "all, once, in order");
            calls.iter().map(|(datagrams, _)| *datagrams).collect()
        }
    }

    #[tokio::test]
    async fn full_batches_go_together_and_what_is_shorter_ends_them() {
        let mut bench = Bench::new("6.12");
        for bytes in [10_000, 10_000, 10_000, 2_500] {
            bench.send(bytes, SEGMENT, 1).unwrap();
        }
        assert_eq!(*bench.sink.calls.lock().unwrap(), [(33, bench.sent.clone())], "at once");
        bench.send(100, 100, 1).unwrap();
        bench.send(3_000, SEGMENT, 1).unwrap();
        assert_eq!(bench.calls().await, [33, 1, 3]);
    }

    #[tokio::test]
    async fn what_nothing_comes_behind_is_sent_all_the_same() {
        let mut bench = Bench::new("6.12");
        bench.send(10_000, SEGMENT, 1).unwrap();
        assert_eq!(bench.sink.calls.lock().unwrap().len(), 0);
        assert_eq!(bench.calls().await, [10]);
        bench.send(10_000, SEGMENT, 1).unwrap();
        assert_eq!(bench.calls().await, [10, 10], "and the next time, too");
    }

    #[tokio::test]
    async fn other_lengths_and_other_places_are_not_mixed_and_a_call_has_room_for_64k() {
        let mut bench = Bench::new("6.12");
        for _ in 0..7 {
            bench.send(10_000, SEGMENT, 1).unwrap();
        }
        bench.send(10_000, SEGMENT, 2).unwrap();
        bench.send(9_000, 900, 2).unwrap();
        bench.send(901, 901, 2).unwrap();
        assert_eq!(bench.calls().await, [60, 10, 10, 10, 1]);
    }

    #[tokio::test]
    async fn what_the_socket_has_no_room_for_waits_and_is_not_lost() {
        let mut bench = Bench::new("6.12");
        *bench.sink.is_full.lock().unwrap() = true;
        bench.send(10_000, SEGMENT, 1).unwrap();
        bench.send(5_000, SEGMENT, 1).unwrap();
        let refused = bench.send(100, 100, 2).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        *bench.sink.is_full.lock().unwrap() = false;
        assert_eq!(bench.calls().await, [15]);
    }

    #[tokio::test]
    async fn nothing_is_gathered_where_the_kernel_damages_batches() {
        let mut bench = Bench::new("7.0.9");
        assert_eq!(bench.gathering.max_transmit_segments(), 1);
        bench.send(SEGMENT, SEGMENT, 1).unwrap();
        bench.send(SEGMENT, SEGMENT, 1).unwrap();
        assert_eq!(bench.calls().await, [1, 1]);
    }

    #[tokio::test]
    async fn the_task_ends_with_the_endpoint() {
        let bench = Bench::new("6.12");
        tokio::task::yield_now().await;
        let socket = Arc::downgrade(&bench.gathering.socket);
        drop(bench);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(socket.strong_count(), 0);
    }
}
