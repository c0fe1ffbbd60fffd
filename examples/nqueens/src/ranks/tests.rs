//! Rank 0 against a peer that the test plays, byte by byte.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU16, Ordering},
};

use super::*;
use crate::{
    exchange::Outgoing,
    hosts::Host,
    solver::BoardSize,
    wire::{Greeting, VERSION},
};

const N: u8 = 18;
const GREETING: Greeting = Greeting { version: VERSION, n: N, ranks: 2, rank: 1, exchange: 5000 };
const EXCHANGE: Exchange = Exchange { n: N, from: 1, to: 0, bytes: 5000 };

/// A port below those that the kernel gives to outgoing connections, so that it stays free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (std::process::id() as u16).wrapping_mul(97);
        let port = 10_000 + offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

/// What rank 0 of two says in the end when rank 1 greets so and then does what `script` does.
fn rank_0_against(greeting: Greeting, script: impl FnOnce(&mut TcpStream)) -> String {
    let port = free_port();
    let host = |port| Host { name: "127.0.0.1".to_owned(), port };
    let roster = Roster {
        hosts: vec![host(port), host(1)],
        rank: 0,
        greeting: Greeting { rank: 0, ..GREETING },
        patience: Duration::from_secs(30),
    };
    let units = Units::split(BoardSize::new(N).unwrap());
    let mut run = Run::new(roster, units, 1, Duration::from_secs(30));
    thread::scope(|scope| {
        let rank_0 = scope.spawn(move || run.search().unwrap_err());
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(_) => thread::yield_now(),
            }
        };
        greeting.write(&mut stream).unwrap();
        script(&mut stream);
        // As a rank does: hears what the other has to say, then closes.
        io::copy(&mut stream, &mut io::sink()).ok();
        drop(stream);
        let error = rank_0.join().unwrap();
        chain(&error)
    })
}

fn send(stream: &mut TcpStream, message: &Message) {
    message.write(stream).unwrap();
}

/// The exchange as it should be.
fn exchange(stream: &mut TcpStream) {
    let mut outgoing = Outgoing::new(EXCHANGE);
    while let Some(chunk) = outgoing.chunk() {
        send(stream, &Message::Chunk(chunk));
    }
    send(stream, &Message::ChunkEnd(outgoing.digest()));
}

#[test]
fn altered_bytes_in_the_exchange_are_found() {
    let said = rank_0_against(GREETING, |stream| {
        let mut outgoing = Outgoing::new(EXCHANGE);
        let mut chunk = outgoing.chunk().unwrap();
        chunk[4321] ^= 1;
        send(stream, &Message::Chunk(chunk));
        send(stream, &Message::ChunkEnd(outgoing.digest()));
    });
    assert!(
        said.starts_with("lost rank 1 (127.0.0.1:1): the exchanged bytes were altered"),
        "{said}"
    );
}

#[test]
fn more_bytes_than_agreed_are_refused() {
    let said = rank_0_against(GREETING, |stream| send(stream, &Message::Chunk(vec![0; 5001])));
    assert!(said.ends_with("the exchange brought 5001 bytes, expected 5000"), "{said}");
}

#[test]
fn garbled_frames_are_refused() {
    let said = rank_0_against(GREETING, |stream| stream.write_all(&[0xff; 64]).unwrap());
    assert!(said.ends_with("it sent a frame of 4294967295 bytes, out of bounds"), "{said}");
    let said = rank_0_against(GREETING, |stream| stream.write_all(&[0, 0, 0, 1, 99]).unwrap());
    assert!(said.ends_with("it sent a frame of unknown kind 99"), "{said}");
}

#[test]
fn a_connection_cut_within_a_frame_is_a_lost_rank() {
    let said = rank_0_against(GREETING, |stream| {
        stream.write_all(&[0, 0, 0, 33, 2, 0]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert_eq!(said, "lost rank 1 (127.0.0.1:1): it closed the connection");
}

#[test]
fn another_version_is_refused() {
    let newer = Greeting { version: VERSION + 1, ..GREETING };
    let said = rank_0_against(newer, |_| {});
    assert!(said.contains("it speaks version 2 of the protocol, this rank version 1"), "{said}");
}

#[test]
fn another_number_of_ranks_is_refused() {
    let other = Greeting { ranks: 3, ..GREETING };
    let said = rank_0_against(other, |_| {});
    assert!(said.contains("it counts 3 ranks, this rank 2"), "{said}");
}

#[test]
fn work_that_nobody_asked_for_is_refused() {
    let said = rank_0_against(GREETING, |stream| {
        exchange(stream);
        send(stream, &Message::Grant(0..1));
    });
    assert!(said.ends_with("it gave work without being asked"), "{said}");
}

#[test]
fn units_beyond_the_board_are_refused() {
    let said = rank_0_against(GREETING, |stream| {
        exchange(stream);
        send(stream, &Message::Grant(0..u32::MAX));
    });
    assert!(said.ends_with("it gave units that the board has not"), "{said}");
}

#[test]
fn too_many_units_are_no_count() {
    let said = rank_0_against(GREETING, |stream| {
        exchange(stream);
        send(stream, &Message::Report(Tally { units: 1 << 40, names: 0, solutions: 1 }));
    });
    assert!(said.starts_with("the count is not sound: 1099511627776 units were counted"), "{said}");
}

#[test]
fn leaving_early_is_no_count() {
    let said = rank_0_against(GREETING, |stream| {
        exchange(stream);
        send(stream, &Message::Bye);
    });
    assert!(said.ends_with("it left before the count was complete"), "{said}");
}
