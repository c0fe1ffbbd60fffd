//! The data plane: one thread that owns the socket's receiving side, the TUN devices and the core, and
//! others for shares of the peers, if asked for (see [`crew`]).
//!
//! It runs each packet to completion: measured on two cores, one thread beats any split of the work,
//! since it wakes least and keeps the order. A turn polls, then takes a bounded share of commands,
//! datagrams, device frames and timers, then sends what has gathered.

pub mod bench;
mod command;
mod crew;
mod effects;
mod mesh;
mod net;
mod pace;
mod pings;
mod plane;
mod poll_set;
mod receive;
mod receivers;
mod reports;
mod session;
mod share;
mod sides;
mod slab;
mod sleep;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::poll::PollTimeout;
use overlay_core::wire::{Class, Demux, relay};
use overlay_core::{Input, Node, NodeConfig, NodeId, Path};
use quinn_udp::RecvMeta;
use tokio::sync::mpsc;

pub(crate) use command::{Command, WorkerHandle};
use crew::Crew;
use effects::Brain;
use net::Net;
use plane::Plane;
use poll_set::PollSet;
use receive::{Receiver, datagrams};
use share::Share;
use sleep::SleepWatch;

use crate::control::Board;
use crate::limit::RateLimit;
use crate::observe::Observer;
use crate::quic::QuicQueue;
use crate::socket::{Socket, plain};

/// Commands that may wait; more hold their senders up.
const COMMAND_LIMIT: usize = 256;

/// The longest sleep, so that a missed wake-up costs little.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// The longest sleep while the owner's limit keeps the devices closed: then it is looked at again.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a receive error, lest the thread spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Batches of datagrams per turn (measured: four keep both directions flowing).
const BATCHES_PER_TURN: usize = 4;

struct Worker {
    socket: Arc<Socket>,
    quic: Arc<QuicQueue>,
    commands: mpsc::Receiver<Command>,
    wake: UnixStream,
    brain: Brain,
    receiver: Receiver,
    /// The meshes whose devices can be read in this turn.
    readable: Vec<usize>,
    polled: PollSet,
    sleeps: SleepWatch,
}

/// What the poll found.
struct Ready {
    socket: bool,
    woken: bool,
    sides: bool,
}

