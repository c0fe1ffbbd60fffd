//! One mesh of the node: its TUN device, its key, its members.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::PublicKey;
use nix::errno::Errno;
use overlay_core::ladder::Rung;
use overlay_core::netmap::MAX_MEMBERS;
use overlay_core::{HostKey, MeshId, Netmap, NodeId, PairState, WireGuardKey};
use tokio::sync::mpsc;
use tun_rs::VirtioNetHdr;

use super::session::Counts;
use crate::offload::{HEADER_BYTES, Joins, SEGMENT_BYTES, split};
use crate::stats::Stats;
use crate::tun::has_header;
use crate::{MeshEvent, MeshKeys, WireGuardSecret};

/// Handshakes per second that a mesh looks at before it asks for cookies. Each costs an X25519
/// operation (about 0.1 ms), so a flood takes at most a twentieth of a core.
const HANDSHAKE_LIMIT: u64 = 500;

/// The first 14 bytes of every member's IPv6 address; the last two carry the index.
const PREFIX_BYTES: usize = 14;

/// A mesh that the node has joined.
pub(super) struct MeshPort {
    pub(super) id: MeshId,
    pub(super) tun: OwnedFd,
    pub(super) secret: WireGuardSecret,
    /// What the other members are told beside the secret's public part.
    pub(super) host: Option<HostKey>,
    pub(super) public: PublicKey,
    pub(super) limiter: RateLimiter,
    pub(super) events: mpsc::Sender<MeshEvent>,
    /// Era and epoch of the netmap in use; zeros before the first.
    pub(super) version: (u64, u64),
    /// That netmap, for the owner's questions.
    pub(super) netmap: Option<Netmap>,
    /// The coordinator has opened the mesh.
    pub(super) is_open: bool,
    /// How the pairs stand, and the bytes of sessions that have ended.
    pub(super) pairs: BTreeMap<NodeId, Pair>,
    /// The pairs whose reports on the board are out of date.
    pub(super) stale: BTreeSet<NodeId>,
    /// The device is gone.
    closed: bool,
    own: Option<(Ipv4Addr, Ipv6Addr)>,
    prefix: [u8; PREFIX_BYTES],
    members: Vec<Option<Place>>,
    keys: HashMap<[u8; 32], Place>,
    /// The superpackets that the device takes, as far as is known.
    joins: Joins,
}

/// Where a member's session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In this plane, under that number.
    Here(usize),
    /// With another worker. The ticket tells it from a former session of the same member.
    There {
        /// The worker.
        number: u32,
        /// See above.
        ticket: u32,
    },
}

/// A pair as the core last described it.
#[derive(Default)]
pub(super) struct Pair {
    pub(super) state: Option<PairState>,
    pub(super) sent_before: u64,
    pub(super) received_before: u64,
    /// What its report on the board says.
    pub(super) told: Told,
    /// What an observer was told last, and with which round trip time.
    pub(super) seen: Option<(Told, Option<u64>)>,
}

/// What changes of a pair without the core's knowing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The way to its relay, where that is not UDP.
    pub(super) rung: Option<Rung>,
}

impl MeshPort {
    pub(super) fn new(
        id: MeshId,
        tun: OwnedFd,
        keys: impl Into<MeshKeys>,
        events: mpsc::Sender<MeshEvent>,
    ) -> Self {
        let MeshKeys { secret, host } = keys.into();
        let public = PublicKey::from(secret.inner());
        let [prefix @ .., _, _] = id.ipv6(0).octets();
        let joins = if has_header(tun.as_fd()) { Joins::All } else { Joins::Nothing };
        Self {
            id,
            tun,
            limiter: RateLimiter::new(&public, HANDSHAKE_LIMIT),
            secret,
            host,
            public,
            events,
            version: (0, 0),
            netmap: None,
            is_open: false,
            pairs: BTreeMap::new(),
            stale: BTreeSet::new(),
            closed: false,
            own: None,
            prefix,
            members: vec![None; MAX_MEMBERS],
            keys: HashMap::new(),
            joins,
        }
    }

