//! What the coordinator tells a node about a mesh: its members, and how to reach them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use blake2::{Blake2s256, Digest};
use serde::{Deserialize, Serialize};

use crate::ids::{HostKey, MeshId, NodeId, WireGuardKey};
use crate::pattern::Pattern;

/// The version of the netmap format that this crate reads and writes.
pub const NETMAP_VERSION: u8 = 1;

/// The most members of a mesh. Chosen: a job of a few hundred nodes; the index fits the /16 with room.
pub const MAX_MEMBERS: usize = 1024;

/// The most candidates that a node offers. Pairs are tried all against all, so both sides stay small
/// (reference: "cap 8 local by 8 remote").
pub const MAX_CANDIDATES: usize = 8;

/// The most relays that a node is told. Chosen: a few in each part of the world; each is asked for its
/// distance now and then.
pub const MAX_RELAYS: usize = 16;

/// The prefix length of a mesh's IPv4 network, 10.128.0.0/16: the same for every mesh, since network
/// namespaces keep them apart.
pub const IPV4_PREFIX_LEN: u8 = 16;

/// The prefix length of a mesh's IPv6 network: a unique local /64 hashed from the mesh.
pub const IPV6_PREFIX_LEN: u8 = 64;

/// The members of one mesh at one epoch. An older epoch than the last one seen is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netmap {
    /// Always [`NETMAP_VERSION`].
    pub version: u8,
    /// The mesh it describes.
    pub mesh: MeshId,
    /// Which coordinator counts the epochs: grows when one takes over that does not know what the
    /// last one counted, such as after a restart. A later era's epochs are newer than all before.
    #[serde(default)]
    pub era: u64,
    /// Grows with every change of the members.
    pub epoch: u64,
    /// The members in the order of their index.
    pub members: Vec<Member>,
    /// Who is expected to talk to whom: those pairs are connected beforehand, others with their first
    /// packet. None: everybody with everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// Reserved for the job owner's signature over the roster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// One member of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The rank in the job, from 0; it gives the addresses.
    pub index: u16,
    /// Who it is.
    pub node: NodeId,
    /// Its OAR host name, such as `vol-3`.
    pub name: String,
    /// Its key in this mesh.
    pub wireguard_key: WireGuardKey,
    /// Its key for the programs in this mesh; none, when its agent does not know of such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<HostKey>,
}

impl MeshId {
    /// The IPv4 address of the member with that index: 10.128.0.1 for index 0.
    pub fn ipv4(&self, index: u16) -> Ipv4Addr {
        let [high, low] = (index.saturating_add(1)).to_be_bytes();
        Ipv4Addr::new(10, 128, high, low)
    }

    /// The IPv6 address of the member with that index, in a /64 under fd00::/8 hashed from the mesh.
    pub fn ipv6(&self, index: u16) -> Ipv6Addr {
        let mut hash = Blake2s256::new();
        hash.update(b"clouds-at-home mesh prefix 1");
        hash.update(self.job.to_be_bytes());
        hash.update(self.generation.to_be_bytes());
        let digest = hash.finalize();
        let mut octets = [0u8; 16];
        octets[0] = 0xfd;
        octets[1..8].copy_from_slice(&digest[..7]);
        octets[14..16].copy_from_slice(&index.saturating_add(1).to_be_bytes());
        Ipv6Addr::from(octets)
    }
}

/// An endpoint where a node may be reached; nothing is proven yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// The UDP endpoint.
    pub endpoint: SocketAddr,
    /// How it was found.
    pub kind: CandidateKind,
}

/// How a candidate was found (RFC 8445's terms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateKind {
    /// An address of one of the node's own interfaces.
    Host,
    /// What the coordinator, a reflector or a relay saw as the source of the node's packets.
    Reflexive,
    /// A router on the way gave it on request (PCP, NAT-PMP, UPnP).
    PortMapped,
    /// The volunteer or the operator says so, such as a forwarded port.
    OperatorSet,
    /// A peer saw the node's packets come from there.
    PeerReported,
    /// Found in a way that this version does not know.
    #[serde(other)]
    Other,
}

/// How a NAT chooses the outer port (RFC 4787 §4.1), as far as the node has observed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservedMapping {
    /// Not measured yet.
    #[default]
    Unknown,
    /// The reflexive endpoint is one of the node's own: no NAT.
    None,
    /// The same outer endpoint towards two ports of the coordinator's host.
    EndpointIndependent,
    /// Another outer endpoint for each destination: a reflexive candidate is of no use to others.
    EndpointDependent,
}

