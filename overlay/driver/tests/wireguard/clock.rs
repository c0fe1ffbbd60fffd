//! The time since boot, moved by hand.

use std::cell::Cell;
use std::time::Duration;

use nix::libc::{self, c_int, clockid_t, timespec};

thread_local! {
    /// Each test has its own thread, and its own time.
    static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1_000)) };
}

/// The time of this test.
pub(crate) fn now() -> Duration {
    NOW.get()
}

/// Moves it.
pub(crate) fn advance(by: Duration) {
    NOW.set(NOW.get() + by);
}

/// Answers for the system, in this program and for the time since boot alone: boringtun has no other
/// way to be given a time.
///
/// # Safety
///
/// `to` points to a `timespec`, as the system call demands.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, to: *mut timespec) -> c_int {
    if clock != libc::CLOCK_BOOTTIME {
        // SAFETY: the arguments are passed on as they came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) } as c_int;
    }
    // No two moments are the same, as on a real clock: handshakes are told apart by their time.
    advance(Duration::from_nanos(100));
    let now = now();
    // SAFETY: by this function's contract.
    unsafe {
        (*to).tv_sec = now.as_secs() as libc::time_t;
        (*to).tv_nsec = now.subsec_nanos().into();
    }
    0
}

#[test]
fn boringtun_asks_this_clock() {
    use boringtun::noise::Tunn;
    use boringtun::x25519::{PublicKey, StaticSecret};

    let before = now();
    let peer = PublicKey::from(&StaticSecret::from([2; 32]));
    let _tunnel = Tunn::new(StaticSecret::from([1; 32]), peer, None, None, 1, None);
    assert!(now() > before);
}
