//! Further workers, each the owner of a share of the peers (see [`Share`]).
//!
//! ```text
//!   socket, devices ──▶ first worker ── parcels, orders ──▶ hand 1, 2 … ──▶ socket, devices
//!                        core, share 0 ◀── notices, counters ──┘
//! ```
//!
//! The first worker alone reads the socket and the devices. What belongs to another's peer it hands over
//! in the order in which it came: received packets by their receiver index, whatever path they came on,
//! a job's packets by their destination. The owner seals or opens, and sends or writes by itself. So a peer's
//! packets go through one queue to one thread each way, and neither paths nor relays nor roaming
//! can part them. A hand never waits for the first worker, nor the other way round; the queues are bounded.

mod hand;
mod inbox;
mod parcel;

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use overlay_core::{MeshId, NodeId, Output, Path};

use super::mesh::MeshPort;
use super::net::Net;
use super::plane::{Plane, SessionNames};
use super::reports::Notice;
use super::session::Counts;
use super::share::Share;
use crate::limit::RateLimit;
use crate::socket::Socket;
use crate::stats::Stats;
use hand::Hand;
use inbox::Inbox;
pub(super) use parcel::Item;
use parcel::Parcel;

/// What a hand is told besides packets.
pub(super) enum Order {
    /// Take part in a mesh.
    Join(Box<MeshPort>),
    /// The node's own index in it.
    OwnIndex(MeshId, u16),
    /// Leave it.
    Leave(MeshId),
    /// The coordinator gave a relay channel to a peer.
    Channel(NodeId, Path),
    /// As the core's output of that name, counting there.
    AddSession(SessionNames, Arc<Counts>),
    /// What the core wants done.
    Core(Output),
}

/// The further workers; none, as a rule.
#[derive(Default)]
pub(super) struct Crew {
    members: Vec<Member>,
}

struct Member {
    inbox: Arc<Inbox>,
    /// What is gathered until the turn's end, or until it is full.
    open: Parcel,
    thread: Option<thread::JoinHandle<()>>,
}

impl Crew {
    /// Starts the workers 1 to `workers - 1`. `wake_first` wakes the first one.
    pub(super) fn start(
        workers: u32,
        (socket, limit): (&Arc<Socket>, &Arc<RateLimit>),
        wake_first: &Arc<UnixStream>,
        now: Instant,
    ) -> io::Result<Self> {
        let mut crew = Self::default();
        for number in 1..workers {
            let (inbox, woken) = Inbox::new(Arc::clone(wake_first))?;
            let net = Net::new(Arc::clone(socket), Arc::clone(limit));
            let share = Share::new(number, workers);
            let plane = Plane::new(net, Arc::default(), now, share, Self::default());
            let hand = Hand::new(Arc::clone(&inbox), woken, plane);
            let name = format!("overlay-{number}");
            let thread = thread::Builder::new().name(name).spawn(move || hand.run())?;
            crew.members.push(Member { inbox, open: Parcel::default(), thread: Some(thread) });
        }
        Ok(crew)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Hands a packet over to worker `number`, after those before it.
    pub(super) fn hand_over(&mut self, number: u32, item: Item, packet: &[u8]) {
        let Some(member) = self.member(number) else { return };
        if !member.open.fits(packet.len()) {
            member.flush();
        }
        member.open.push(item, packet);
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self) {
        self.members.iter_mut().for_each(Member::flush);
    }

    pub(super) fn order(&mut self, number: u32, order: Order) {
        if let Some(member) = self.member(number) {
            member.inbox.order(order);
        }
    }

    /// The same order for all.
    pub(super) fn order_all(&mut self, order: impl Fn() -> Order) {
        self.members.iter().for_each(|member| member.inbox.order(order()));
    }

    /// An order for each, where it can be made.
    pub(super) fn try_order_all(
        &mut self,
        order: impl Fn() -> io::Result<Order>,
    ) -> io::Result<()> {
        let orders: Vec<Order> =
            self.members.iter().map(|_| order()).collect::<Result<_, io::Error>>()?;
        self.members.iter().zip(orders).for_each(|(member, order)| member.inbox.order(order));
        Ok(())
    }

    /// Whether so much waits for one of them that the devices shall not be read.
    pub(super) fn is_crowded(&self) -> bool {
        // All are asked: each one has to wake the first worker.
        self.members.iter().filter(|member| member.inbox.is_crowded()).count() > 0
    }

    /// Takes what their sessions noticed.
    pub(super) fn hear(&self, notices: &mut VecDeque<Notice>) {
        self.members.iter().for_each(|member| member.inbox.hear(notices));
    }

    /// The sum of their counters.
    pub(super) fn stats(&self) -> Stats {
        self.members.iter().fold(Stats::default(), |sum, member| sum.plus(&member.inbox.stats()))
    }

    fn member(&mut self, number: u32) -> Option<&mut Member> {
        self.members.get_mut((number as usize).checked_sub(1)?)
    }
}

impl Member {
    fn flush(&mut self) {
        if !self.open.is_empty() {
            self.open = self.inbox.put(std::mem::take(&mut self.open));
        }
    }
}

impl Drop for Crew {
    /// Ends the threads. They wait for nobody.
    fn drop(&mut self) {
        self.members.iter().for_each(|member| member.inbox.stop());
        for member in &mut self.members {
            if member.thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a worker of the data plane has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
