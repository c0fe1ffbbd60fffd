//! A further worker: a thread that seals and opens what the first one hands over, for the peers that it owns.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

use super::super::LONGEST_SLEEP;
use super::super::effects::carry_out;
use super::super::plane::Plane;
use super::super::poll_set::PollSet;
use super::Order;
use super::inbox::Inbox;
use super::parcel::{Item, Parcel};

pub(super) struct Hand {
    inbox: Arc<Inbox>,
    woken: UnixStream,
    plane: Plane,
    orders: VecDeque<Order>,
    parcels: VecDeque<Parcel>,
    polled: PollSet,
}

impl Hand {
    pub(super) fn new(inbox: Arc<Inbox>, woken: UnixStream, plane: Plane) -> Self {
        Self {
            inbox,
            woken,
            plane,
            orders: VecDeque::new(),
            parcels: VecDeque::new(),
            polled: PollSet::default(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    tracing::error!(%error, "polling failed, a part of the data plane ends");
                    return;
                }
            }
        }
    }

    fn turn(&mut self) -> io::Result<ControlFlow<()>> {
        let has_sides = self.wait()?;
        let stops = self.inbox.take(&mut self.orders, &mut self.parcels);
        let now = Instant::now();
        while let Some(order) = self.orders.pop_front() {
            self.obey(now, order);
        }
        if stops {
            self.plane.net.flush();
            return Ok(ControlFlow::Break(()));
        }
        while let Some(parcel) = self.parcels.pop_front() {
            self.unpack(parcel);
        }
        if has_sides {
            self.plane.take_side_datagrams();
        }
        self.plane.shake_hands();
        let now = Instant::now();
        if self.plane.next_tick().is_some_and(|due| due <= now) {
            self.plane.tick(now);
        }
        self.plane.flush_devices();
        self.plane.net.flush();
        self.inbox.tell(&mut self.plane.notices, self.plane.net.stats);
        Ok(ControlFlow::Continue(()))
    }

    /// Sleeps until something waits or a timer is due; whether a port beside the socket has something.
    fn wait(&mut self) -> io::Result<bool> {
        let due = self.plane.next_tick();
        let patience =
            due.map_or(LONGEST_SLEEP, |due| due.saturating_duration_since(Instant::now()));
        let timeout = if !self.plane.has_handshakes() && self.inbox.may_sleep() {
            PollTimeout::try_from(patience + Duration::from_micros(999))
        } else {
            Ok(PollTimeout::ZERO)
        };
        self.polled.clear();
        self.polled.add(self.woken.as_fd());
        self.plane.net.sides.descriptors().for_each(|side| self.polled.add(side));
        match self.polled.wait(timeout.unwrap_or(PollTimeout::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        if self.polled.is_ready(0) {
            let mut bytes = [0u8; 64];
            while matches!((&self.woken).read(&mut bytes), Ok(len) if len == bytes.len()) {}
        }
        Ok((1..=self.plane.net.sides.descriptors().count()).any(|side| self.polled.is_ready(side)))
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::Join(mesh) => self.plane.add_mesh(*mesh),
            Order::OwnIndex(mesh, index) => {
                if let Some(mesh) = self.plane.mesh(mesh) {
                    mesh.set_own_index(index);
                }
            }
            Order::Leave(mesh) => self.plane.remove_mesh(mesh, Vec::new()),
            Order::Channel(peer, channel) => self.plane.add_channel(peer, channel),
            Order::AddSession(names, counts) => self.plane.add_session(now, names, counts),
            Order::Core(output) => carry_out(now, &mut self.plane, output),
        }
        self.plane.net.flush();
    }

    fn unpack(&mut self, mut parcel: Parcel) {
        let (plane, now) = (&mut self.plane, Instant::now());
        parcel.unpack(|item, packet| match item {
            Item::Datagram(via, ecn) => plane.on_wireguard(now, via, ecn, packet),
            Item::Initiation(via, mesh, key) => plane.on_initiation(via, (mesh, key), packet),
            Item::Frame(mesh) => plane.on_handed_frame(now, mesh, packet),
        });
        plane.flush_devices();
        plane.net.flush();
        self.inbox.give_back(parcel);
    }
}
