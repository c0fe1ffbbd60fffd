//! A user and a network namespace of the shim's own. Works without root, where the kernel lets
//! unprivileged users make user namespaces, and inside a user namespace that maps a single user.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::unistd::{Gid, getegid, geteuid};

use std::os::fd::AsRawFd;

/// The groups that may use ICMP echo sockets, of the network namespace of who writes.
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";

/// Why there are no namespaces.
#[derive(Debug, thiserror::Error)]
pub enum IsolateError {
    /// The kernel refuses new user namespaces.
    #[error(
        "the kernel refuses a new user namespace ({0}): allow them with \
         `sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000` \
         (and on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`)"
    )]
    Unshare(Errno),
    /// The own user could not be mapped into it.
    #[error("writing {path} failed: {source}")]
    Map {
        /// The file of the mapping.
        path: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// `lo` could not be raised.
    #[error("raising lo in the new network namespace failed: {0}")]
    Loopback(Errno),
}

/// Moves this process into a new user namespace, in which it is itself and nobody else exists, and a
/// new network namespace that holds `lo`, raised, and nothing else.
///
/// Must be called before the process has a second thread.
///
/// # Errors
/// [`IsolateError`], which says what to do.
pub fn isolate() -> Result<(), IsolateError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(IsolateError::Unshare)?;
    write_map("/proc/self/setgroups", "deny")?;
    write_map("/proc/self/uid_map", &format!("{user} {user} 1"))?;
    write_map("/proc/self/gid_map", &format!("{group} {group} 1"))?;
    allow_ping(group);
    raise_loopback().map_err(IsolateError::Loopback)
}

/// Lets the job's programs ping, which without capabilities needs a socket that the kernel gives to chosen
/// groups only. A convenience: where the setting cannot be written, `ping` says so itself.
fn allow_ping(group: Gid) {
    if let Err(error) = fs::write(PING_GROUPS, format!("{group} {group}")) {
        tracing::debug!(%error, "jobs cannot ping");
    }
}

fn write_map(path: &'static str, text: &str) -> Result<(), IsolateError> {
    fs::write(path, text).map_err(|source| IsolateError::Map { path, source })
}

/// Sets `lo` (always interface 1 of a new namespace) up with one rtnetlink message.
fn raise_loopback() -> nix::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    const NLMSG_ERROR: u16 = 2;

    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend(1u32.to_ne_bytes()); // sequence
    message.extend(0u32.to_ne_bytes()); // port: the kernel's choice
    message.extend([0u8; 4]); // family, padding, device type
    message.extend(1i32.to_ne_bytes()); // index of lo
    message.extend(IFF_UP.to_ne_bytes()); // flags
    message.extend(IFF_UP.to_ne_bytes()); // which of them change

    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(netlink.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = [0u8; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let code = answer.get(16..20).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) if length >= 20 => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) if length >= 20 => Err(Errno::from_raw(-code)),
        _ => Err(Errno::EPROTO),
    }
}
