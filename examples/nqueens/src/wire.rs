//! What ranks say to each other: one fixed greeting, then frames of bounded length.
//!
//! ```text
//! greeting  magic(8) version(2) N(1) zero(1) ranks(4) rank(4) exchange(8)      28 bytes
//! frame     length(4) kind(1) body(length - 1)          1 <= length <= MAX_FRAME
//! ```
//! All integers are big-endian. Nothing that a peer sends makes the reader allocate more than
//! [`MAX_FRAME`] bytes.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use crate::ledger::Tally;

/// First bytes of every connection.
const MAGIC: [u8; 8] = *b"nqueens\n";
/// Version of this page; ranks of different versions do not work together.
pub(crate) const VERSION: u16 = 1;
/// Bytes of one frame without its length, at most: a chunk and its kind.
const MAX_FRAME: usize = MAX_CHUNK + 1;
/// Bytes of the exchange in one frame, at most (chosen: heartbeats never wait long behind one).
pub(crate) const MAX_CHUNK: usize = 32 * 1024;
/// Bytes of the text in an [`Message::Abort`], at most.
const MAX_REASON: usize = 512;

/// What a rank says of itself before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: u16,
    pub(crate) n: u8,
    pub(crate) ranks: u32,
    pub(crate) rank: u32,
    /// Bytes that each rank sends to each other before the search.
    pub(crate) exchange: u64,
}

impl Greeting {
    const LEN: usize = 28;

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend(MAGIC);
        bytes.extend(self.version.to_be_bytes());
        bytes.extend([self.n, 0]);
        bytes.extend(self.ranks.to_be_bytes());
        bytes.extend(self.rank.to_be_bytes());
        bytes.extend(self.exchange.to_be_bytes());
        to.write_all(&bytes)
    }

    pub(crate) fn read(from: &mut impl Read) -> Result<Self, WireError> {
        let mut bytes = [0; Self::LEN];
        // The magic alone first: a stranger may have less to say and then wait.
        let (magic, rest) = bytes.split_at_mut(MAGIC.len());
        from.read_exact(magic)?;
        if magic != MAGIC {
            return Err(WireError::Magic);
        }
        from.read_exact(rest)?;
        let mut body = Body(rest);
        let version = u16::from_be_bytes(body.take()?);
        let [n, _] = body.take()?;
        let ranks = u32::from_be_bytes(body.take()?);
        let rank = u32::from_be_bytes(body.take()?);
        let exchange = body.number()?;
        Ok(Self { version, n, ranks, rank, exchange })
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The next bytes of the exchange.
    Chunk(Vec<u8>),
    /// The exchange is over; the SHA-256 of all its bytes.
    ChunkEnd([u8; 32]),
    /// Still here.
    Heartbeat,
    /// Asks for work.
    Ask,
    /// Answers [`Message::Ask`]; an empty range when there is none to spare.
    Grant(Range<u32>),
    /// To rank 0: nothing left to do; all that this rank has finished since the start.
    Report(Tally),
    /// From rank 0: the count is complete.
    Finish {
        /// Solutions of the whole board.
        solutions: u64,
    },
    /// This rank is about to leave, as it should.
    Bye,
    /// This rank gives up because of `culprit`.
    Abort {
        /// The rank that failed, or the sender.
        culprit: u32,
        /// Why, for people.
        reason: String,
    },
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it does not speak the protocol of nqueens")]
    Magic,
    #[error("it sent a frame of {0} bytes, out of bounds")]
    Length(usize),
    #[error("it sent a frame of unknown kind {0}")]
    Kind(u8),
    #[error("it sent a frame that is too short or too long for its kind")]
    Body,
}

