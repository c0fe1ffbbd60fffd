//! Frames in a stream.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::wire::tunnel::{self, Frame, HEADER_LEN, MAX_DATAGRAM};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::{Deliver, Queued};

/// Bytes that are read or written at a time.
const CHUNK: usize = 32 * 1024;

/// Carries datagrams both ways until the stream ends, or is silent for longer than `patience`.
///
/// # Errors
///
/// Why it ended: `InvalidData` when the other side sent what is no frame, `TimedOut` after silence.
pub async fn carry_stream(
    stream: impl AsyncRead + AsyncWrite,
    queued: Queued,
    deliver: impl Deliver,
    patience: Duration,
) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        ended = read(reader, deliver, patience) => ended,
        ended = write(writer, queued) => ended,
    }
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    mut deliver: impl Deliver,
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        let (mut taken, mut places) = (0, Vec::new());
        while let Some(Frame { target, datagram, len }) = tunnel::decode(&buffer[taken..])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            taken += len;
            places.push((target, taken - datagram.len()..taken));
        }
        if !places.is_empty() {
            let all = Bytes::copy_from_slice(&buffer[..taken]);
            buffer.drain(..taken);
            let cut = |(target, place)| (target, all.slice(place));
            deliver.deliver(places.into_iter().map(cut).collect()).await?;
        }
        // What is left is less than a frame, so the buffer does not grow beyond a frame and a chunk.
        let mut limited = (&mut reader).take(CHUNK as u64);
        match timeout(patience, limited.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut queued: Queued) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK + MAX_DATAGRAM + HEADER_LEN);
    let mut waiting = VecDeque::new();
    loop {
        let Some(next) = queued.next(waiting).await else { return Ok(()) };
        waiting = next;
        while let Some((target, datagram)) = waiting.pop_front() {
            tunnel::encode(target, &datagram, &mut bytes);
            if bytes.len() >= CHUNK || waiting.is_empty() {
                writer.write_all(&bytes).await?;
                bytes.clear();
            }
        }
        writer.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use overlay_core::wire::tunnel::Target;
    use tokio::io::duplex;

    use super::*;
    use crate::queue;
    use crate::queue::QUEUE;

    #[tokio::test]
    async fn a_stream_that_is_not_read_loses_the_oldest() {
        let (queue, queued) = queue();
        let (mut stream, other) = duplex(64);
        let writing = tokio::spawn(write(other, queued));
        for number in 0..=u16::try_from(4 * QUEUE).unwrap() {
            assert!(queue.push(Target::Relay, number.to_be_bytes().to_vec()));
            tokio::task::yield_now().await;
        }
        drop(queue);
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap().unwrap();
        let last = u16::try_from(4 * QUEUE).unwrap().to_be_bytes();
        assert_eq!(received[received.len() - 2..], last);
        assert!(received.len() / 5 <= 2 * QUEUE, "{} frames", received.len() / 5);
    }
}
