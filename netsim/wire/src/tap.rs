//! TAP devices: Ethernet interfaces whose cable this process holds the end of.
//!
//! Without offloads (the default) the kernel finishes checksums and cuts up large segments before a
//! frame gets here, so that what links delay are real packets.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Frames that the kernel keeps for this process while it is busy. Chosen: 300 Mbit/s of full
/// packets for 160 ms; the default (1000) lasts 40 ms.
pub(crate) const QUEUE: u32 = 4096;

/// A TAP device. It vanishes when this is dropped.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes one in the calling thread's network namespace. It is down.
    pub fn new(name: &str, hardware: [u8; 6]) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut request = request(name)?;
        request.ifr_ifru.ifru_flags = short(libc::IFF_TAP | libc::IFF_NO_PI)?;
        // SAFETY: the descriptor is open, and the request lives through the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        // Any socket will do for what is asked of the interface by its name.
        let control = control()?;
        let mut address: libc::sockaddr = request_address(hardware);
        address.sa_family = libc::ARPHRD_ETHER;
        request.ifr_ifru.ifru_hwaddr = address;
        // SAFETY: as above.
        check(unsafe {
            libc::ioctl(control.as_raw_fd(), libc::SIOCSIFHWADDR as _, &raw mut request)
        })?;
        Ok(Self { file })
    }

    /// Takes the next frame that was sent through the device; none when there is none now.
    pub(crate) fn receive(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(into) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets a frame come in through the device.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Sets an interface of the calling thread's network namespace up or down.
pub fn set_up(name: &str, is_up: bool) -> io::Result<()> {
    let control = control()?;
    let mut request = request(name)?;
    // SAFETY: the descriptor is open, and the request lives through the call; here and below.
    check(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    let up = short(libc::IFF_UP)?;
    // SAFETY: the call has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = if is_up { flags | up } else { flags & !up };
    // SAFETY: as above.
    check(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) })
}

fn control() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Inet, SockType::Datagram, flags, None)?)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '/']) {
        return Err(io::Error::other(format!("{name:?} is no name for an interface")));
    }
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn request_address(hardware: [u8; 6]) -> libc::sockaddr {
    // SAFETY: all zeroes is a valid `sockaddr`.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    for (to, from) in address.sa_data.iter_mut().zip(hardware) {
        *to = from.cast_signed();
    }
    address
}

fn short(flags: libc::c_int) -> io::Result<libc::c_short> {
    libc::c_short::try_from(flags).map_err(io::Error::other)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
