//! The fuzzer's harness over a fixed corpus: every frame cut at every length, with every bit turned,
//! and byte strings as schedules of the core.

#[path = "../fuzz/harness.rs"]
mod harness;

use overlay_core::control::codec;
use overlay_core::control::relays::{FromRelay, ToRelay};
use overlay_core::control::{ToCoordinator, ToNode};
use overlay_core::wire::probe::Purpose;
use overlay_core::wire::tunnel::{self, Target};
use overlay_core::wire::{ControlFrame, Probe, Ticket, relay};
use overlay_core::{MeshId, NodeId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TICKET: Ticket = Ticket { version: 1, side: 1, channel: 7, expires_unix: 9, mac: [3; 16] };

/// One of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let observed = "203.0.113.7:4000".parse().expect("the corpus is sound");
    let (token, nonce, cookie) = ([1; 16], [2; 8], [4; 16]);
    let frames = [
        ControlFrame::ReflectRequest { token, nonce },
        ControlFrame::ReflectElsewhere { token, nonce, port: 5, from_other: true },
        ControlFrame::ReflectResponse { nonce, observed },
        ControlFrame::BindRequest { ticket: TICKET, nonce },
        ControlFrame::BindChallenge { nonce, cookie },
        ControlFrame::BindAnswer { ticket: TICKET, nonce, cookie },
        ControlFrame::BindAck { nonce, channel: 7, lifetime_s: 120 },
        ControlFrame::KeepAlive { nonce },
        ControlFrame::KeepAliveAck { nonce, observed, channels: 3, lifetime_s: 120 },
    ];
    let mut endpoints = [None; 8];
    endpoints[1] = Some("[2001:db8::1]:4000".parse().expect("the corpus is sound"));
    let probes = [
        Probe::Ping { transaction: [5; 8], size: 60 },
        Probe::Pong { transaction: [5; 8], observed: Some(observed) },
        Probe::Hint { purpose: Purpose::PassOn(NodeId([6; 32])), endpoints },
    ];
    let mesh = MeshId { job: 1, generation: 1 };
    let closed = ToNode::MeshClosed { mesh, reason: "over".to_owned() };
    let hello = ToCoordinator::Hello { version: 1, software: "test".to_owned() };
    let mut corpus: Vec<Vec<u8>> = frames.iter().map(ControlFrame::encode).collect();
    corpus.extend(probes.iter().map(Probe::encode));
    corpus.push(relay::encode(7, &[4, 0, 0, 0]));
    corpus.extend(relay::split(7, 1, &[4, 0, 0, 0]).expect("the corpus is sound"));
    corpus.push(serde_json::to_vec(&closed).expect("the corpus is sound"));
    corpus.push(serde_json::to_vec(&hello).expect("the corpus is sound"));
    corpus.push(TICKET.to_hex().into_bytes());
    let relays = FromRelay::Hello {
        version: 1,
        software: "test".to_owned(),
        token: None,
        endpoints: vec![observed],
        tunnel: Some(443),
    };
    let welcome = ToRelay::Welcome { ticket_key: "70".repeat(32), reflector_key: "71".repeat(32) };
    corpus.push(codec::encode(&closed).expect("the corpus is sound"));
    corpus.push(codec::encode(&hello).expect("the corpus is sound"));
    corpus.push(codec::encode(&relays).expect("the corpus is sound"));
    corpus.push(codec::encode(&welcome).expect("the corpus is sound"));
    let mut stream = Vec::new();
    for (target, datagram) in [(Target::Control, &b"quic"[..]), (Target::Relay, b"frame")] {
        tunnel::encode(target, datagram, &mut stream);
    }
    corpus.push(stream);
    corpus
}

#[test]
fn frames_cut_at_every_length_do_no_harm() {
    for bytes in corpus() {
        for len in 0..=bytes.len() {
            harness::wire(&bytes[..len]);
        }
        harness::wire(&[&bytes[..], &[0]].concat());
    }
}

#[test]
fn frames_with_any_bit_turned_do_no_harm() {
    for mut bytes in corpus() {
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            harness::wire(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn core_keeps_its_contract_whatever_the_schedule() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // All join and meet first, so that most of what follows means something.
        let mut bytes = vec![3, 0, 0, 3, 1, 0, 5, 0, 0x1f, 5, 1, 0x1f, 1, 2, 3];
        bytes.extend((0..1500).map(|_| rng.random::<u8>()));
        harness::schedule(&bytes);
    }
}

#[test]
fn ways_are_chosen_one_at_a_time_whatever_is_reported() {
    for seed in 0..500 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bytes: Vec<u8> = (0..1500).map(|_| rng.random::<u8>()).collect();
        harness::ladder(&bytes);
    }
}

/// Byte strings that were worth keeping: one file each, as the fuzzer writes them.
#[test]
fn the_kept_corpus_does_no_harm() {
    let kept = |target: &str| -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/").to_owned() + target;
        let files = std::fs::read_dir(&folder).expect("the corpus is a part of this repository");
        let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file?.path());
        files.map(|file| read(file).expect("a file of the corpus")).collect()
    };
    let (wire, schedules, ladders) = (kept("wire"), kept("schedule"), kept("ladder"));
    assert!(ladders.len() >= 4, "{}", ladders.len());
    ladders.iter().for_each(|bytes| harness::ladder(bytes));
    assert!(wire.len() >= 16 && schedules.len() >= 8, "{} and {}", wire.len(), schedules.len());
    wire.iter().for_each(|bytes| harness::wire(bytes));
    schedules.iter().for_each(|bytes| harness::schedule(bytes));
}
