//! The thread that moves the frames of all links.
//!
//! One turn: deliver what has arrived, set the alarm for what arrives next, sleep until a frame or
//! the alarm comes, take a batch of frames from each end that has some. Orders to it are closures, which
//! run between two turns.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netsim_sim::LinkProfile;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::forwarder::{Counters, Forwarder, LineId, LineSpec, Side, Ways};
use crate::splice::Spliced;
use crate::tap::Tap;

/// Frames that are taken from one end before the others have their turn. Chosen: at 300 Mbit/s these
/// are 2.5 ms' worth; larger batches make others late.
const BATCH: usize = 64;
/// The largest frame: what a TAP of any MTU gives.
const FRAME: usize = 65_536 + 18;
/// Ends that are looked at in one turn.
const EVENTS: usize = 64;

/// Threads that remove interfaces. Chosen: they wait, and do not work.
const CLOSE_AT_ONCE: usize = 16;

const WAKE: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;

type Order = Box<dyn FnOnce(&mut Engine) + Send>;

/// Links in user space, moved by a thread of their own. All vanish when this is dropped.
#[derive(Debug)]
pub struct Wires {
    orders: Option<Sender<Order>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<Vec<Tap>>>,
}

/// The forwarding thread has ended, which it never should.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the thread that forwards frames has ended: see the log")]
pub struct Ended;

struct Engine {
    forwarder: Forwarder,
    ends: BTreeMap<LineId, [Tap; 2]>,
    epoll: Epoll,
    started: Instant,
}

impl Wires {
    /// Starts the thread. It needs no rights, and holds nothing but memory until there are links.
    pub fn new() -> io::Result<Self> {
        let (orders, taken) = channel();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let alarm = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        epoll.add(&alarm, EpollEvent::new(EpollFlags::EPOLLIN, ALARM))?;
        let started = Instant::now();
        let mut engine =
            Engine { forwarder: Forwarder::default(), ends: BTreeMap::new(), epoll, started };
        let own_wake = Arc::clone(&wake);
        let thread = thread::Builder::new().name("wires".to_owned()).spawn(move || {
            hurry();
            if let Err(error) = engine.run(&taken, &own_wake, &alarm) {
                tracing::error!(%error, "links in user space have ended; start the laboratory again");
            }
            engine.ends.into_values().flatten().collect()
        })?;
        Ok(Self { orders: Some(orders), wake, thread: Some(thread) })
    }

    /// Lets a link take over the two ends of a cable.
    pub fn add(&self, spec: LineSpec, ends: Spliced) -> io::Result<LineId> {
        self.ask(move |engine| engine.add(spec, ends)).map_err(io::Error::other)?
    }

    /// Removes a link and both its interfaces.
    pub fn remove(&self, id: LineId) -> Result<(), Ended> {
        self.ask(move |engine| {
            engine.ends.remove(&id);
            engine.forwarder.remove(id);
        })
    }

    /// Changes what a link does to packets.
    pub fn set_profile(&self, id: LineId, profile: LinkProfile) -> Result<(), Ended> {
        self.ask(move |engine| engine.forwarder.set_profile(id, profile))
    }

    /// Takes a link down, or up again. Its interfaces stay up, as with a broken line behind a modem.
    pub fn set_down(&self, id: LineId, is_down: bool) -> Result<(), Ended> {
        self.ask(move |engine| engine.forwarder.set_down(id, is_down))
    }

    /// A link's NAT starts again.
    pub fn reboot_nat(&self, id: LineId) -> Result<(), Ended> {
        self.ask(move |engine| engine.forwarder.reboot_nat(id))
    }

    /// Lets a link's NAT age at once.
    pub fn age_nat(&self, id: LineId, by: Duration) -> Result<(), Ended> {
        self.ask(move |engine| engine.forwarder.age_nat(id, by))
    }

    /// Changes the ways between regions.
    pub fn set_ways(&self, change: impl FnOnce(&mut Ways) + Send + 'static) -> Result<(), Ended> {
        self.ask(move |engine| change(engine.forwarder.ways()))
    }

    /// What became of a link's packets, those from its near end first.
    pub fn counters(&self, id: LineId) -> Result<Option<[Counters; 2]>, Ended> {
        self.ask(move |engine| engine.forwarder.counters(id))
    }

