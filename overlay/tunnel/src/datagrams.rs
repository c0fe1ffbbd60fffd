//! The same in QUIC's unreliable datagrams (RFC 9221).

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::FutureExt as _;
use overlay_core::wire::relay;
use overlay_core::wire::tunnel::{self, Target};
use quinn::{Connection, SendDatagramError};

use crate::congestion::lift;
use crate::{Deliver, Queued};

/// Datagrams that are handed over at a time. Chosen: what one system call carries.
const BATCH: usize = 64;

/// Carries datagrams both ways until the connection ends. Relay frames that do not fit it travel in two
/// parts; what else does not fit is lost, as on any network.
///
/// # Errors
///
/// Why it ended.
pub async fn carry_datagrams(
    connection: Connection,
    queued: Queued,
    deliver: impl Deliver,
) -> io::Result<()> {
    lift(&connection);
    tokio::select! {
        ended = read(&connection, deliver) => ended,
        ended = write(&connection, queued) => ended,
    }
}

async fn read(connection: &Connection, mut deliver: impl Deliver) -> io::Result<()> {
    loop {
        let mut arrived = Vec::with_capacity(BATCH);
        let mut take = |bytes: &Bytes| {
            // Anybody may send anything.
            let decoded = tunnel::decode_datagram(bytes);
            arrived.extend(decoded.map(|(target, datagram)| (target, datagram.to_vec())));
        };
        take(&connection.read_datagram().await?);
        // What is there already goes on in the same batch.
        for _ in 1..BATCH {
            let Some(bytes) = connection.read_datagram().now_or_never() else { break };
            take(&bytes?);
        }
        if !arrived.is_empty() {
            deliver.deliver(arrived).await?;
        }
    }
}

async fn write(connection: &Connection, mut queued: Queued) -> io::Result<()> {
    let mut numbers = 0u16;
    let mut waiting = VecDeque::new();
    loop {
        let Some(next) = queued.next(waiting).await else { return Ok(()) };
        waiting = next;
        // It grows while the connection measures its path.
        let longest = connection.max_datagram_size().unwrap_or(0);
        while let Some((target, datagram)) = waiting.pop_front() {
            for piece in pieces(target, datagram, longest, &mut numbers) {
                // Where QUIC has no room this waits, and the oldest of the queue go meanwhile.
                match connection.send_datagram_wait(piece.into()).await {
                    Ok(()) | Err(SendDatagramError::TooLarge) => {}
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
        }
    }
}

/// The QUIC datagrams of at most `longest` bytes for one datagram: none, one or two.
fn pieces(target: Target, datagram: Vec<u8>, longest: usize, numbers: &mut u16) -> Vec<Vec<u8>> {
    if datagram.len() < longest {
        return vec![tunnel::encode_datagram(target, &datagram)];
    }
    let Some((channel, packet)) = relay::parse(&datagram) else { return Vec::new() };
    *numbers = numbers.wrapping_add(1);
    let halves = relay::split(channel, *numbers, packet).into_iter().flatten();
    halves
        .filter(|half| half.len() < longest)
        .map(|half| tunnel::encode_datagram(target, &half))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_frames_that_do_not_fit_travel_in_two_parts() {
        let mut numbers = 0;
        let mut lens = |len: usize, longest| {
            let frame = relay::encode(7, &vec![1; len]);
            let pieces = pieces(Target::Relay, frame, longest, &mut numbers);
            pieces.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lens(100, 1200), [109]);
        assert_eq!(lens(1191, 1200), [1200]);
        assert_eq!(lens(1192, 1200), [609, 609], "one byte too many");
        assert_eq!(lens(1444, 1200), [735, 735]);
        assert_eq!(lens(1444, 100), [0; 0]);
        assert_eq!(numbers, 3);
        let other = pieces(Target::Control, vec![0x40; 1300], 1200, &mut numbers);
        assert!(other.is_empty(), "only the relay's frames have parts");
    }
}
