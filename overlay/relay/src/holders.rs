//! The addresses that hold sides of channels: one keepalive of an address is a sign of life of all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Holder {
    sides: u16,
    /// The last bind or keepalive.
    heard_at: Instant,
}

/// See the module. It holds no more addresses than there are sides.
#[derive(Debug, Default)]
pub(crate) struct Holders(HashMap<SocketAddr, Holder>);

impl Holders {
    /// The address has proved itself and holds one side more.
    pub(crate) fn enter(&mut self, now: Instant, address: SocketAddr) {
        let holder = self.0.entry(address).or_insert(Holder { sides: 0, heard_at: now });
        holder.sides = holder.sides.saturating_add(1);
        holder.heard_at = now;
    }

    /// The address holds one side less.
    pub(crate) fn leave(&mut self, address: SocketAddr) {
        if let Some(holder) = self.0.get_mut(&address) {
            holder.sides = holder.sides.saturating_sub(1);
            if holder.sides == 0 {
                self.0.remove(&address);
            }
        }
    }

    /// A keepalive: how many sides it serves. None when the address holds nothing, or was silent for so
    /// long that it has to prove itself again.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        address: SocketAddr,
        lifetime: Duration,
    ) -> Option<u16> {
        let holder = self.0.get_mut(&address).filter(|holder| now < holder.heard_at + lifetime)?;
        holder.heard_at = now;
        Some(holder.sides)
    }

    /// Whether the address was heard of within the lifetime.
    pub(crate) fn is_alive(&self, now: Instant, address: SocketAddr, lifetime: Duration) -> bool {
        self.0.get(&address).is_some_and(|holder| now < holder.heard_at + lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(120);

    #[test]
    fn keepalive_serves_what_the_address_holds_and_nobody_else() {
        let (start, address) = (Instant::now(), SocketAddr::from(([203, 0, 113, 1], 4000)));
        let mut holders = Holders::default();
        assert_eq!(holders.hear(start, address, LIFETIME), None);
        holders.enter(start, address);
        holders.enter(start, address);
        let later = start + Duration::from_secs(119);
        assert_eq!(holders.hear(later, address, LIFETIME), Some(2));
        assert!(holders.is_alive(start + Duration::from_secs(238), address, LIFETIME));
        assert_eq!(holders.hear(start + Duration::from_secs(239), address, LIFETIME), None);
        holders.leave(address);
        holders.leave(address);
        holders.leave(address);
        assert!(holders.0.is_empty());
    }
}
