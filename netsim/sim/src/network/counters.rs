//! What became of the packets.

/// What became of the packets. Every packet that was sent, and every copy that a link made, is
/// delivered, dropped for exactly one of these reasons, or still in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Given to [`super::Network::send`].
    pub sent: u64,
    /// Copies made by links.
    pub duplicated: u64,
    /// Handed to a host.
    pub delivered: u64,
    /// Lost on a link.
    pub lost: u64,
    /// Stopped by a NAT's or a stateful firewall's filter, or by [`super::Network::block`].
    pub filtered: u64,
    /// To an address that nobody has, or going round in circles.
    pub unroutable: u64,
    /// Stopped by a router's [`crate::Firewall`].
    pub firewalled: u64,
    /// Stopped by a NAT that has no room for another mapping.
    pub table_full: u64,
    /// Dropped at the tail of a link's queue.
    pub queue_full: u64,
    /// Larger than a link's MTU.
    pub too_big: u64,
    /// On a link that is down, or from or to a host that is not running.
    pub down: u64,
    /// Beyond what the simulation holds ([`super::MAX_IN_FLIGHT`]).
    pub overflowed: u64,
}

impl Counters {
    /// All that will never arrive.
    pub fn dropped(&self) -> u64 {
        self.lost
            + self.filtered
            + self.unroutable
            + self.firewalled
            + self.table_full
            + self.queue_full
            + self.too_big
            + self.down
            + self.overflowed
    }
}
