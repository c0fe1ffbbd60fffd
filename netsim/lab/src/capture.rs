//! Captures on an interface, to show what goes over a link and what does not.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::libc;

use crate::netns::Netns;

/// Larger than any packet: segmentation offload makes packets of up to 64 KiB.
const LARGEST: usize = 128 * 1024;
/// How often the thread looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What has been seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets, in both directions.
    pub packets: u64,
    /// Packets that hold the marker.
    pub marked: u64,
    /// TCP connections that somebody else tried to open: SYN without ACK, incoming.
    pub inbound_syns: u64,
    /// TCP connections that this side opened: the proof that such packets are recognised.
    pub outbound_syns: u64,
}

/// A capture under way. Dropping it ends it.
pub struct Capture {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures on the interface `name` of a namespace, and looks for `marker` in every packet.
    /// Everything that is sent after this returns is seen.
    pub fn start(netns: &Netns, name: &str, marker: &[u8]) -> io::Result<Self> {
        let interface = name.to_owned();
        let socket = netns.run(move || packet_socket(&interface))??;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let end = Arc::new(AtomicBool::new(false));
        let (to, stop, marker) = (Arc::clone(&seen), Arc::clone(&end), marker.to_vec());
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; LARGEST];
            while !stop.load(Ordering::Relaxed) {
                if let Some((length, outgoing)) = receive(&socket, &mut buffer) {
                    note(&mut lock(&to), &buffer[..length], outgoing, &marker);
                }
            }
        });
        Ok(Self { seen, end, thread: Some(thread) })
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(seen: &mut Seen, packet: &[u8], outgoing: bool, marker: &[u8]) {
    seen.packets += 1;
    if !marker.is_empty() && packet.windows(marker.len()).any(|window| window == marker) {
        seen.marked += 1;
    }
    match (is_syn(packet), outgoing) {
        (true, true) => seen.outbound_syns += 1,
        (true, false) => seen.inbound_syns += 1,
        (false, _) => {}
    }
}

/// Whether an IP packet (without link header) is the first of a TCP connection.
fn is_syn(packet: &[u8]) -> bool {
    const TCP: u8 = 6;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let tcp = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.get(9) == Some(&TCP) => usize::from(packet[0] & 0x0f) * 4,
        Some(6) if packet.get(6) == Some(&TCP) => 40,
        _ => return false,
    };
    packet.get(tcp + 13).is_some_and(|flags| flags & (SYN | ACK) == SYN)
}

/// A socket that sees every IP packet of the interface, without link headers.
fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let every_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket has no preconditions.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(every_protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let index = nix::net::if_::if_nametoindex(interface)?;
    // SAFETY: all zeroes is a valid address of any family.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = every_protocol;
    address.sll_ifindex = index.cast_signed();
    let buffer: libc::c_int = 16 << 20;
    let limit = libc::timeval { tv_sec: 0, tv_usec: LOOK_EVERY.subsec_micros().into() };
    // SAFETY: the pointers are to values that live through the calls, with their sizes.
    unsafe {
        let size = |of: usize| of as libc::socklen_t;
        let length = size(size_of_val(&address));
        if libc::bind(fd, (&raw const address).cast(), length) != 0 {
            return Err(io::Error::last_os_error());
        }
        // More room needs a privilege that a user namespace may not give; a burst fits without it.
        let value = (&raw const buffer).cast();
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            value,
            size(size_of_val(&buffer)),
        );
        let value = (&raw const limit).cast();
        let length = size(size_of_val(&limit));
        if libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, length) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(socket)
}

/// A packet's length and whether this side sent it; none when the time for one look has passed.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, bool)> {
    // SAFETY: all zeroes is a valid address of any family.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut size = size_of_val(&from) as libc::socklen_t;
    // SAFETY: the buffer and the address live through the call and are given with their sizes.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    let length = usize::try_from(length).ok()?;
    Some((length, from.sll_pkttype == libc::PACKET_OUTGOING))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4_tcp(flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[33] = flags;
        packet
    }

    #[test]
    fn only_the_first_packet_of_a_connection_is_a_syn() {
        assert!(is_syn(&ipv4_tcp(0x02)));
        assert!(!is_syn(&ipv4_tcp(0x12)));
        assert!(!is_syn(&ipv4_tcp(0x10)));
        assert!(!is_syn(&ipv4_tcp(0x02)[..33]));
        assert!(!is_syn(&[]));
    }

    #[test]
    fn the_marker_is_found_anywhere_in_a_packet() {
        let mut seen = Seen::default();
        note(&mut seen, b"xxxmarkyyy", true, b"mark");
        note(&mut seen, b"xxxmar", true, b"mark");
        assert_eq!((seen.packets, seen.marked), (2, 1));
    }
}
