//! How exact a wire is under load: `cargo run --release -p netsim-wire --example measure`
//!
//! A link of 20 ms, and packets of 1500 bytes at several rates for five seconds each: what share
//! arrives, and how long packets take. On a busy machine the measuring threads come late themselves:
//! run it under `chrt -r 1`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, by hand")]
#![expect(dead_code, reason = "the tests need more of it")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{FAR, NEAR, Pair};
use netsim_sim::{LinkProfile, OneWay};
use netsim_wire::{LineSpec, Wires};
use nix::sys::socket::{setsockopt, sockopt};

const DELAY: Duration = Duration::from_millis(20);
const LASTS: Duration = Duration::from_secs(5);
const PAYLOAD: usize = 1472;

fn main() {
    println!("one way 20 ms, 1500-byte packets, {} s each", LASTS.as_secs());
    println!("Mbit/s   sent  arrived     min     p1     p50     p99    p99.9  within 1 ms");
    for mbit_per_s in [1, 100, 300, 500] {
        measure(mbit_per_s);
    }
}

fn measure(mbit_per_s: u64) {
    let pair = Pair::new();
    let wires = Wires::new().unwrap();
    let way = OneWay { delay: DELAY, ..OneWay::PERFECT };
    let profile = LinkProfile::symmetric(way);
    wires
        .add(LineSpec { profile, ..LineSpec::default() }, pair.cable().splice(None).unwrap())
        .unwrap();
    let (sender, receiver) = (pair.near.udp(NEAR, 7000), pair.far.udp(FAR, 7000));
    sender.connect((FAR, 7000)).unwrap();
    sender.send(&[0; 8]).unwrap();
    setsockopt(&receiver, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    receiver.recv(&mut [0; 16]).unwrap();
    let begun = Instant::now();
    let gap = Duration::from_nanos(1500 * 8 * 1000 / mbit_per_s);
    let listening = thread::spawn(move || {
        let mut took = Vec::new();
        let mut bytes = [0; 2048];
        while receiver.recv(&mut bytes).is_ok() {
            let sent = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            took.push(begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
        }
        took
    });
    let mut sent = 0u32;
    let mut bytes = [0; PAYLOAD];
    while begun.elapsed() < LASTS {
        // A few at a time: sleeping is exact to a fraction of a millisecond only.
        while gap * sent <= begun.elapsed().min(LASTS) {
            let now = u64::try_from(begun.elapsed().as_nanos()).unwrap();
            bytes[..8].copy_from_slice(&now.to_be_bytes());
            sender.send(&bytes).unwrap();
            sent += 1;
        }
        thread::sleep(Duration::from_micros(100));
    }
    let mut took = listening.join().unwrap();
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        took.get(index.min(took.len().saturating_sub(1))).copied().unwrap_or_default().as_secs_f64()
            * 1e3
    };
    let close = took.iter().filter(|took| **took <= DELAY + Duration::from_millis(1)).count();
    println!(
        "{mbit_per_s:6} {sent:6} {:8} {:7.2} {:6.2} {:7.2} {:7.2} {:8.2} {:10.2} %",
        took.len(),
        at(0.0),
        at(0.01),
        at(0.5),
        at(0.99),
        at(0.999),
        close as f64 * 100.0 / took.len().max(1) as f64,
    );
}
