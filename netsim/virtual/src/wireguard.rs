//! A stand-in for WireGuard's sessions: who has which keys, and when they may be used.
//!
//! As in WireGuard the responder sends nothing until the initiator has used the new keys, and
//! packets under keys that are not known are dropped. There is no secrecy: a key is a number.

use overlay_core::SessionKey;

/// An inner packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inner {
    /// An empty one.
    Keepalive,
    /// A probe of the overlay's core.
    Probe(Vec<u8>),
    /// The job's data, numbered.
    Data(u64),
}

/// A packet of the stand-in. `session` is named from the receiver's point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WgPacket {
    /// Offers a key.
    Initiation {
        /// Whose.
        session: SessionKey,
        /// The key.
        key: u64,
    },
    /// Takes an offered key.
    Response {
        /// Whose.
        session: SessionKey,
        /// The key.
        key: u64,
    },
    /// An inner packet under a key.
    Transport {
        /// Whose.
        session: SessionKey,
        /// The key.
        key: u64,
        /// The inner packet.
        inner: Inner,
    },
}

impl WgPacket {
    /// The session as its receiver calls it.
    pub fn session(&self) -> SessionKey {
        match self {
            Self::Initiation { session, .. }
            | Self::Response { session, .. }
            | Self::Transport { session, .. } => *session,
        }
    }
}

/// One session at one end.
#[derive(Debug, Default)]
pub(crate) struct Wg {
    offered: Vec<u64>,
    usable: Vec<u64>,
}

/// What a received packet means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Answer with a response on the same path.
    Respond(u64),
    /// New keys: confirm them with a keepalive on the same path.
    Confirm,
    /// Authentic; true if the keys are new.
    Inner(Inner, bool),
    Nothing,
}

impl Wg {
    pub(crate) fn initiate(&mut self, key: u64) {
        self.offered.push(key);
    }

    /// The key to seal with.
    pub(crate) fn key(&self) -> Option<u64> {
        self.usable.last().copied()
    }

    pub(crate) fn open(&mut self, packet: WgPacket) -> Opened {
        match packet {
            WgPacket::Initiation { key, .. } => {
                if !self.offered.contains(&key) {
                    self.offered.push(key);
                }
                Opened::Respond(key)
            }
            WgPacket::Response { key, .. } if self.offered.contains(&key) => {
                if self.usable.contains(&key) {
                    return Opened::Nothing;
                }
                self.usable.push(key);
                Opened::Confirm
            }
            WgPacket::Response { .. } => Opened::Nothing,
            WgPacket::Transport { key, inner, .. } if self.offered.contains(&key) => {
                let is_new = !self.usable.contains(&key);
                if is_new {
                    self.usable.push(key);
                }
                Opened::Inner(inner, is_new)
            }
            WgPacket::Transport { .. } => Opened::Nothing,
        }
    }
}
