//! What a relay counts.

/// Counters of a relay since its start; `channels`, `bindings` and `pairs` are the present numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Packets passed on from one side of a channel to the other.
    pub forwarded_packets: u64,
    /// Their bytes, relay header included.
    pub forwarded_bytes: u64,
    /// Reflect requests that were answered.
    pub reflected: u64,
    /// Cookies sent.
    pub challenged: u64,
    /// Binds made or refreshed.
    pub bound: u64,
    /// Channels in the table.
    pub channels: u64,
    /// Sides of them that an address holds. One that fell silent counts for 20 s more at most.
    pub bindings: u64,
    /// Channels with both sides held.
    pub pairs: u64,
    /// Datagrams dropped, by reason.
    pub dropped: Dropped,
    /// The shell's part.
    pub io: IoStats,
}

/// Datagrams dropped by the pure state, see [`DropReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// See [`DropReason::Malformed`].
    pub malformed: u64,
    /// See [`DropReason::BadToken`].
    pub bad_token: u64,
    /// See [`DropReason::ForgedTicket`].
    pub forged_ticket: u64,
    /// See [`DropReason::ExpiredTicket`].
    pub expired_ticket: u64,
    /// See [`DropReason::BadCookie`].
    pub bad_cookie: u64,
    /// See [`DropReason::TableFull`].
    pub table_full: u64,
    /// See [`DropReason::Unbound`].
    pub unbound: u64,
    /// See [`DropReason::PeerUnbound`].
    pub peer_unbound: u64,
    /// See [`DropReason::OverRate`].
    pub over_rate: u64,
    /// See [`DropReason::OverQuota`].
    pub over_quota: u64,
}

/// What the socket shell counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Send calls; one can carry many packets to the same destination.
    pub sends: u64,
    /// Packets given up because the socket stayed full: the oldest go first.
    pub overflowed: u64,
    /// Sends that the kernel refused, such as a packet larger than the path takes.
    pub send_errors: u64,
}

/// Why a datagram got neither forwarded nor answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No frame that a relay takes.
    Malformed,
    /// A reflect request without a token of this relay's key.
    BadToken,
    /// A bind with a ticket that the coordinator did not issue.
    ForgedTicket,
    /// A bind with a ticket whose time is over.
    ExpiredTicket,
    /// A bind answer whose cookie is too old or was not made for that sender.
    BadCookie,
    /// A bind for a new channel while the table is full.
    TableFull,
    /// A packet on a channel that its sender has not bound.
    Unbound,
    /// A packet on a channel whose other side is not bound.
    PeerUnbound,
    /// A packet beyond the rate of its channel or of the relay.
    OverRate,
    /// A packet beyond its channel's quota.
    OverQuota,
}

impl IoStats {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            sends: self.sends + other.sends,
            overflowed: self.overflowed + other.overflowed,
            send_errors: self.send_errors + other.send_errors,
        }
    }
}

impl Dropped {
    /// Each reason by its name, and how often it was one.
    pub fn by_reason(&self) -> [(&'static str, u64); 10] {
        [
            ("malformed", self.malformed),
            ("bad-token", self.bad_token),
            ("forged-ticket", self.forged_ticket),
            ("expired-ticket", self.expired_ticket),
            ("bad-cookie", self.bad_cookie),
            ("table-full", self.table_full),
            ("unbound", self.unbound),
            ("peer-unbound", self.peer_unbound),
            ("over-rate", self.over_rate),
            ("over-quota", self.over_quota),
        ]
    }

    pub(crate) fn count(&mut self, reason: DropReason, packets: usize) {
        *match reason {
            DropReason::Malformed => &mut self.malformed,
            DropReason::BadToken => &mut self.bad_token,
            DropReason::ForgedTicket => &mut self.forged_ticket,
            DropReason::ExpiredTicket => &mut self.expired_ticket,
            DropReason::BadCookie => &mut self.bad_cookie,
            DropReason::TableFull => &mut self.table_full,
            DropReason::Unbound => &mut self.unbound,
            DropReason::PeerUnbound => &mut self.peer_unbound,
            DropReason::OverRate => &mut self.over_rate,
            DropReason::OverQuota => &mut self.over_quota,
        } += packets as u64;
    }
}
