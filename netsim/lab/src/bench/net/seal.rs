//! The limit: how fast one core seals, with the library and the packet size that tunnels use.

use std::hint::black_box;
use std::time::{Duration, Instant};

use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// An inner packet of a tunnel with MTU 1420, the size that the published figures use.
const PACKET: usize = 1420;

/// Packets between two looks at the clock.
const RUN: usize = 256;

/// Bits of packets that one core seals in a second of this thread's processor time: other programs
/// may want the core too.
pub(super) fn bits_per_second(during: Duration) -> f64 {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]);
    let Ok(key) = key.map(LessSafeKey::new) else { return f64::NAN };
    let mut packet = vec![0u8; PACKET];
    let (start, before, mut sealed) = (Instant::now(), thread_seconds(), 0u64);
    while start.elapsed() < during {
        for _ in 0..RUN {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&sealed.to_le_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut packet);
            black_box(&tag).as_ref().ok();
            sealed += 1;
        }
    }
    sealed as f64 * PACKET as f64 * 8.0 / (thread_seconds() - before)
}

/// Processor time that this thread has spent.
pub(super) fn thread_seconds() -> f64 {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    spent.map_or(f64::NAN, |spent| spent.num_nanoseconds() as f64 / 1e9)
}
