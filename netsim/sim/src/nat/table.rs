//! The state of one NAT for one protocol: its mappings and who may come in through them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;

use super::expiring::Expiring;
use super::{Filtering, Mapping, NatProfile, PortAllocation, WhenFull};

/// The lowest outer port handed out: those below are not for users (RFC 6335 §6).
const FIRST_PORT: u16 = 1024;

/// The outer ports there are.
const PORTS: usize = (u16::MAX - FIRST_PORT) as usize + 1;

/// The most permissions to come in; beyond, the one that would expire first makes room. Chosen:
/// the default of Linux's connection tracking on a small machine (`nf_conntrack_max`, 65,536).
const MAX_ADMISSIONS: usize = 65_536;

/// The part of a remote endpoint that a behaviour depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remote {
    Any,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

#[derive(Clone, Copy, Debug)]
struct Mapped {
    /// Never used again, so that what is left of a dead mapping cannot speak for a new one.
    id: u64,
    inner: SocketAddr,
    towards: Remote,
}

/// The state of one NAT for one protocol. Times count from wherever the caller likes, and never go back.
#[derive(Debug)]
pub struct NatTable {
    profile: NatProfile,
    by_port: BTreeMap<u16, Mapped>,
    by_inner: BTreeMap<(SocketAddr, Remote), u16>,
    alive: Expiring<u16>,
    admitted: Expiring<(u64, Remote)>,
    /// Where sequential allocation goes on.
    next_port: u16,
    next_id: u64,
}

impl NatTable {
    /// Without mappings.
    pub fn new(profile: NatProfile) -> Self {
        Self {
            profile,
            by_port: BTreeMap::new(),
            by_inner: BTreeMap::new(),
            alive: Expiring::new(),
            admitted: Expiring::new(),
            next_port: FIRST_PORT,
            next_id: 0,
        }
    }

    /// How it behaves.
    pub fn profile(&self) -> &NatProfile {
        &self.profile
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.by_port.clear();
        self.by_inner.clear();
        self.alive.clear();
        self.admitted.clear();
    }

    /// Forgets everything and goes on allocating from another port, as after a reboot.
    pub fn reboot(&mut self, rng: &mut impl Rng) {
        self.flush();
        self.next_port = rng.random_range(FIRST_PORT..=u16::MAX);
    }

    /// The outer port for a packet on its way out; none when the table is full.
    pub fn outbound(
        &mut self,
        now: Duration,
        inner: SocketAddr,
        to: SocketAddr,
        rng: &mut impl Rng,
    ) -> Option<u16> {
        self.expire(now);
        let towards = self.towards(to);
        let until = now + self.profile.lifetime;
        let refreshes = self.profile.refresh.by_outbound();
        let port = match self.by_inner.get(&(inner, towards)) {
            Some(port) => {
                if refreshes {
                    self.alive.keep(*port, until);
                }
                *port
            }
            None => self.map(inner, towards, until, rng)?,
        };
        let permission = (self.by_port.get(&port)?.id, admission(self.profile.filtering, to));
        let is_new = !self.admitted.contains(&permission);
        if is_new && self.admitted.len() >= MAX_ADMISSIONS {
            self.admitted.pop_first();
        }
        if is_new || refreshes {
            self.admitted.keep(permission, until);
        }
        Some(port)
    }

    /// The inner endpoint for a packet that came to an outer port; none when it is filtered.
    pub fn inbound(&mut self, now: Duration, port: u16, from: SocketAddr) -> Option<SocketAddr> {
        self.expire(now);
        let Mapped { id, inner, .. } = *self.by_port.get(&port)?;
        let permission = (id, admission(self.profile.filtering, from));
        if !self.admitted.contains(&permission) {
            return None;
        }
        if self.profile.refresh.by_inbound() {
            let until = now + self.profile.lifetime;
            self.alive.keep(port, until);
            self.admitted.keep(permission, until);
        }
        Some(inner)
    }

    /// The outer port that packets have on their way out, if there is one already. Keeps nothing
    /// alive.
    pub fn mapped(&self, inner: SocketAddr, to: SocketAddr) -> Option<u16> {
        self.by_inner.get(&(inner, self.towards(to))).copied()
    }

    /// The inner endpoint that an outer port belongs to, whoever asks. Keeps nothing alive.
    pub fn owner(&self, port: u16) -> Option<SocketAddr> {
        self.by_port.get(&port).map(|mapped| mapped.inner)
    }

    fn towards(&self, to: SocketAddr) -> Remote {
        match self.profile.mapping {
            Mapping::EndpointIndependent => Remote::Any,
            Mapping::AddressDependent => Remote::Address(to.ip()),
            Mapping::AddressAndPortDependent => Remote::Endpoint(to),
        }
    }

    fn map(
        &mut self,
        inner: SocketAddr,
        towards: Remote,
        until: Duration,
        rng: &mut impl Rng,
    ) -> Option<u16> {
        let most = PORTS.min(usize::try_from(self.profile.table_size).unwrap_or(PORTS));
        if self.by_port.len() >= most {
            match self.profile.when_full {
                WhenFull::Refuse => return None,
                WhenFull::EvictOldest => {
                    let oldest = self.alive.pop_first()?;
                    self.unmap(oldest);
                }
            }
        }
        let port = self.free_port(inner.port(), rng);
        self.next_id += 1;
        self.by_port.insert(port, Mapped { id: self.next_id, inner, towards });
        self.by_inner.insert((inner, towards), port);
        self.alive.keep(port, until);
        Some(port)
    }

    fn unmap(&mut self, port: u16) {
        if let Some(Mapped { inner, towards, .. }) = self.by_port.remove(&port) {
            self.by_inner.remove(&(inner, towards));
        }
    }

    fn expire(&mut self, now: Duration) {
        while let Some(port) = self.alive.pop_expired(now) {
            self.unmap(port);
        }
        while self.admitted.pop_expired(now).is_some() {}
    }

    /// A port that is free; there is one, since the table is never larger than the ports.
    fn free_port(&mut self, inner: u16, rng: &mut impl Rng) -> u16 {
        let mut any = || rng.random_range(FIRST_PORT..=u16::MAX);
        let preserved = inner.max(FIRST_PORT);
        let mut port = match self.profile.port {
            PortAllocation::Preserving => preserved,
            PortAllocation::PreservingOrRandom if self.by_port.contains_key(&preserved) => any(),
            PortAllocation::PreservingOrRandom => preserved,
            PortAllocation::Sequential => self.next_port,
            PortAllocation::Random => any(),
        };
        while self.by_port.contains_key(&port) {
            port = after(port);
        }
        self.next_port = after(port);
        port
    }
}

fn after(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(FIRST_PORT)
}

pub(super) fn admission(filtering: Filtering, remote: SocketAddr) -> Remote {
    match filtering {
        Filtering::EndpointIndependent => Remote::Any,
        Filtering::AddressDependent => Remote::Address(remote.ip()),
        Filtering::AddressAndPortDependent => Remote::Endpoint(remote),
    }
}

#[cfg(test)]
mod tests;
