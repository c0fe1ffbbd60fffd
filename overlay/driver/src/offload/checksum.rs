//! The internet checksum (RFC 1071) of long runs of bytes.
//!
//! Both ways it is the dearest step after the cipher and the kernel's copies: every segment is summed
//! when it is cut, and verified before it is joined.

/// The sum of `bytes` as 16-bit words, not folded; a last odd byte is the upper half of a word.
///
/// It is below 2^47 for 64 kB, so that sums may be added up without a thought for overflow.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= LANES * 4 && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { sum_avx2(bytes) };
    }
    sum_lanes(bytes)
}

/// The checksum of a sum: folded to 16 bits, inverted.
pub(crate) fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// A sum folded to 16 bits. What carries a correct checksum gives 0xffff.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Sums that grow side by side, so that none waits for another: two vectors' worth of 64-byte lines.
const LANES: usize = 16;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_lanes(bytes)
}

/// The sum does not depend on the order of a word's bytes but for its own (RFC 1071, section 2B): it is
/// taken in the machine's order and turned at the end. Plain loops over arrays, which the compiler
/// turns into vectors; additions that cannot overflow are written so that nothing checks it.
#[inline(always)]
fn sum_lanes(bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8; 4]| u64::from(u32::from_ne_bytes(*bytes));
    let mut lanes = [0u64; LANES];
    let (lines, rest) = bytes.as_chunks::<{ LANES * 4 }>();
    for line in lines {
        for (lane, four) in lanes.iter_mut().zip(line.as_chunks::<4>().0) {
            *lane = lane.wrapping_add(word(four));
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    let mut last = [0u8; 4];
    last[..rest.len()].copy_from_slice(rest);
    let tail = words.iter().chain([&last]).map(word);
    let total = lanes.into_iter().chain(tail).fold(0, u64::wrapping_add);
    u64::from(u16::from_be_bytes(fold(total).to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 word by word.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let word = |two: &[u8]| {
            u64::from(u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or_default()]))
        };
        fold(bytes.chunks(2).map(word).sum())
    }

    #[test]
    fn every_length_and_place_gives_the_same_as_the_book() {
        let bytes: Vec<u8> =
            (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for start in 0..4 {
            for len in (0..300).chain([1372, 1373, 1400, 2047, 2900]) {
                let part = &bytes[start..start + len];
                assert_eq!(fold(sum(part)), by_the_book(part), "{len} bytes from {start}");
                assert_eq!(sum_lanes(part), sum(part), "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        assert_eq!(sum(&[0xff; 65_536]), 0xffff);
        assert_eq!(sum(&[0xff; 65_535]), u64::from(by_the_book(&[0xff; 65_535])));
        assert_eq!(finish(0xffff), 0);
        // RFC 1071, section 3.
        assert_eq!(finish(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }
}
