//! Puts a link of a [`Forwarder`](crate::forwarder::Forwarder) in the place of a cable.
//!
//! ```text
//!   before   near namespace: eth0 ═══════ veth ═══════ v1 :far namespace, a port of its bridge
//!   after    near namespace: eth0 (TAP) ─ forwarder ─ v1 (TAP) :far namespace, the same port
//! ```
//! Names, hardware addresses, addresses and routes stay as they were, so that nobody notices but by
//! what happens to packets. To be done before programs run there: an interface is gone for a moment.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use crate::netlink::Netlink;
use crate::tap::{self, Tap};
use crate::within::within;

/// The two ends of what was a cable.
#[derive(Debug)]
pub struct Spliced {
    /// The end whose name was given.
    pub near: Tap,
    /// The other end.
    pub far: Tap,
    /// The hardware address of the near end.
    pub hardware: [u8; 6],
}

/// A cable: the namespace and name of an end, and the namespace of the other one.
#[derive(Clone, Copy, Debug)]
pub struct Cable<'a> {
    /// Where the near end is.
    pub near: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a str,
    /// Where the other end is.
    pub far: BorrowedFd<'a>,
}

impl Cable<'_> {
    /// Replaces the cable. `disowned` is an address of the near end that its kernel shall not take for
    /// its own any more: a NAT in user space has it.
    pub fn splice(self, disowned: Option<Ipv4Addr>) -> io::Result<Spliced> {
        let Self { near, name, far } = self;
        let (old, settings) = within(near, || {
            let netlink = Netlink::new()?;
            let old = netlink.interface(name)?;
            let settings = netlink.settings(old.index)?;
            Ok((old, settings))
        })?;
        let peer = old.peer.ok_or_else(|| io::Error::other(format!("{name} is no cable")))?;
        let (port, far_settings) = within(far, || {
            let netlink = Netlink::new()?;
            let port = netlink.numbered(peer)?;
            // Most are ports of a bridge, which have none.
            let settings = netlink.settings(port.index)?;
            Ok((port, settings))
        })?;
        within(near, || Netlink::new()?.remove(old.index))?;

        let far = within(far, || {
            let tap = Tap::new(&port.name, port.hardware)?;
            let netlink = Netlink::new()?;
            let index = netlink.interface(&port.name)?.index;
            netlink.set_queue(index, tap::QUEUE)?;
            if let Some(bridge) = port.bridge {
                netlink.plug(index, bridge)?;
            }
            tap::set_up(&port.name, true)?;
            netlink.settle(index, far_settings)?;
            Ok(tap)
        })?;
        let near = within(near, || {
            let tap = Tap::new(name, old.hardware)?;
            let netlink = Netlink::new()?;
            let index = netlink.interface(name)?.index;
            netlink.set_queue(index, tap::QUEUE)?;
            tap::set_up(name, true)?;
            netlink.settle(index, settings)?;
            if let Some(address) = disowned {
                netlink.disown(address)?;
                // What comes back through a hairpin has that address for its source.
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/accept_local"), "1")?;
            }
            Ok(tap)
        })?;
        Ok(Spliced { near, far, hardware: old.hardware })
    }

    /// The name of the far end.
    pub fn other_end(self) -> io::Result<String> {
        let Self { near, name, far } = self;
        let peer = within(near, || Netlink::new()?.interface(name))?.peer;
        let peer = peer.ok_or_else(|| io::Error::other(format!("{name} is no cable")))?;
        within(far, || Ok(Netlink::new()?.numbered(peer)?.name))
    }

    /// Pulls the cable's plug out of the far end, or puts it back: the near end sees its carrier go,
    /// and keeps addresses and routes.
    pub fn set_plugged(self, is_plugged: bool) -> io::Result<()> {
        let other = self.other_end()?;
        within(self.far, || tap::set_up(&other, is_plugged))
    }
}