impl Message {
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut frame = vec![0; 4];
        match self {
            Self::Chunk(bytes) => {
                frame.push(1);
                frame.extend_from_slice(bytes);
            }
            Self::ChunkEnd(digest) => {
                frame.push(2);
                frame.extend(digest);
            }
            Self::Heartbeat => frame.push(3),
            Self::Ask => frame.push(4),
            Self::Grant(range) => {
                frame.push(5);
                frame.extend(range.start.to_be_bytes());
                frame.extend(range.end.to_be_bytes());
            }
            Self::Report(tally) => {
                frame.push(6);
                for number in [tally.units, tally.names, tally.solutions] {
                    frame.extend(number.to_be_bytes());
                }
            }
            Self::Finish { solutions } => {
                frame.push(7);
                frame.extend(solutions.to_be_bytes());
            }
            Self::Bye => frame.push(8),
            Self::Abort { culprit, reason } => {
                frame.push(9);
                frame.extend(culprit.to_be_bytes());
                let reason = reason.as_bytes();
                frame.extend_from_slice(&reason[..reason.len().min(MAX_REASON)]);
            }
        }
        let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        // One write, so that a frame is one segment where it fits.
        to.write_all(&frame)
    }

    pub(crate) fn read(from: &mut impl Read) -> Result<Self, WireError> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(1..=MAX_FRAME).contains(&length) {
            return Err(WireError::Length(length));
        }
        let mut frame = vec![0; length];
        from.read_exact(&mut frame)?;
        let kind = frame[0];
        let mut body = Body(&frame[1..]);
        let message = match kind {
            1 => return Ok(Self::Chunk(frame.split_off(1))),
            2 => Self::ChunkEnd(body.take()?),
            3 => Self::Heartbeat,
            4 => Self::Ask,
            5 => {
                let start = u32::from_be_bytes(body.take()?);
                Self::Grant(start..u32::from_be_bytes(body.take()?))
            }
            6 => {
                let (units, names) = (body.number()?, body.number()?);
                Self::Report(Tally { units, names, solutions: body.number()? })
            }
            7 => Self::Finish { solutions: body.number()? },
            8 => Self::Bye,
            9 => {
                let culprit = u32::from_be_bytes(body.take()?);
                return Ok(Self::Abort { culprit, reason: body.text()? });
            }
            other => return Err(WireError::Kind(other)),
        };
        if body.0.is_empty() { Ok(message) } else { Err(WireError::Body) }
    }
}

/// The part of a frame not yet read.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const LEN: usize>(&mut self) -> Result<[u8; LEN], WireError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(WireError::Body)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// The rest as text that cannot harm a terminal.
    fn text(&mut self) -> Result<String, WireError> {
        if self.0.len() > MAX_REASON {
            return Err(WireError::Body);
        }
        let text = String::from_utf8_lossy(self.0);
        Ok(text.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_message() -> Vec<Message> {
        vec![
            Message::Chunk(vec![7; MAX_CHUNK]),
            Message::Chunk(Vec::new()),
            Message::ChunkEnd([9; 32]),
            Message::Heartbeat,
            Message::Ask,
            Message::Grant(3..u32::MAX),
            Message::Report(Tally { units: 1, names: u64::MAX, solutions: 3 }),
            Message::Finish { solutions: 2_279_184 },
            Message::Bye,
            Message::Abort { culprit: 4, reason: "the line is cut".to_owned() },
        ]
    }

    #[test]
    fn messages_come_back_and_truncated_ones_do_not() {
        for message in every_message() {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            assert_eq!(Message::read(&mut bytes.as_slice()).unwrap(), message);
            for length in 0..bytes.len().min(80) {
                let error = Message::read(&mut &bytes[..length]).unwrap_err();
                assert!(matches!(error, WireError::Io(_)), "{message:?} cut to {length}: {error}");
            }
        }
    }

    #[test]
    fn bodies_of_the_wrong_length_are_refused() {
        for message in every_message() {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            if matches!(message, Message::Chunk(_) | Message::Abort { .. }) {
                continue;
            }
            bytes.push(0);
            bytes[3] += 1;
            assert!(matches!(Message::read(&mut bytes.as_slice()), Err(WireError::Body)));
        }
    }

    #[test]
    fn frames_out_of_bounds_and_unknown_kinds_are_refused() {
        for length in [0, MAX_FRAME as u32 + 1, u32::MAX] {
            let bytes = length.to_be_bytes();
            let error = Message::read(&mut bytes.as_slice()).unwrap_err();
            assert!(matches!(error, WireError::Length(_)), "{error}");
        }
        assert!(matches!(
            Message::read(&mut [0, 0, 0, 1, 77].as_slice()),
            Err(WireError::Kind(77))
        ));
    }

    #[test]
    fn greetings_come_back_and_strangers_are_told_apart() {
        let greeting = Greeting { version: VERSION, n: 15, ranks: 6, rank: 5, exchange: 1 << 20 };
        let mut bytes = Vec::new();
        greeting.write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), Greeting::LEN);
        assert_eq!(Greeting::read(&mut bytes.as_slice()).unwrap(), greeting);
        let stranger = b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n";
        assert!(matches!(Greeting::read(&mut stranger.as_slice()), Err(WireError::Magic)));
    }

    #[test]
    fn reasons_cannot_steer_a_terminal() {
        let mut bytes = Vec::new();
        Message::Abort { culprit: 0, reason: "\u{1b}[2J".to_owned() }.write(&mut bytes).unwrap();
        let Message::Abort { reason, .. } = Message::read(&mut bytes.as_slice()).unwrap() else {
            panic!("not an abort");
        };
        assert_eq!(reason, "?[2J");
    }
}
