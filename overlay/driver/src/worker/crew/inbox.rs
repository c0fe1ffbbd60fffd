//! What waits for a hand, and what it has to tell: bounded, and nobody waits for anybody.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::reports::Notice;
use super::Order;
use super::parcel::Parcel;
use crate::stats::Stats;

/// While more bytes than this wait for a hand, no device is read: its job's own queue then fills up and slows
/// its sender. Chosen: four superpackets for each of two turns.
const CROWD_BYTES: usize = 512 * 1024;

/// The most bytes that wait; what arrives pushes out the oldest. Chosen: half of the socket's own buffer.
const MOST_BYTES: usize = 4 << 20;

/// Empty parcels that are kept for later.
const MOST_SPARE: usize = 32;

/// Notices that wait for the first worker. Members may send probes as fast as they like.
const MOST_NOTICES: usize = 4096;

/// Between the first worker and one hand.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    told: Mutex<Told>,
    /// The hand is about to sleep, or sleeps.
    sleeps: AtomicBool,
    wake: UnixStream,
    wake_first: Arc<UnixStream>,
}

/// For the hand.
#[derive(Default)]
struct Waiting {
    orders: VecDeque<Order>,
    parcels: VecDeque<Parcel>,
    bytes: usize,
    /// The first worker leaves the devices alone until this hand has taken what waits.
    awaited: bool,
    stops: bool,
    spare: Vec<Parcel>,
    overflowed: u64,
}

/// For the first worker.
#[derive(Default)]
struct Told {
    notices: VecDeque<Notice>,
    stats: Stats,
}

impl Inbox {
    /// `wake_first` wakes the first worker. The stream that is returned becomes readable when the hand must wake.
    pub(super) fn new(wake_first: Arc<UnixStream>) -> io::Result<(Arc<Self>, UnixStream)> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let inbox = Self {
            waiting: Mutex::default(),
            told: Mutex::default(),
            sleeps: AtomicBool::new(false),
            wake,
            wake_first,
        };
        Ok((Arc::new(inbox), woken))
    }

    /// An order never gets lost, and is carried out before any packet that waits.
    pub(super) fn order(&self, order: Order) {
        self.waiting().orders.push_back(order);
        self.wake();
    }

    /// Puts a parcel in, and gives an empty one.
    pub(super) fn put(&self, parcel: Parcel) -> Parcel {
        let mut waiting = self.waiting();
        let state = &mut *waiting;
        state.bytes += parcel.len();
        state.parcels.push_back(parcel);
        while state.bytes > MOST_BYTES
            && let Some(mut oldest) = state.parcels.pop_front()
        {
            state.bytes -= oldest.len();
            state.overflowed += oldest.packets() as u64;
            oldest.clear();
            state.spare.push(oldest);
        }
        let empty = state.spare.pop().unwrap_or_default();
        drop(waiting);
        self.wake();
        empty
    }

    /// Whether so much waits that the devices shall; the first worker is woken once it is taken.
    pub(super) fn is_crowded(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.awaited = waiting.bytes > CROWD_BYTES;
        waiting.awaited
    }

    pub(super) fn stop(&self) {
        self.waiting().stops = true;
        self.wake();
    }

    /// Takes everything that waits, into queues that are empty; true when the hand shall end.
    pub(super) fn take(
        &self,
        orders: &mut VecDeque<Order>,
        parcels: &mut VecDeque<Parcel>,
    ) -> bool {
        self.sleeps.store(false, Ordering::SeqCst);
        let mut waiting = self.waiting();
        std::mem::swap(orders, &mut waiting.orders);
        std::mem::swap(parcels, &mut waiting.parcels);
        waiting.bytes = 0;
        let (was_awaited, stops) = (std::mem::take(&mut waiting.awaited), waiting.stops);
        drop(waiting);
        if was_awaited {
            self.wake_first();
        }
        stops
    }

    /// Takes an empty parcel back.
    pub(super) fn give_back(&self, parcel: Parcel) {
        let mut waiting = self.waiting();
        if waiting.spare.len() < MOST_SPARE {
            waiting.spare.push(parcel);
        }
    }

    /// Whether the hand may sleep: nothing waits, and whoever puts something in from now on wakes it.
    pub(super) fn may_sleep(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        let waiting = self.waiting();
        waiting.orders.is_empty() && waiting.parcels.is_empty() && !waiting.stops
    }

    /// Tells the first worker what the sessions noticed, and the counters.
    pub(super) fn tell(&self, notices: &mut VecDeque<Notice>, stats: Stats) {
        let mut told = self.told();
        told.stats = stats;
        if notices.is_empty() {
            return;
        }
        let room = MOST_NOTICES.saturating_sub(told.notices.len());
        told.notices.extend(notices.drain(..).take(room));
        drop(told);
        self.wake_first();
    }

    /// Takes the notices.
    pub(super) fn hear(&self, notices: &mut VecDeque<Notice>) {
        notices.append(&mut self.told().notices);
    }

    /// The counters, with what was lost on the way to the hand.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.told().stats;
        stats.dropped_packets += self.waiting().overflowed;
        stats
    }

    fn wake(&self) {
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // A full pipe has woken the hand already.
            let _ = (&self.wake).write(&[0]);
        }
    }

    fn wake_first(&self) {
        // As above; a closed one has nobody to wake.
        let _ = (&*self.wake_first).write(&[0]);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
