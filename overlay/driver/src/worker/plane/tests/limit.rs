//! What the owner grants.

use std::num::NonZeroU64;

use super::*;

const FRAMES: usize = 10;

fn datagram(from: u16, to: u16) -> Vec<u8> {
    plain_frame(&packet((v4(from), v4(to)), UDP, 0, 0, &[7; 1000]))
}

#[test]
fn what_the_job_sends_above_the_limit_waits_in_the_device() {
    let [mut a, b] = connected();
    a.plane.net.limit.set(NonZeroU64::new(1000));
    for _ in 0..FRAMES {
        a.job.send(&datagram(0, 1)).unwrap();
    }
    let slot = a.plane.mesh_slots[&MESH];
    a.plane.on_device_readable(Instant::now(), slot);
    assert_eq!(
        a.plane.net.stats.tun_sent_packets, 1,
        "the first is read whole, and paid for later"
    );
    assert!(!a.plane.net.limit.wait().is_zero());
    a.plane.net.limit.set(None);
    a.plane.on_device_readable(Instant::now(), slot);
    assert_eq!(a.plane.net.stats.tun_sent_packets, FRAMES as u64, "nothing was lost");
    drop(b);
}

#[test]
fn what_comes_above_the_limit_is_dropped_and_counted() {
    let [mut a, mut b] = connected();
    b.plane.net.limit.set(NonZeroU64::new(1000));
    for _ in 0..FRAMES {
        a.job_sends(&datagram(0, 1));
        let before = b.plane.net.stats.tun_received_packets;
        b.receive_until(|plane| plane.net.stats.tun_received_packets > before);
    }
    assert_eq!(b.job_receives().len(), 1);
    assert_eq!(b.plane.net.stats.limited_frames, FRAMES as u64 - 1);
    assert_eq!(a.plane.net.stats.limited_frames, 0);
}
