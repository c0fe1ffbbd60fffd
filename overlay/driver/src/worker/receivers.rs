//! The sessions by the receiver index in WireGuard's packets: one look-up per packet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Sessions' numbers by the upper 24 bits of their receiver indices.
///
/// This node draws the indices at random, so they need no hash that strangers cannot foresee: a
/// stranger chooses what is looked up, but not what is there.
pub(super) type Receivers = HashMap<u32, usize, BuildHasherDefault<Spread>>;

/// Spreads a number over all bits of the hash (Fibonacci hashing, Knuth, TAOCP 6.4).
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
