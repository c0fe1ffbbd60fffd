//! The kernel's share of a relay: a program that passes datagrams on from one machine to the other, and does
//! nothing else.
//!
//! It receives what the kernel has joined (GRO) and sends it out of the same buffer as one call (GSO), on the
//! way that a relayed tunnel takes. What a relay costs above this is its own.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use super::seal::thread_seconds;
use crate::netns::Netns;

/// The ports of the forwarder and of the sink.
const PORTS: [u16; 2] = [7900, 7901];
/// A tunnel's packet with the relay's header: 1420 bytes inside, 32 of WireGuard's, 8 of the relay's.
const PACKET: u16 = 1460;
/// What one call sends: as much as UDP takes.
const BURST: usize = 44 * PACKET as usize;
/// Bytes that are on the way at most: as a stream's window, so that nothing is lost.
const WINDOW: u64 = 512 * 1024;
/// The kernel's buffers.
const BUFFER: usize = 8 << 20;
/// Silence after which it is over.
const SILENCE: Duration = Duration::from_millis(300);

/// Processor seconds per GB of the forwarder, between sender and sink, at these addresses.
pub(super) fn seconds_per_gb(
    places: [&Netns; 3],
    [forwarder, sink]: [IpAddr; 2],
    each: Duration,
) -> anyhow::Result<f64> {
    let here = SocketAddr::new(forwarder, PORTS[0]);
    let there = SocketAddr::new(sink, PORTS[1]);
    let [sender, middle, end] = places;
    let sender = sender.run(|| socket((Ipv4Addr::UNSPECIFIED, 0).into()))??;
    let middle = middle.run(move || socket(here))??;
    let end = end.run(move || socket(there))??;
    let arrived = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&arrived);
    let sink = thread::spawn(move || {
        receive(&end, |bytes, _| {
            counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(())
        })
    });
    let forward = thread::spawn(move || {
        let mut passed = 0;
        let received = receive(&middle, |bytes, segment| {
            passed += bytes.len();
            send(&middle, bytes, segment, there)
        });
        received.map(|()| thread_seconds() / (passed as f64 / 1e9))
    });
    let sent = flood(&sender, here, each, &arrived);
    let per_gb = forward.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    sink.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    sent.and(per_gb).context("cannot pass datagrams on")
}

fn socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    setsockopt(&socket, sockopt::SndBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// Sends bursts, not more than a window ahead of what has arrived.
fn flood(
    socket: &UdpSocket,
    to: SocketAddr,
    each: Duration,
    arrived: &AtomicU64,
) -> io::Result<()> {
    let (burst, start) = (vec![0x5a; BURST], Instant::now());
    let mut sent = 0;
    while start.elapsed() < each {
        if sent > arrived.load(Ordering::Relaxed) + WINDOW {
            thread::yield_now();
            continue;
        }
        send(socket, &burst, PACKET, to)?;
        sent += burst.len() as u64;
    }
    Ok(())
}

fn send(socket: &UdpSocket, bytes: &[u8], segment: u16, to: SocketAddr) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    let segments = [ControlMessage::UdpGsoSegments(&segment)];
    let fd = socket.as_raw_fd();
    sendmsg(fd, &[IoSlice::new(bytes)], &segments, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

/// Gives what arrives, and the length of its datagrams, until nothing does any more.
fn receive(
    socket: &UdpSocket,
    mut each: impl FnMut(&[u8], u16) -> io::Result<()>,
) -> io::Result<()> {
    let (mut buffer, mut control) = (vec![0; 1 << 16], cmsg_space!(i32));
    let mut has_begun = false;
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = socket.as_raw_fd();
        let received =
            recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::empty());
        let (len, segment) = match received {
            Ok(message) => {
                let joined = message.cmsgs()?.find_map(|control| {
                    let ControlMessageOwned::UdpGroSegments(segment) = control else { return None };
                    u16::try_from(segment).ok()
                });
                (message.bytes, joined.unwrap_or(PACKET))
            }
            Err(nix::errno::Errno::EAGAIN) if has_begun => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        has_begun = true;
        each(&buffer[..len], segment)?;
    }
}