    /// Has the thread do something, and waits for it.
    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> Result<R, Ended> {
        let (answer, answered) = channel();
        let order: Order = Box::new(move |engine| {
            let _ = answer.send(work(engine));
        });
        let orders = self.orders.as_ref().ok_or(Ended)?;
        orders.send(order).map_err(|_| Ended)?;
        self.wake.write(1).map_err(|_| Ended)?;
        answered.recv().map_err(|_| Ended)
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        // Without anybody to give orders the thread ends.
        self.orders = None;
        let _ = self.wake.write(1);
        let ends = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        close(ends);
    }
}

impl Engine {
    fn add(&mut self, spec: LineSpec, ends: Spliced) -> io::Result<LineId> {
        let id = self.forwarder.add(spec);
        let ends = [ends.near, ends.far];
        for (end, tap) in (0u64..).zip(&ends) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(id.0) * 2 + end);
            self.epoll.add(tap, event)?;
        }
        self.ends.insert(id, ends);
        Ok(id)
    }

    fn run(&mut self, orders: &Receiver<Order>, wake: &EventFd, alarm: &TimerFd) -> io::Result<()> {
        let mut bytes = vec![0; FRAME];
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut set_for = None;
        loop {
            self.deliver();
            let due = self.forwarder.next_due();
            if due != set_for {
                set(alarm, self.started, due)?;
                set_for = due;
            }
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                match event.data() {
                    WAKE => {
                        let _ = wake.read();
                        loop {
                            match orders.try_recv() {
                                Ok(order) => order(self),
                                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                            }
                        }
                    }
                    ALARM => {
                        let _ = alarm.wait();
                        set_for = None;
                    }
                    end => self.take(end, &mut bytes),
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn take(&mut self, end: u64, bytes: &mut [u8]) {
        let Ok(line) = u32::try_from(end / 2) else { return };
        let (id, side) = (LineId(line), if end.is_multiple_of(2) { Side::Near } else { Side::Far });
        let Some(ends) = self.ends.get(&id) else { return };
        let tap = &ends[usize::from(side == Side::Far)];
        for _ in 0..BATCH {
            // An interface that is down has nothing, which is no news.
            let Ok(Some(length)) = tap.receive(bytes) else { return };
            let now = self.started.elapsed();
            self.forwarder.receive(now, id, side, bytes[..length].to_vec());
        }
    }

    fn deliver(&mut self) {
        while let Some(arrival) = self.forwarder.pop(self.now()) {
            let Some(ends) = self.ends.get(&arrival.line) else { continue };
            let tap = &ends[usize::from(arrival.side == Side::Far)];
            // An interface that is down takes nothing: what a cable without a plug does.
            let _ = tap.send(&arrival.frame);
        }
    }
}

/// Removes interfaces, several at a time: for each the kernel waits until nobody looks at it any more.
fn close(ends: Vec<Tap>) {
    let share = ends.len().div_ceil(CLOSE_AT_ONCE).max(1);
    let mut ends = ends.into_iter().peekable();
    thread::scope(|scope| {
        while ends.peek().is_some() {
            let some: Vec<Tap> = ends.by_ref().take(share).collect();
            scope.spawn(move || drop(some));
        }
    });
}

/// Asks to run before ordinary programs: what comes late here is late for everybody. Measured with 16
/// of them on two processors: 99.7 % of packets within a millisecond of 20, and 29 % without.
/// Whoever may not have that gets exact links on an idle machine only.
fn hurry() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread, and the parameter lives through the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const lowest) };
    if result != 0 {
        tracing::debug!("links in user space run with ordinary priority");
    }
}

/// Sets the alarm for a time of the forwarder.
fn set(alarm: &TimerFd, started: Instant, due: Option<Duration>) -> io::Result<()> {
    let Some(due) = due else { return Ok(alarm.unset()?) };
    // Zero would unset it: a nanosecond is as good as now.
    let left = due.saturating_sub(started.elapsed()).max(Duration::from_nanos(1));
    let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
    Ok(alarm.set(expiration, TimerSetTimeFlags::empty())?)
}