    /// The node's own index became known.
    pub(super) fn set_own_index(&mut self, index: u16) {
        self.own = Some((self.id.ipv4(index), self.id.ipv6(index)));
    }

    /// Whether the job's packets can be read. Before the first netmap they wait in the device: after a
    /// restart of the agent the job goes on sending.
    pub(super) fn is_readable(&self) -> bool {
        !self.closed && self.own.is_some()
    }

    pub(super) fn add_member(&mut self, index: u16, key: WireGuardKey, session: Place) {
        if let Some(member) = self.members.get_mut(usize::from(index)) {
            *member = Some(session);
            self.keys.insert(key.0, session);
        }
    }

    pub(super) fn remove_member(&mut self, index: u16, key: WireGuardKey, session: Place) {
        if let Some(member) = self.members.get_mut(usize::from(index))
            && *member == Some(session)
        {
            *member = None;
        }
        if self.keys.get(&key.0) == Some(&session) {
            self.keys.remove(&key.0);
        }
    }

    /// What a session that ends has counted.
    pub(super) fn keep_counts(&mut self, peer: NodeId, counts: &Counts) {
        let (sent, received) = counts.read();
        let pair = self.pairs.entry(peer).or_default();
        pair.sent_before += sent;
        pair.received_before += received;
    }

    /// A port for another worker: the same device and key, without the owner's side.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        let (events, _) = mpsc::channel(1);
        Ok(Self::new(self.id, self.tun.try_clone()?, self.secret.clone(), events))
    }

    /// The session of the member with that WireGuard key.
    pub(super) fn session_of_key(&self, key: &[u8; 32]) -> Option<Place> {
        self.keys.get(key).copied()
    }

    /// The session of the member with that address.
    pub(super) fn session_of_address(&self, address: IpAddr) -> Option<Place> {
        let place = match address {
            IpAddr::V4(v4) => match v4.octets() {
                [10, 128, high, low] => u16::from_be_bytes([high, low]),
                _ => return None,
            },
            IpAddr::V6(v6) => match v6.octets() {
                [prefix @ .., high, low] if prefix == self.prefix => {
                    u16::from_be_bytes([high, low])
                }
                _ => return None,
            },
        };
        *self.members.get(usize::from(place.checked_sub(1)?))?
    }

    /// Whether the job may use that address as its own.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.is_some_and(|(v4, v6)| address == v4 || address == v6)
    }

    /// Whether a packet with these addresses may come from the member with that index.
    pub(super) fn accepts(&self, index: u16, source: IpAddr, destination: IpAddr) -> bool {
        let genuine = match source {
            IpAddr::V4(v4) => v4 == self.id.ipv4(index),
            IpAddr::V6(v6) => self.is_member_v6(v6, index),
        };
        genuine && self.is_own(destination)
    }

    fn is_member_v6(&self, address: Ipv6Addr, index: u16) -> bool {
        let [prefix @ .., high, low] = address.octets();
        prefix == self.prefix && u16::from_be_bytes([high, low]) == index.saturating_add(1)
    }

    /// The superpackets that the device takes, as far as is known.
    pub(super) fn joins(&self) -> Joins {
        self.joins
    }

    /// Writes a frame to the device. What the device does not take is lost, as on any network.
    pub(super) fn write(&mut self, frame: &[u8], stats: &mut Stats) {
        let bytes = match self.joins {
            Joins::Nothing => &frame[HEADER_BYTES..],
            Joins::Tcp if is_udp_superpacket(frame) => return self.write_in_pieces(frame, stats),
            Joins::Tcp | Joins::All => frame,
        };
        match nix::unistd::write(&self.tun, bytes) {
            Ok(_) => {}
            Err(Errno::EINVAL) if self.joins == Joins::All && is_udp_superpacket(frame) => {
                tracing::info!(mesh = %self.id, "the kernel takes no UDP superpackets");
                self.joins = Joins::Tcp;
                self.write_in_pieces(frame, stats);
            }
            Err(error) => {
                tracing::trace!(mesh = %self.id, %error, "packet not written");
                stats.tun_write_errors += 1;
            }
        }
    }

    /// What was gathered before the kernel refused the first one.
    fn write_in_pieces(&self, frame: &[u8], stats: &mut Stats) {
        let mut packet = frame[HEADER_BYTES..].to_vec();
        let mut scratch = [0u8; SEGMENT_BYTES];
        let Ok(header) = VirtioNetHdr::decode(frame) else { return };
        let cut = split(&header, &mut packet, &mut scratch, |segment| {
            let frame = [&[0u8; HEADER_BYTES], segment].concat();
            if nix::unistd::write(&self.tun, &frame).is_err() {
                stats.tun_write_errors += 1;
            }
        });
        debug_assert!(cut.is_ok());
    }

    /// Reads a frame from the device, header first; none when there is nothing more.
    pub(super) fn read(&mut self, frame: &mut [u8]) -> Option<usize> {
        let from = if self.joins == Joins::Nothing { HEADER_BYTES } else { 0 };
        // An empty header says that there is nothing to cut and nothing to sum.
        frame[..from].fill(0);
        match nix::unistd::read(&self.tun, &mut frame[from..]) {
            Ok(len) if len > 0 => Some(from + len),
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            other => {
                let error =
                    other.err().map_or(io::ErrorKind::UnexpectedEof.into(), io::Error::from);
                tracing::info!(mesh = %self.id, %error, "the mesh device is gone");
                self.closed = true;
                None
            }
        }
    }
}