/// How a NAT chooses the port of a new mapping (RFC 4787 §4.2), as far as the node has observed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservedPorts {
    /// The port of the socket.
    Preserved,
    /// Each that many above the last one, or below.
    Sequential(i8),
    /// No pattern in it: nobody can know the next one.
    Random,
    /// Not measured yet, or in a way that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Whom a NAT lets in (RFC 4787 §5), as far as the node has observed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservedFiltering {
    /// Everybody, as soon as there is a mapping.
    Open,
    /// Every port of an address that was sent to, at least.
    ByAddress,
    /// Only addresses and ports that were sent to.
    ByAddressAndPort,
    /// Nobody: UDP does not get through at all.
    Nobody,
    /// Not measured yet, or in a way that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a node measured of the NAT in front of it, beside the [`ObservedMapping`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatTraits {
    /// How it chooses ports.
    #[serde(default)]
    pub ports: ObservedPorts,
    /// Whom it lets in.
    #[serde(default)]
    pub filtering: ObservedFiltering,
}

impl NatTraits {
    /// Two such NATs never meet, since neither side can know where to send or whom to let in: one gives a port
    /// without any pattern to each destination, and the other does so, too, or lets in known ports only. `mine`
    /// and `theirs` are mapping and traits of either side.
    pub fn never_meet(mine: (ObservedMapping, Self), theirs: (ObservedMapping, Self)) -> bool {
        let is_random = |(mapping, nat): (ObservedMapping, Self)| {
            mapping == ObservedMapping::EndpointDependent
                && nat.ports == ObservedPorts::Random
                && nat.filtering != ObservedFiltering::Open
        };
        let is_strict = |side: (ObservedMapping, Self)| {
            is_random(side) || side.1.filtering == ObservedFiltering::ByAddressAndPort
        };
        (is_random(mine) && is_strict(theirs)) || (is_random(theirs) && is_strict(mine))
    }

    /// Nothing was measured.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// What a node's owner lets its jobs do, and so what its peers may expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// They stand still until the owner, or the hour, lets them go on.
    Paused,
    /// They run, and have a trickle of the network until midnight there: the volume that the owner grants a day is used
    /// up.
    Throttled,
    /// They run. Also whatever a later version has words for.
    #[default]
    #[serde(other)]
    Working,
}

impl Activity {
    /// Nothing out of the ordinary.
    pub fn is_working(&self) -> bool {
        *self == Self::Working
    }

    /// A sentence for the users of a peer, of a node that is not working as usual.
    pub(crate) fn sentence(self) -> Option<&'static str> {
        match self {
            Self::Working => None,
            Self::Paused => Some("the peer's owner has paused its jobs"),
            Self::Throttled => Some(
                "the peer has used up the traffic that its owner grants a day, and goes on with a trickle",
            ),
        }
    }
}

/// All the candidates of one node. A newer sequence replaces an older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCandidates {
    /// Whose they are.
    pub node: NodeId,
    /// Grows with every change.
    pub sequence: u64,
    /// What the node observed of the NAT in front of it.
    pub mapping: ObservedMapping,
    /// What else it measured of that NAT.
    #[serde(default, skip_serializing_if = "NatTraits::is_unknown")]
    pub nat: NatTraits,
    /// At most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// What its owner lets its jobs do.
    #[serde(default, skip_serializing_if = "Activity::is_working")]
    pub activity: Activity,
}

/// The right of one node to exchange packets with one other through a relay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayTicket {
    /// The node at the other end of the channel.
    pub peer: NodeId,
    /// The relay's UDP endpoint.
    pub relay: SocketAddr,
    /// The pair's channel at that relay.
    pub channel: u32,
    /// When the ticket ends, seconds since the Unix epoch.
    pub expires_unix: u64,
    /// What the relay is shown; opaque to the node, sealed with the relay's key. Hexadecimal.
    pub sealed: String,
}

/// Leaves the seal out: with it anybody could bind.
impl fmt::Debug for RelayTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayTicket")
            .field("peer", &self.peer)
            .field("relay", &self.relay)
            .field("channel", &self.channel)
            .field("expires_unix", &self.expires_unix)
            .finish_non_exhaustive()
    }
}

/// A relay that runs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayOffer {
    /// Its name; all zeroes for the coordinator's own.
    pub relay: NodeId,
    /// Its UDP endpoint, of a family that the node can reach.
    pub endpoint: SocketAddr,
    /// Shown to its reflector, which answers nobody else. Hexadecimal, 16 bytes.
    pub token: String,
    /// The TCP port at the same address where it takes tunnels over TLS, for nodes without UDP; its certificate
    /// is of the key that is its name. None: it takes none there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<u16>,
}

/// Leaves the token out.
impl fmt::Debug for RelayOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOffer")
            .field("relay", &self.relay)
            .field("endpoint", &self.endpoint)
            .field("tunnel", &self.tunnel)
            .finish_non_exhaustive()
    }
}

/// How far a relay is from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredRelay {
    /// Its name.
    pub relay: NodeId,
    /// Round trip time, microseconds.
    pub rtt_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_shown_without_its_seal() {
        let ticket = RelayTicket {
            peer: NodeId([1; 32]),
            relay: "192.0.2.1:6444".parse().unwrap(),
            channel: 7,
            expires_unix: 1,
            sealed: "5ea1ed".to_owned(),
        };
        let shown = format!("{ticket:?}");
        assert!(shown.contains("channel: 7") && !shown.contains("5ea1ed"), "{shown}");
    }
}
