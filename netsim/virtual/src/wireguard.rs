//! A stand-in for WireGuard: the same messages, sizes, states and times, without the cryptography.
//!
//! What is encrypted there is a number here that only the two ends have; nobody in a simulation
//! guesses. Everything that decides whether a packet can be opened is kept: fresh keys by a handshake
//! of two messages, the responder that waits for the first packet under them, at most two
//! initiations remembered, timestamps against replayed initiations, eight key pairs in a ring, the
//! window of counters, the ages at which keys are renewed and refused, cookies under load. Times and
//! habits are those of boringtun 0.7, which overlay/driver uses; one suite of traces is run against
//! both (overlay/driver/tests/wireguard.rs).

mod keys;
mod load;
mod tunnel;

use keys::Window;
pub use load::MOST_HANDSHAKES;
pub use tunnel::{Opened, Tick, Tunnel};

/// An inner packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inner {
    /// An empty one.
    Keepalive,
    /// A probe of the overlay's core.
    Probe(Vec<u8>),
    /// The job's data, numbered.
    Data(u64),
    /// The job's data, of that many bytes.
    Bulk(u32),
}

/// Bytes of [`Inner::Data`]. Chosen: a small message.
pub const DATA_BYTES: usize = 100;

impl Inner {
    /// Bytes of the inner IP packet.
    pub fn len(&self) -> usize {
        match self {
            Self::Keepalive => 0,
            Self::Probe(bytes) => bytes.len(),
            Self::Data(_) => DATA_BYTES,
            Self::Bulk(bytes) => *bytes as usize,
        }
    }

    /// Whether it is a keepalive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The keys of a handshake: a number of each side, drawn for it.
pub(crate) type Secret = (u64, u64);

/// A message between two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first of a handshake.
    Initiation {
        /// The sender's name for the keys that will come of it.
        sender: u32,
        /// The sender's drawn number.
        ephemeral: u64,
        /// The sender's public key, and the receiver's.
        statics: (u64, u64),
        /// Grows from one to the next.
        timestamp: u64,
        /// The cookie that the receiver has given.
        cookie: Option<u64>,
    },
    /// The second of a handshake.
    Response {
        /// The sender's name for the keys.
        sender: u32,
        /// The receiver's, from the initiation.
        receiver: u32,
        /// The number of the initiation, and the sender's own.
        keys: (u64, u64),
        /// The cookie that the receiver has given.
        cookie: Option<u64>,
    },
    /// In place of an answer, under load: show this, to prove your address.
    Cookie {
        /// From the message that is not answered.
        receiver: u32,
        /// What to show.
        cookie: u64,
    },
    /// An inner packet.
    Transport {
        /// The receiver's name for the keys.
        receiver: u32,
        /// The keys.
        keys: (u64, u64),
        /// Of the packets under these keys.
        counter: u64,
        /// What is inside.
        inner: Inner,
    },
}

impl Message {
    /// Bytes of the UDP payload.
    pub fn wire_len(&self) -> usize {
        match self {
            Self::Initiation { .. } => 148,
            Self::Response { .. } => 92,
            Self::Cookie { .. } => 64,
            Self::Transport { inner, .. } => 32 + inner.len(),
        }
    }

    /// Whether it begins a handshake.
    pub fn is_initiation(&self) -> bool {
        matches!(self, Self::Initiation { .. })
    }
}
