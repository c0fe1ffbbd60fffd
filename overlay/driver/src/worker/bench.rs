//! What the checks, the limit and the counters of a packet cost, measured on the code that every received packet takes.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;
use overlay_core::{MeshId, NodeId, Path, SessionKey};
use tokio::sync::mpsc;
use tun_rs::{VIRTIO_NET_HDR_GSO_TCPV4, VirtioNetHdr};

use super::crew::Crew;
use super::mesh::MeshPort;
use super::net::Net;
use super::plane::{Plane, SessionNames};
use super::session::Role;
use super::share::Share;
use crate::WireGuardSecret;
use crate::limit::RateLimit;
use crate::offload::{SEGMENT_BYTES, split};
use crate::socket::Socket;

const MESH: MeshId = MeshId { job: 1, generation: 1 };
const PEER: u16 = 1;

/// A full segment's payload where `mesh0` has MTU 1412.
const PAYLOAD: usize = 1372;

/// Packets of one superpacket.
const SEGMENTS: usize = 43;

/// Nanoseconds for each received packet of 1412 bytes (opened, checked, counted, joined, held against a limit; the
/// device takes all for nothing), and for the same without the checks of its source and destination, the limit and
/// the counters. Both take turns for that long; medians.
///
/// # Errors
///
/// Where there is no UDP on loopback, or no `/dev/null`.
pub fn checks(during: Duration) -> io::Result<(f64, f64)> {
    let mut pair = Pair::new()?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < during || without.is_empty() {
        with.push(pair.round::<true>());
        without.push(pair.round::<false>());
    }
    Ok((median(with), median(without)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A plane, and the peer that seals for it.
struct Pair {
    plane: Plane,
    peer: Tunn,
    via: Path,
    segments: Vec<Vec<u8>>,
}

impl Pair {
    fn new() -> io::Result<Self> {
        let now = Instant::now();
        let limit = Arc::<RateLimit>::default();
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let net = Net::new(Arc::new(socket), limit);
        let mut plane = Plane::new(net, Arc::default(), now, Share::new(0, 1), Crew::default());
        let (secret, peer_secret) = (WireGuardSecret::generate(), WireGuardSecret::generate());
        let to = PublicKey::from(secret.public().0);
        let device = File::options().write(true).open("/dev/null")?;
        let (events, _) = mpsc::channel(1);
        let mut mesh = MeshPort::new(MESH, device.into(), secret, events);
        mesh.set_own_index(0);
        plane.add_mesh(mesh);
        let names = SessionNames {
            key: SessionKey { mesh: MESH, peer: NodeId([7; 32]) },
            peer_key: peer_secret.public(),
            index: PEER,
            role: Role { initiator: false, lazy: true },
        };
        plane.add_session(now, names, Arc::default());

        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let via = Path::Direct(socket.local_addr()?);
        let mut peer = Tunn::new(peer_secret.inner().clone(), to, None, None, 9, None);
        let mut buffer = [0u8; 256];
        if let TunnResult::WriteToNetwork(initiation) =
            peer.format_handshake_initiation(&mut buffer, true)
        {
            plane.on_wireguard(now, via, None, initiation);
        }
        plane.shake_hands();
        plane.net.flush();
        let mut response = [0u8; 256];
        let len = socket.recv(&mut response)?;
        if let TunnResult::WriteToNetwork(keepalive) =
            peer.decapsulate(None, &response[..len], &mut buffer)
        {
            plane.on_wireguard(now, via, None, keepalive);
        }
        Ok(Self { plane, peer, via, segments: segments()? })
    }

    /// Nanoseconds per packet of one superpacket. Sealing it first is not counted.
    fn round<const CHECKED: bool>(&mut self) -> f64 {
        let Self { plane, peer, via, segments } = self;
        let seal = |segment: &Vec<u8>| {
            let mut sealed = vec![0; segment.len() + 32];
            peer.encapsulate(segment, &mut sealed);
            sealed
        };
        let sealed: Vec<Vec<u8>> = segments.iter().map(seal).collect();
        // So high that nothing is dropped.
        plane.net.limit.set(NonZeroU64::new(1 << 40).filter(|_| CHECKED));
        let now = Instant::now();
        for packet in &sealed {
            plane.receive::<CHECKED>(now, *via, None, packet);
        }
        plane.flush_devices();
        plane.notices.clear();
        now.elapsed().as_nanos() as f64 / sealed.len() as f64
    }
}

/// The segments of a TCP superpacket from the peer.
fn segments() -> io::Result<Vec<Vec<u8>>> {
    let mut packet = vec![0u8; 40 + SEGMENTS * PAYLOAD];
    let len = packet.len() as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 6]);
    packet[12..16].copy_from_slice(&MESH.ipv4(PEER).octets());
    packet[16..20].copy_from_slice(&MESH.ipv4(0).octets());
    packet[32..34].copy_from_slice(&[0x50, 0x10]);
    let header = VirtioNetHdr {
        flags: 1,
        gso_type: VIRTIO_NET_HDR_GSO_TCPV4,
        hdr_len: 40,
        gso_size: PAYLOAD as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    let (mut scratch, mut segments) = ([0u8; SEGMENT_BYTES], Vec::new());
    split(&header, &mut packet, &mut scratch, |segment| segments.push(segment.to_vec()))
        .map_err(io::Error::other)?;
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_deliver_the_same_packets() {
        let mut pair = Pair::new().unwrap();
        pair.round::<true>();
        assert_eq!(pair.plane.net.stats.tun_received_packets, SEGMENTS as u64);
        pair.round::<false>();
        let stats = pair.plane.net.stats;
        assert_eq!(stats.tun_received_packets, SEGMENTS as u64, "the others are not counted");
        assert_eq!(
            (stats.spoofed_packets, stats.refused_packets, stats.tun_write_errors),
            (0, 0, 0)
        );
    }
}
