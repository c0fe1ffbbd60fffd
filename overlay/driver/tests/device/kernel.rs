//! An older or poorer kernel: this program's own `sendmsg`, `setsockopt`, `ioctl`, `write` and `uname` stand
//! before those of the C library, refuse what such a kernel refuses, and hand the rest to the real one.
//!
//! Everything above the system calls is what always runs, and every packet goes through the kernel.

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::libc;

/// What the kernel cannot do, or does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lack {
    Nothing,
    /// `UDP_SEGMENT` is an unknown option (before Linux 4.18).
    UdpSegmentation,
    /// A device refuses a batch when it is sent.
    Offload,
    /// TUN devices neither give nor take UDP superpackets (before Linux 6.2).
    UdpSuperpackets,
    /// TUN devices have no virtio header.
    VirtioHeader,
    /// It sends batches, but mangles some.
    SoundBatches,
}

static LACK: AtomicU8 = AtomicU8::new(Lack::Nothing as u8);
static BATCHES: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// From now on the kernel lacks that.
pub(crate) fn become_one_without(lack: Lack) {
    LACK.store(lack as u8, Ordering::SeqCst);
    BATCHES.store(0, Ordering::SeqCst);
    REFUSED.store(0, Ordering::SeqCst);
}

/// Batches that were sent in one call, and requests that were refused for what the kernel lacks, since then.
pub(crate) fn counts() -> (u64, u64) {
    (BATCHES.load(Ordering::SeqCst), REFUSED.load(Ordering::SeqCst))
}

fn lacks(lack: Lack) -> bool {
    LACK.load(Ordering::SeqCst) == lack as u8
}

fn refuse(errno: c_int) -> c_int {
    REFUSED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the pointer is that of this thread's own errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// Whether the message asks for segmentation.
///
/// # Safety
///
/// `message` is valid for `sendmsg`.
unsafe fn is_batch(message: *const libc::msghdr) -> bool {
    // SAFETY: by this function's contract; the macros stay within the message's control data.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = next.as_ref() {
            if control.cmsg_level == libc::SOL_UDP && control.cmsg_type == libc::UDP_SEGMENT {
                return true;
            }
            next = libc::CMSG_NXTHDR(message, control);
        }
    }
    false
}

/// # Safety
///
/// As that of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> isize {
    // SAFETY: the caller's message is valid.
    if unsafe { is_batch(message) } {
        if lacks(Lack::Offload) {
            return refuse(libc::EIO) as isize;
        }
        BATCHES.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: the arguments are those of the call, unchanged.
    unsafe { libc::syscall(libc::SYS_sendmsg, fd, message, flags) as isize }
}

/// # Safety
///
/// As that of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: libc::socklen_t,
) -> c_int {
    if lacks(Lack::UdpSegmentation) && (level, name) == (libc::SOL_UDP, libc::UDP_SEGMENT) {
        return refuse(libc::ENOPROTOOPT);
    }
    // SAFETY: the arguments are those of the call, unchanged.
    unsafe { libc::syscall(libc::SYS_setsockopt, fd, level, name, value, len) as c_int }
}

/// # Safety
///
/// As that of the C library, which takes one argument after the request at most.
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    const UDP_OFFLOADS: usize = (libc::TUN_F_USO4 | libc::TUN_F_USO6) as usize;
    if request == libc::TUNSETOFFLOAD as c_ulong
        && lacks(Lack::UdpSuperpackets)
        && argument as usize & UDP_OFFLOADS != 0
    {
        return refuse(libc::EINVAL);
    }
    if request == libc::TUNSETIFF as c_ulong && lacks(Lack::VirtioHeader) {
        // SAFETY: this request's argument is an interface's name and flags.
        let flags = unsafe { (*argument.cast::<libc::ifreq>()).ifr_ifru.ifru_flags };
        if c_int::from(flags) & libc::IFF_VNET_HDR != 0 {
            return refuse(libc::EINVAL);
        }
    }
    // SAFETY: the arguments are those of the call, unchanged.
    unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) as c_int }
}

/// # Safety
///
/// As that of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, len: usize) -> isize {
    if lacks(Lack::UdpSuperpackets) && len > 10 {
        // SAFETY: the caller's bytes are that long.
        let kind = unsafe { *bytes.cast::<u8>().add(1) };
        if kind == tun_rs::VIRTIO_NET_HDR_GSO_UDP_L4 && is_tun(fd) {
            return refuse(libc::EINVAL) as isize;
        }
    }
    // SAFETY: the arguments are those of the call, unchanged.
    unsafe { libc::syscall(libc::SYS_write, fd, bytes, len) as isize }
}

/// # Safety
///
/// As that of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn uname(names: *mut libc::utsname) -> c_int {
    // SAFETY: the argument is that of the call, unchanged; the kernel fills it in.
    unsafe {
        let result = libc::syscall(libc::SYS_uname, names) as c_int;
        if result == 0 && lacks(Lack::SoundBatches) {
            let release = b"7.0.9-generic\0".map(|byte| byte as c_char);
            let name = &mut (*names).release;
            name[..release.len()].copy_from_slice(&release);
        }
        result
    }
}

fn is_tun(fd: c_int) -> bool {
    // SAFETY: zeros are a valid ifreq, which the kernel fills in for a TUN device.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        libc::syscall(libc::SYS_ioctl, fd, libc::TUNGETIFF, &raw mut request) == 0
    }
}
