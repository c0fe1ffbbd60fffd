//! Numbered datagrams between the nodes of a job, from inside its network.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::heard::Heard;
use crate::world::JobNetwork;

/// Between two datagrams of a pair.
const BEAT: Duration = Duration::from_millis(20);

/// Where they are taken.
const PORT: u16 = 7702;

/// An ordered pair of nodes, by their places in the list that [`Talk::start`] was given.
pub(super) type Ordered = (usize, usize);

/// Datagrams under way. Dropping it ends it.
pub(super) struct Talk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    addresses: Vec<SocketAddr>,
    is_over: AtomicBool,
    talking: Mutex<Talking>,
}

#[derive(Default)]
struct Talking {
    /// Who says something at the next beat, and whether at all that follow too.
    goes_on: BTreeMap<Ordered, bool>,
    heard: BTreeMap<Ordered, Heard>,
}

impl Talk {
    /// Everybody listens, nobody says anything yet.
    ///
    /// # Errors
    /// When a node's network cannot be entered.
    pub(super) fn start(nodes: &[JobNetwork]) -> anyhow::Result<Self> {
        let address = |node: &JobNetwork| {
            let address = node.ipv4.with_context(|| format!("no address on {}", node.host))?;
            anyhow::Ok(SocketAddr::from((address, PORT)))
        };
        let shared = Arc::new(Shared {
            addresses: nodes.iter().map(address).collect::<anyhow::Result<_>>()?,
            is_over: AtomicBool::new(false),
            talking: Mutex::default(),
        });
        let mut talk = Self { shared, threads: Vec::new() };
        for (own, node) in nodes.iter().enumerate() {
            let socket = node.netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
            let socket = socket.with_context(|| format!("cannot listen on {}", node.host))?;
            let shared = Arc::clone(&talk.shared);
            let thread = std::thread::Builder::new().name(format!("talk-{own}"));
            talk.threads.push(thread.spawn(move || shared.take_part(own, &socket))?);
        }
        Ok(talk)
    }

    /// From now on these say something at every beat, and nobody else does. What was heard is forgotten.
    pub(super) fn only(&self, pairs: impl IntoIterator<Item = Ordered>) {
        let goes_on = pairs.into_iter().map(|pair| (pair, true)).collect();
        *self.shared.talking() = Talking { goes_on, heard: BTreeMap::new() };
    }

    /// A pair says one thing, now.
    pub(super) fn once(&self, pair: Ordered) {
        self.shared.talking().goes_on.insert(pair, false);
    }

    /// What the pairs have heard since [`Self::only`].
    pub(super) fn heard(&self) -> BTreeMap<Ordered, Heard> {
        self.shared.talking().heard.clone()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn talking(&self) -> MutexGuard<'_, Talking> {
        self.talking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what node `own` has to say, and takes what is said to it, until all is over.
    fn take_part(&self, own: usize, socket: &UdpSocket) {
        let mut next = Instant::now();
        let mut bytes = [0; 64];
        while !self.is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next {
                self.speak(own, socket);
                // A machine that stood still says less: what it could not send is not lost.
                next = (next + BEAT).max(now);
            }
            let rest = next.saturating_duration_since(Instant::now());
            if socket.set_read_timeout(Some(rest.max(Duration::from_millis(1)))).is_err() {
                return;
            }
            match socket.recv_from(&mut bytes) {
                Ok((length, from)) => self.listen(own, &bytes[..length], from),
                Err(error) if is_passing(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn speak(&self, own: usize, socket: &UdpSocket) {
        let mut talking = self.talking();
        let Talking { goes_on, heard } = &mut *talking;
        goes_on.retain(|pair, goes_on| {
            if pair.0 == own {
                let number = heard.entry(*pair).or_default().sent(Instant::now());
                // One that the device does not take is lost like any other.
                let _ = socket.send_to(&number.to_be_bytes(), self.addresses[pair.1]);
            }
            *goes_on || pair.0 != own
        });
    }

    fn listen(&self, own: usize, bytes: &[u8], from: SocketAddr) {
        let now = Instant::now();
        let sender = self.addresses.iter().position(|address| *address == from);
        let (Some(sender), Ok(number)) = (sender, bytes.try_into()) else { return };
        if let Some(heard) = self.talking().heard.get_mut(&(sender, own)) {
            heard.arrived(u32::from_be_bytes(number), now);
        }
    }
}

/// Whether the socket goes on: nothing has come, or somebody was not there.
fn is_passing(error: &io::Error) -> bool {
    [
        ErrorKind::WouldBlock,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
        ErrorKind::ConnectionRefused,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
    ]
    .contains(&error.kind())
}
