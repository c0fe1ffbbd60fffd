//! What the data plane counted.

/// A snapshot of the data plane's counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent by the data plane (QUIC's are not among them).
    pub udp_sent_datagrams: u64,
    /// Bytes of those.
    pub udp_sent_bytes: u64,
    /// Datagrams that the socket refused.
    pub udp_send_errors: u64,
    /// Datagrams received, of every kind.
    pub udp_received_datagrams: u64,
    /// Bytes of those.
    pub udp_received_bytes: u64,
    /// Datagrams whose first bytes belong to no protocol of the socket.
    pub unknown_datagrams: u64,
    /// WireGuard packets that name no session, or a handshake from no member.
    pub unknown_sessions: u64,
    /// WireGuard packets that a session refused: replayed, forged or for keys that are gone.
    pub refused_packets: u64,
    /// QUIC datagrams dropped because QUIC was slower than the socket.
    pub quic_overflows: u64,
    /// IP packets that the jobs sent, counted after segmentation.
    pub tun_sent_packets: u64,
    /// Bytes of those.
    pub tun_sent_bytes: u64,
    /// IP packets from peers handed to the jobs, counted before merging.
    pub tun_received_packets: u64,
    /// Bytes of those.
    pub tun_received_bytes: u64,
    /// Packets from peers whose inner source or destination is not theirs to use.
    pub spoofed_packets: u64,
    /// Packets from peers that a router marked as congestion's, of jobs that would not understand it (RFC 6040).
    pub congested_packets: u64,
    /// Packets of jobs from an address that is not the node's own, or to nobody in the mesh.
    pub unroutable_packets: u64,
    /// Packets of jobs that were malformed, or dropped since keys or a path were missing for too long.
    pub dropped_packets: u64,
    /// Packets that the TUN device did not take.
    pub tun_write_errors: u64,
    /// Frames from peers, of one packet or of several, that were more than the owner grants.
    pub limited_frames: u64,
}

impl Stats {
    /// The sum of both, counter by counter.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        let Self {
            udp_sent_datagrams,
            udp_sent_bytes,
            udp_send_errors,
            udp_received_datagrams,
            udp_received_bytes,
            unknown_datagrams,
            unknown_sessions,
            refused_packets,
            quic_overflows,
            tun_sent_packets,
            tun_sent_bytes,
            tun_received_packets,
            tun_received_bytes,
            spoofed_packets,
            congested_packets,
            unroutable_packets,
            dropped_packets,
            tun_write_errors,
            limited_frames,
        } = other;
        self.udp_sent_datagrams += udp_sent_datagrams;
        self.udp_sent_bytes += udp_sent_bytes;
        self.udp_send_errors += udp_send_errors;
        self.udp_received_datagrams += udp_received_datagrams;
        self.udp_received_bytes += udp_received_bytes;
        self.unknown_datagrams += unknown_datagrams;
        self.unknown_sessions += unknown_sessions;
        self.refused_packets += refused_packets;
        self.quic_overflows += quic_overflows;
        self.tun_sent_packets += tun_sent_packets;
        self.tun_sent_bytes += tun_sent_bytes;
        self.tun_received_packets += tun_received_packets;
        self.tun_received_bytes += tun_received_bytes;
        self.spoofed_packets += spoofed_packets;
        self.congested_packets += congested_packets;
        self.unroutable_packets += unroutable_packets;
        self.dropped_packets += dropped_packets;
        self.tun_write_errors += tun_write_errors;
        self.limited_frames += limited_frames;
        self
    }
}
