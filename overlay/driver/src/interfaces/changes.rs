//! The kernel says when an address or a link changes (rtnetlink(7)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The groups of links, IPv4 and IPv6 addresses.
const GROUPS: u32 =
    (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;

/// Tells of changes. What changed is read from the system afterwards.
pub(super) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    pub(super) fn subscribe() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        // SAFETY: an owned descriptor is always the same one, and is open for as long as the `AsyncFd`
        // that owns it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(socket?))
    }

    /// Waits for the next change, and takes all that have been told of.
    pub(super) async fn next(&self) -> io::Result<()> {
        let mut buffer = [0u8; 4096];
        let mut any = false;
        loop {
            let mut ready = self.0.readable().await?;
            loop {
                match recv(self.0.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    // Too many to be told one by one is a change, too.
                    Ok(_) | Err(Errno::ENOBUFS) => any = true,
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}
