//! The state of a firewall that translates nothing: who may come in.

use std::net::SocketAddr;
use std::time::Duration;

use super::Refresh;
use super::expiring::Expiring;
use super::table::{Remote, admission};
use crate::firewall::{Protocol, Stateful};
use crate::nat::TCP_LIFETIME;

/// The most flows; beyond, the one that would expire first makes room. Chosen: the default of
/// Linux's connection tracking on a small machine (`nf_conntrack_max`, 65,536).
const MAX_FLOWS: usize = 65_536;

/// The state of a firewall that translates nothing.
#[derive(Debug)]
pub(crate) struct FlowTable {
    profile: Stateful,
    flows: Expiring<(Protocol, SocketAddr, Remote)>,
}

impl FlowTable {
    pub(crate) fn new(profile: Stateful) -> Self {
        Self { profile, flows: Expiring::new() }
    }

    pub(crate) fn flush(&mut self) {
        self.flows.clear();
    }

    /// A packet on its way out: its answers may come in.
    pub(crate) fn outbound(
        &mut self,
        now: Duration,
        protocol: Protocol,
        inner: SocketAddr,
        to: SocketAddr,
    ) {
        self.expire(now);
        let flow = (protocol, inner, admission(self.profile.filtering, to));
        let is_new = !self.flows.contains(&flow);
        if is_new && self.flows.len() >= MAX_FLOWS {
            self.flows.pop_first();
        }
        if is_new || self.profile.refresh.by_outbound() {
            self.flows.keep(flow, now + self.lifetime(protocol));
        }
    }

    /// Whether a packet may come in.
    pub(crate) fn admits(
        &mut self,
        now: Duration,
        protocol: Protocol,
        from: SocketAddr,
        inner: SocketAddr,
    ) -> bool {
        self.expire(now);
        let flow = (protocol, inner, admission(self.profile.filtering, from));
        let admitted = self.flows.contains(&flow);
        if admitted && self.profile.refresh.by_inbound() {
            self.flows.keep(flow, now + self.lifetime(protocol));
        }
        admitted
    }

    fn lifetime(&self, protocol: Protocol) -> Duration {
        match protocol {
            Protocol::Udp => self.profile.lifetime,
            Protocol::Tcp => TCP_LIFETIME,
        }
    }

    fn expire(&mut self, now: Duration) {
        while self.flows.pop_expired(now).is_some() {}
    }
}

impl Default for Stateful {
    fn default() -> Self {
        Self {
            filtering: super::Filtering::AddressAndPortDependent,
            lifetime: super::DEFAULT_LIFETIME,
            refresh: Refresh::Both,
        }
    }
}