fn is_udp_superpacket(frame: &[u8]) -> bool {
    frame.get(1) == Some(&tun_rs::VIRTIO_NET_HDR_GSO_UDP_L4)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn port() -> MeshPort {
        let (tun, _) = UnixDatagram::pair().unwrap();
        let id = MeshId { job: 3, generation: 1 };
        let mut port =
            MeshPort::new(id, tun.into(), WireGuardSecret::generate(), mpsc::channel(1).0);
        port.set_own_index(0);
        port.add_member(1, WireGuardKey([1; 32]), Place::Here(7));
        port
    }

    #[test]
    fn members_are_found_by_either_address() {
        let mut port = port();
        let id = port.id;
        assert_eq!(port.session_of_address(id.ipv4(1).into()), Some(Place::Here(7)));
        assert_eq!(port.session_of_address(id.ipv6(1).into()), Some(Place::Here(7)));
        assert_eq!(port.session_of_key(&[1; 32]), Some(Place::Here(7)));
        for stranger in ["10.128.0.0", "10.128.0.3", "10.129.0.2", "fe80::2", "ff02::1"] {
            assert_eq!(port.session_of_address(stranger.parse().unwrap()), None, "{stranger}");
        }
        port.remove_member(1, WireGuardKey([1; 32]), Place::There { number: 7, ticket: 0 });
        assert_eq!(port.session_of_key(&[1; 32]), Some(Place::Here(7)));
        port.remove_member(1, WireGuardKey([1; 32]), Place::Here(7));
        assert_eq!(port.session_of_address(id.ipv4(1).into()), None);
        assert_eq!(port.session_of_key(&[1; 32]), None);
    }

    #[test]
    fn a_member_speaks_only_for_itself_and_to_us() {
        let port = port();
        let (own, peer, other) = (port.id.ipv4(0), port.id.ipv4(1), port.id.ipv4(2));
        assert!(port.accepts(1, peer.into(), own.into()));
        assert!(port.accepts(1, port.id.ipv6(1).into(), port.id.ipv6(0).into()));
        assert!(!port.accepts(1, other.into(), own.into()));
        assert!(!port.accepts(1, port.id.ipv6(2).into(), port.id.ipv6(0).into()));
        assert!(!port.accepts(1, own.into(), own.into()));
        assert!(!port.accepts(1, peer.into(), other.into()));
    }
}
