//! `--pcap NODE`: what goes over a node's wires, for Wireshark and tcpdump.
//!
//! Written here, because tcpdump gives up root's rights when it starts, which nobody can in the user
//! namespace of an ordinary user's laboratory. The format is pcapng, which names each packet's interface
//! (draft-ietf-opsawg-pcapng, sections 4.1 to 4.3), with link type `LINUX_SLL`, which keeps its direction:
//! <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
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

/// The link type's number.
const LINUX_SLL: u16 = 113;

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
    /// Captures all packets on all interfaces of a node into `DIR/NODE.pcapng`: everything that is sent
    /// after this returns.
    ///
    /// # Errors
    /// When the file cannot be written or the socket not be made.
    pub fn start(&mut self, node: &str, netns: &Netns, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(format!("{node}.pcapng"));
        let failed = || format!("cannot write {}", path.display());
        let mut file = BufWriter::with_capacity(LARGEST, File::create(&path).with_context(failed)?);
        file.write_all(&file_header()).and_then(|()| file.flush()).with_context(failed)?;
        let packets = netns.run(packet_socket)?;
        let packets = packets.with_context(|| format!("cannot capture on {node}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let thread = thread::Builder::new().name("capture".to_owned());
        let netns = netns.clone();
        let thread = thread.spawn(move || {
            // The names of interfaces are the namespace's own.
            netns.enter().map_err(io::Error::other)?;
            write(&packets, file, &over)
        })?;
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
    let mut interfaces = Vec::new();
    loop {
        match recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut buffer) {
            Ok((size, Some(from))) if length < MOST => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let index = u32::try_from(from.ifindex()).unwrap_or(0);
                let known = interfaces.iter().position(|known| *known == index);
                let number = known.unwrap_or(interfaces.len());
                let mut blocks = Vec::with_capacity(size + 256);
                if known.is_none() {
                    interfaces.push(index);
                    blocks.extend(interface_block(&name_of(index)));
                }
                blocks.extend(packet_block(now, number, &from, &buffer[..size]));
                file.write_all(&blocks)?;
                length += blocks.len() as u64;
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

fn name_of(interface: u32) -> String {
    let name = if_indextoname(interface).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("interface-{interface}"))
}

/// A block: its type, its length before and after its content.
fn block(kind: u32, content: &[u8]) -> Vec<u8> {
    let padded = content.len().next_multiple_of(4);
    let length = u32::try_from(padded + 12).unwrap_or(u32::MAX).to_be_bytes();
    let mut block = [kind.to_be_bytes(), length].concat();
    block.extend_from_slice(content);
    block.resize(8 + padded, 0);
    block.extend(length);
    block
}

/// The beginning of a file: version 1.0, of any length.
fn file_header() -> Vec<u8> {
    let mut content = 0x1a2b_3c4d_u32.to_be_bytes().to_vec();
    content.extend([1_u16.to_be_bytes(), 0_u16.to_be_bytes()].concat());
    content.extend(u64::MAX.to_be_bytes());
    block(0x0a0d_0d0a, &content)
}

/// An interface of that name; the next one in the order of these blocks. Times are microseconds, as they
/// are where nothing else is said.
fn interface_block(name: &str) -> Vec<u8> {
    let mut content = [LINUX_SLL.to_be_bytes(), [0, 0]].concat();
    content.extend((LARGEST as u32).to_be_bytes());
    // The option of the name, and the end of the options.
    content.extend(2_u16.to_be_bytes());
    content.extend(u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
    content.extend_from_slice(name.as_bytes());
    content.resize(content.len().next_multiple_of(4), 0);
    content.extend([0; 4]);
    block(1, &content)
}

/// A packet of that interface, behind the header of the link type.
fn packet_block(at: Duration, interface: usize, from: &LinkAddr, packet: &[u8]) -> Vec<u8> {
    const LINK: usize = 16;
    let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    let length = u32::try_from(packet.len() + LINK).unwrap_or(u32::MAX);
    let mut content = Vec::with_capacity(packet.len() + 20 + LINK);
    content.extend(u32::try_from(interface).unwrap_or(u32::MAX).to_be_bytes());
    // The upper half first.
    content.extend(micros.to_be_bytes());
    content.extend([length.to_be_bytes(), length.to_be_bytes()].concat());
    content.extend(u16::from(from.pkttype()).to_be_bytes());
    content.extend(from.hatype().to_be_bytes());
    content.extend(6_u16.to_be_bytes());
    content.extend(from.addr().unwrap_or_default());
    content.extend([0, 0]);
    // The kernel gives the protocol as it stood on the wire.
    content.extend(from.protocol().to_ne_bytes());
    content.extend_from_slice(packet);
    block(6, &content)
}
