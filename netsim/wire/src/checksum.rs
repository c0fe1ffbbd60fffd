//! The Internet checksum (RFC 1071), whole and mended in place (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The sum of 16-bit words, not folded. A last odd byte counts as if a zero followed.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
    words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>() + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 0xffff after folding.
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum of some bytes.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The checksum of an ICMPv6 message with its pseudo-header (RFC 4443 §2.3).
pub fn of_icmpv6(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    const ICMPV6: u64 = 58;
    let length = u64::try_from(message.len()).unwrap_or(u64::MAX) & 0xffff_ffff;
    let pseudo = sum(&source.octets()) + sum(&destination.octets()) + length + ICMPV6;
    !fold(pseudo + sum(message))
}

/// The checksum after `old` was replaced by `new` in what it covers (RFC 1624, equation 3). Both are
/// of the same even length, and stood at an even offset.
pub fn mended(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let inverted = old.chunks(2).map(|word| u64::from(!pair(word))).sum::<u64>();
    !fold(u64::from(!checksum) + inverted + sum(new))
}

fn pair(word: &[u8]) -> u16 {
    u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])
}

/// The address's bytes and the port's, as they are mended together.
pub(crate) fn endpoint(address: Ipv4Addr, port: u16) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    [a, b, c, d, high, low]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn example_of_rfc_1071_section_3() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn checksum_makes_the_sum_all_ones() {
        let header = [0x45, 0, 0, 20, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let mut whole = header;
        whole[10..12].copy_from_slice(&of(&header).to_be_bytes());
        assert_eq!(of(&whole), 0);
    }

    proptest! {
        #[test]
        fn mending_gives_what_computing_anew_gives(
            mut bytes in proptest::collection::vec(any::<u8>(), 12..64),
            new in any::<[u8; 6]>(),
            at in 0usize..3,
        ) {
            let before = of(&bytes);
            let range = at * 2..at * 2 + 6;
            let old = bytes[range.clone()].to_vec();
            bytes[range].copy_from_slice(&new);
            let (mended, anew) = (mended(before, &old, &new), of(&bytes));
            // Zero has two forms; of() gives 0xffff for bytes that are all zero only.
            prop_assert!(mended == anew || bytes.iter().all(|byte| *byte == 0));
        }
    }
}
