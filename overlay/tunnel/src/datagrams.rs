//! The same in QUIC's unreliable datagrams (RFC 9221).

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::FutureExt as _;
use quinn::{Connection, SendDatagramError};

use crate::congestion::lift;
use crate::packing::{Packer, Unpacker};
use crate::{Deliver, Queued};

/// QUIC's datagrams that are handed over at a time. Chosen: what one system call carries.
const BATCH: usize = 64;

/// Carries datagrams both ways until the connection ends.
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
    let mut unpacker = Unpacker::default();
    loop {
        let mut arrived = Vec::with_capacity(BATCH);
        let mut take = |bytes: &Bytes| unpacker.take(bytes, |datagram| arrived.push(datagram));
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
    let mut packer = Packer::default();
    let (mut waiting, mut packed) = (VecDeque::new(), VecDeque::new());
    loop {
        let Some(next) = queued.next(waiting).await else { return Ok(()) };
        waiting = next;
        // It grows while the connection measures its path.
        let longest = connection.max_datagram_size().unwrap_or(0);
        while let Some((target, datagram)) = waiting.pop_front() {
            packer.push((target, &datagram), longest, |full| packed.push_back(full));
            if waiting.is_empty() {
                packer.flush(|last| packed.push_back(last));
            }
            while let Some(full) = packed.pop_front() {
                // Where QUIC has no room this waits, and the oldest of the queue go meanwhile.
                match connection.send_datagram_wait(full).await {
                    Ok(()) | Err(SendDatagramError::TooLarge) => {}
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
        }
    }
}
