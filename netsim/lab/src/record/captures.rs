//! `--pcap NODE`: what goes over a node's wires, for Wireshark and tcpdump.
//!
//! Written here, because tcpdump gives up root's rights when it starts, which nobody can in the user
//! namespace of an ordinary user's laboratory. The format is pcap with link type `LINUX_SLL2`, which
//! keeps each packet's interface and direction:
//! <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns::Netns;

/// The size at which a capture ends, bytes. Chosen: what Wireshark still opens.
const MOST: u64 = 1 << 30;

/// Larger than any packet: segmentation offload makes packets of up to 64 KiB.
const LARGEST: usize = 128 * 1024;

/// What a burst may take in the kernel before it is written, bytes.
const BURST: usize = 32 << 20;

/// How often a thread looks whether it is to end.
const LOOK_EVERY_US: i64 = 100_000;

/// pcap's number for `LINUX_SLL2`.
const LINUX_SLL2: u32 = 276;

/// Captures under way. Dropping them ends them; [`Captures::end`] says what is wrong with them too.
#[derive(Debug, Default)]
pub struct Captures(Vec<Capture>);

#[derive(Debug)]
struct Capture {
    node: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<bool>>>,
}

impl Captures {
    /// Captures all packets on all interfaces of a node into `DIR/NODE.pcap`: everything that is sent
    /// after this returns.
    ///
    /// # Errors
    /// When the file cannot be written or the socket not be made.
    pub fn start(&mut self, node: &str, netns: &Netns, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(format!("{node}.pcap"));
        let failed = || format!("cannot write {}", path.display());
        let mut file = BufWriter::with_capacity(LARGEST, File::create(&path).with_context(failed)?);
        file.write_all(&file_header()).and_then(|()| file.flush()).with_context(failed)?;
        let packets = netns.run(packet_socket)?;
        let packets = packets.with_context(|| format!("cannot capture on {node}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let thread = thread::Builder::new().name("capture".to_owned());
        let thread = thread.spawn(move || write(&packets, file, &over))?;
        self.0.push(Capture { node: node.to_owned(), stop, thread: Some(thread) });
        Ok(())
    }

    /// Ends them; returns what is wrong with them.
    pub fn end(mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for capture in &mut self.0 {
            let node = &capture.node;
            capture.stop.store(true, Ordering::Relaxed);
            match capture.thread.take().map(JoinHandle::join) {
                None | Some(Ok(Ok(true))) => {}
                Some(Ok(Ok(false))) => {
                    wrong.push(format!("the capture of {node} ends at {} MiB", MOST >> 20));
                }
                Some(Ok(Err(error))) => wrong.push(format!("the capture of {node}: {error}")),
                Some(Err(_)) => wrong.push(format!("the capture of {node} has failed")),
            }
        }
        wrong
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that sees every packet of every interface, without link headers.
fn packet_socket() -> nix::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::Packet, SockType::Datagram);
    let packets = socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    // More room needs a privilege that a user namespace may not give; a burst fits without it.
    let _ = setsockopt(&packets, sockopt::RcvBufForce, &BURST);
    setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(0, LOOK_EVERY_US))?;
    Ok(packets)
}

/// Writes packets until it is to stop; whether all of them found room.
fn write(packets: &OwnedFd, mut file: BufWriter<File>, stop: &AtomicBool) -> io::Result<bool> {
    let mut buffer = vec![0; LARGEST];
    let mut length = 0;
    loop {
        match recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut buffer) {
            Ok((size, Some(from))) if length < MOST => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let header = packet_header(now, size, &from);
                file.write_all(&header)?;
                file.write_all(&buffer[..size])?;
                length += (header.len() + size) as u64;
            }
            Ok(_) => {}
            // Nothing for a while: what there is goes to the disk.
            Err(Errno::EAGAIN | Errno::EINTR) => {
                file.flush()?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(length < MOST);
                }
            }
            // An interface that went down says so once; the others go on.
            Err(Errno::ENETDOWN) => {}
            Err(error) => return Err(error.into()),
        }
        // A node that is never silent ends too.
        if stop.load(Ordering::Relaxed) {
            file.flush()?;
            return Ok(length < MOST);
        }
    }
}

/// The beginning of a pcap file: version 2.4, microseconds.
fn file_header() -> Vec<u8> {
    let mut header = 0xa1b2_c3d4_u32.to_be_bytes().to_vec();
    header.extend([2_u16.to_be_bytes(), 4_u16.to_be_bytes()].concat());
    for word in [0, 0, LARGEST as u32, LINUX_SLL2] {
        header.extend(word.to_be_bytes());
    }
    header
}

/// What stands before a packet: pcap's record, and the header of the link type.
fn packet_header(at: std::time::Duration, size: usize, from: &LinkAddr) -> Vec<u8> {
    const LINK: u32 = 20;
    let length = u32::try_from(size).unwrap_or(u32::MAX).saturating_add(LINK);
    let mut header = Vec::with_capacity(36);
    let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    for word in [seconds, at.subsec_micros(), length, length] {
        header.extend(word.to_be_bytes());
    }
    // The kernel gives the protocol as it stood on the wire.
    header.extend(from.protocol().to_ne_bytes());
    header.extend([0, 0]);
    header.extend(u32::try_from(from.ifindex()).unwrap_or(0).to_be_bytes());
    header.extend(from.hatype().to_be_bytes());
    header.push(from.pkttype());
    let address = from.addr().unwrap_or_default();
    header.push(6);
    header.extend(address);
    header.extend([0, 0]);
    header
}