/// Starts the threads, `workers` in number. They end with [`Command::Stop`] or when every handle is gone.
pub(crate) fn spawn(
    id: NodeId,
    socket: Arc<Socket>,
    quic: Arc<QuicQueue>,
    board: Arc<Board>,
    observer: Option<Observer>,
    workers: NonZeroU16,
    limit: Arc<RateLimit>,
) -> io::Result<(WorkerHandle, thread::JoinHandle<()>)> {
    let (sender, commands) = mpsc::channel(COMMAND_LIMIT);
    let (wake_sender, wake) = UnixStream::pair()?;
    wake_sender.set_nonblocking(true)?;
    wake.set_nonblocking(true)?;
    let now = Instant::now();
    let node = Node::new(NodeConfig { id, seed: rand::random() }, now);
    let wake_sender = Arc::new(wake_sender);
    let workers = u32::from(workers.get());
    let crew = Crew::start(workers, (&socket, &limit), &wake_sender, now)?;
    let share = Share::new(0, workers);
    let net = Net::new(Arc::clone(&socket), limit);
    let mut plane = Plane::new(net, board, now, share, crew);
    plane.observer = observer;
    let worker = Worker {
        socket,
        quic,
        commands,
        wake,
        brain: Brain::new(id, node, plane),
        receiver: Receiver::new(),
        readable: Vec::new(),
        polled: PollSet::default(),
        sleeps: SleepWatch::new(),
    };
    let thread = thread::Builder::new().name("overlay".into()).spawn(move || worker.run())?;
    Ok((WorkerHandle { commands: sender, wake: wake_sender }, thread))
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.turn() {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    tracing::error!(%error, "polling failed, the data plane ends");
                    return;
                }
            }
        }
    }

    fn turn(&mut self) -> io::Result<ControlFlow<()>> {
        let ready = self.wait()?;
        let now = Instant::now();
        if ready.woken {
            if self.take_commands(now).is_break() {
                self.brain.plane.net.flush();
                return Ok(ControlFlow::Break(()));
            }
            self.brain.plane.hear_crew();
            self.brain.take_notices(Instant::now());
        }
        if ready.socket {
            self.take_datagrams();
        }
        if ready.sides {
            self.brain.plane.take_side_datagrams();
            self.brain.take_notices(Instant::now());
            self.brain.plane.flush_devices();
            self.brain.plane.net.flush();
        }
        for index in 0..self.readable.len() {
            self.brain.plane.on_device_readable(now, self.readable[index]);
            self.brain.take_notices(now);
            self.brain.plane.net.flush();
        }
        if self.brain.plane.has_handshakes() {
            self.brain.plane.shake_hands();
            self.brain.take_notices(Instant::now());
            self.brain.plane.flush_devices();
        }
        // What a timer sends now may be answered and measured: the turn's own time is too old for that.
        let now = Instant::now();
        self.take_timers(now);
        self.brain.plane.net.flush();
        self.brain.plane.publish(now);
        Ok(ControlFlow::Continue(()))
    }

    /// Sleeps until something can be done.
    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        let plane = &self.brain.plane;
        let mut until = now + LONGEST_SLEEP;
        for due in [plane.next_tick(), self.brain.node.next_wakeup()].into_iter().flatten() {
            until = until.min(due);
        }
        let pause = plane.net.limit.wait();
        let reads = pause.is_zero() && !plane.crew.is_crowded();
        if !pause.is_zero() {
            // The owner may grant more meanwhile.
            until = until.min(now + pause.min(LONGEST_PAUSE));
        }
        // Whole milliseconds, rounded up: a sleep that ends early would only be repeated.
        let until = if plane.has_handshakes() { now } else { until };
        let sleep = until.saturating_duration_since(now) + Duration::from_micros(999);
        let timeout = PollTimeout::try_from(sleep).unwrap_or(PollTimeout::ZERO);
        let open = || plane.meshes().filter(|(_, mesh)| reads && mesh.is_readable());
        self.polled.clear();
        self.polled.add(self.socket.as_fd());
        self.polled.add(self.wake.as_fd());
        open().for_each(|(_, mesh)| self.polled.add(mesh.tun.as_fd()));
        let sides_from = 2 + open().count();
        plane.net.sides.descriptors().for_each(|side| self.polled.add(side));
        self.readable.clear();
        match self.polled.wait(timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(Ready { socket: false, woken: false, sides: false });
            }
            Err(error) => return Err(error),
        }
        let ready = open().enumerate().filter(|(index, _)| self.polled.is_ready(2 + index));
        self.readable.extend(ready.map(|(_, (slot, _))| slot));
        let count = plane.net.sides.descriptors().count();
        let sides = (sides_from..sides_from + count).any(|index| self.polled.is_ready(index));
        Ok(Ready { socket: self.polled.is_ready(0), woken: self.polled.is_ready(1), sides })
    }

    fn take_commands(&mut self, now: Instant) -> ControlFlow<()> {
        let mut bytes = [0u8; 512];
        while matches!((&self.wake).read(&mut bytes), Ok(len) if len == bytes.len()) {}
        for _ in 0..COMMAND_LIMIT {
            match self.commands.try_recv() {
                Ok(Command::Tunnelled(datagrams)) => self.take_tunnelled(now, datagrams),
                Ok(command) => self.brain.obey(now, command)?,
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
            self.brain.take_notices(now);
        }
        ControlFlow::Continue(())
    }

    fn take_datagrams(&mut self) {
        let Self { socket, quic, brain, receiver, .. } = self;
        for _ in 0..BATCHES_PER_TURN {
            let mut arrived = None;
            let more = receiver.receive(socket, |meta, message| {
                // The batch's own time: a pong may answer a ping that was sent in this turn.
                let now = *arrived.get_or_insert_with(Instant::now);
                let datagrams = datagrams(meta, message);
                if datagrams.clone().all(|datagram| Demux::classify(datagram) == Class::Quic) {
                    hand_to_quic(brain, quic, meta, message);
                    return;
                }
                for datagram in datagrams {
                    dispatch(brain, quic, now, meta, datagram);
                }
            });
            let more = more.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot receive datagrams");
                thread::sleep(ERROR_PAUSE);
                false
            });
            brain.plane.flush_devices();
            brain.plane.net.flush();
            if !more {
                break;
            }
        }
    }

    /// What came through the tunnel, as if the socket had received it.
    fn take_tunnelled(&mut self, now: Instant, datagrams: Vec<(SocketAddr, Bytes)>) {
        for (from, datagram) in datagrams {
            let meta = RecvMeta {
                addr: self.socket.to_wire(from),
                len: datagram.len(),
                stride: datagram.len(),
                ..RecvMeta::default()
            };
            dispatch(&mut self.brain, &self.quic, now, &meta, &datagram);
        }
        self.brain.plane.flush_devices();
        self.brain.plane.net.flush();
    }

    fn take_timers(&mut self, now: Instant) {
        if self.sleeps.has_slept() {
            tracing::info!("the machine was suspended and goes on");
            self.socket.detour().note_change();
            self.brain.feed(now, Input::Resumed);
        }
        if self.brain.plane.next_tick().is_some_and(|due| due <= now) {
            self.brain.plane.tick(now);
            self.brain.take_notices(now);
        }
        if self.brain.node.next_wakeup().is_some_and(|wakeup| wakeup <= now) {
            self.brain.feed(now, Input::Wakeup);
        }
    }
}

