//! The one property of a device that has no ioctl: the size of its superpackets.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `IFLA_GSO_MAX_SIZE` of linux/if_link.h.
const IFLA_GSO_MAX_SIZE: u16 = 41;

/// Lengths of `nlmsghdr`, `ifinfomsg` and one attribute with a `u32`.
const HEADER: usize = 16;
const LINK: usize = 16;
const ATTRIBUTE: usize = 8;

/// Sets the largest superpacket that the device with that index is given.
pub(super) fn set_gso_max_size(index: u32, bytes: u32) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let request = request(index, bytes);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0u8; 256];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // The answer to a request with NLM_F_ACK: a header, then 0 or a negated error number.
    match answer[..len].get(HEADER..HEADER + 4) {
        Some(&[a, b, c, d]) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        },
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn request(index: u32, bytes: u32) -> [u8; HEADER + LINK + ATTRIBUTE] {
    let mut request = [0u8; HEADER + LINK + ATTRIBUTE];
    let len = request.len() as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    request[0..4].copy_from_slice(&len.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[8..12].copy_from_slice(&1u32.to_ne_bytes());
    request[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    let attribute = &mut request[HEADER + LINK..];
    attribute[0..2].copy_from_slice(&(ATTRIBUTE as u16).to_ne_bytes());
    attribute[2..4].copy_from_slice(&IFLA_GSO_MAX_SIZE.to_ne_bytes());
    attribute[4..8].copy_from_slice(&bytes.to_ne_bytes());
    request
}
