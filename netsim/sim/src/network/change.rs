//! What happens to hosts and routers while the network runs.

use std::time::Duration;

use super::{Entry, HostId, NatId, Network, RealmId};

/// Something that happens to a host or a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A host moves to another realm, where it has new addresses.
    Roam(HostId, RealmId),
    /// A router starts again: its mappings are gone, and ports are given out from elsewhere.
    NatReboot(NatId),
    /// A host's link goes down; what is on its way still arrives.
    LinkDown(HostId),
    /// A host's link comes up again.
    LinkUp(HostId),
    /// A router's uplink goes down.
    UplinkDown(NatId),
    /// A router's uplink comes up again.
    UplinkUp(NatId),
    /// A host stands still: it neither sends nor receives, and hears nothing of it later.
    Suspend(HostId),
    /// A suspended host goes on, where it was.
    Resume(HostId),
    /// A host is gone, with all it knew.
    Kill(HostId),
    /// A host that was killed starts again, knowing nothing.
    Start(HostId),
}

/// What a host is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostState {
    /// It runs.
    #[default]
    Running,
    /// It stands still.
    Suspended,
    /// It is gone.
    Killed,
}

impl<P: Clone> Network<P> {
    /// Lets something happen at that time; at once (with the next event) if that has passed.
    ///
    /// Changes come before packets of the same instant only if they were scheduled before those
    /// were sent.
    pub fn schedule(&mut self, at: Duration, change: Change) {
        self.insert(at.max(self.now), Entry::Change(change));
    }

    /// Lets something happen now. Whether it changed anything: resuming a host that was killed, or
    /// killing it twice, does not.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Roam(host, realm) => {
                self.move_host(host, realm);
                true
            }
            Change::NatReboot(nat) => {
                self.routers[nat.0].reboot(&mut self.rng);
                true
            }
            Change::LinkDown(host) => self.set_link_down(host, true),
            Change::LinkUp(host) => self.set_link_down(host, false),
            Change::UplinkDown(nat) => self.set_uplink_down(nat, true),
            Change::UplinkUp(nat) => self.set_uplink_down(nat, false),
            Change::Suspend(host) => self.shift(host, &[HostState::Running], HostState::Suspended),
            Change::Resume(host) => self.shift(host, &[HostState::Suspended], HostState::Running),
            Change::Kill(host) => {
                let living = [HostState::Running, HostState::Suspended];
                self.shift(host, &living, HostState::Killed)
            }
            Change::Start(host) => self.shift(host, &[HostState::Killed], HostState::Running),
        }
    }

    /// What a host is doing.
    pub fn state(&self, host: HostId) -> HostState {
        self.hosts[host.0].state
    }

    fn shift(&mut self, host: HostId, from: &[HostState], to: HostState) -> bool {
        let state = &mut self.hosts[host.0].state;
        let changes = from.contains(state);
        if changes {
            *state = to;
        }
        changes
    }

    fn set_link_down(&mut self, host: HostId, is_down: bool) -> bool {
        self.hosts[host.0].link.set_down(is_down);
        true
    }

    fn set_uplink_down(&mut self, nat: NatId, is_down: bool) -> bool {
        self.routers[nat.0].uplink.set_down(is_down);
        true
    }
}