/// Puts the halves of a packet together that did not fit the way to the relay.
fn take_part(brain: &mut Brain, now: Instant, from: SocketAddr, datagram: &[u8]) {
    let Some(part) = relay::parse_part(datagram) else {
        brain.plane.net.stats.unknown_datagrams += 1;
        return;
    };
    let Some(packet) = brain.joiner.take(now, from, &part) else { return };
    if Demux::classify(&packet) == Class::WireGuard {
        let via = Path::Relayed { relay: from, channel: part.channel };
        brain.plane.on_wireguard(now, via, None, &packet);
    } else {
        brain.plane.net.stats.unknown_datagrams += 1;
    }
}

/// Gives datagrams that came together and are all QUIC's to it, in one piece.
fn hand_to_quic(brain: &mut Brain, quic: &QuicQueue, meta: &RecvMeta, message: &[u8]) {
    let stats = &mut brain.plane.net.stats;
    stats.udp_received_datagrams += message.len().div_ceil(meta.stride.max(1)) as u64;
    stats.udp_received_bytes += message.len() as u64;
    stats.quic_overflows += quic.push(meta, message);
}

/// Gives one datagram to the protocol that it belongs to.
fn dispatch(brain: &mut Brain, quic: &QuicQueue, now: Instant, meta: &RecvMeta, datagram: &[u8]) {
    let stats = &mut brain.plane.net.stats;
    stats.udp_received_datagrams += 1;
    stats.udp_received_bytes += datagram.len() as u64;
    let from = plain(meta.addr);
    match Demux::classify(datagram) {
        Class::WireGuard => {
            brain.plane.on_wireguard(now, Path::Direct(from), meta.ecn, datagram);
        }
        Class::Relay => match relay::parse(datagram) {
            Some((channel, packet)) if Demux::classify(packet) == Class::WireGuard => {
                let via = Path::Relayed { relay: from, channel };
                brain.plane.on_wireguard(now, via, meta.ecn, packet);
            }
            Some(_) => stats.unknown_datagrams += 1,
            None => take_part(brain, now, from, datagram),
        },
        Class::Control if brain.plane.net.socket.detour().on_control(now, datagram) => {}
        Class::Control => brain.feed(now, Input::Control { from, bytes: datagram }),
        Class::Quic => {
            let meta = RecvMeta { stride: datagram.len(), ..*meta };
            stats.quic_overflows += quic.push(&meta, datagram);
        }
        Class::Unknown => stats.unknown_datagrams += 1,
    }
    brain.take_notices(now);
}
