//! Control frames: asking a reflector for one's endpoint, and binding an address to a relay channel.
//!
//! ```text
//!   node ─ReflectRequest─▶ reflector        node ─BindRequest──▶ relay    (no state yet)
//!   node ◀ReflectResponse─ reflector        node ◀BindChallenge─ relay    cookie over the address
//!                                           node ─BindAnswer───▶ relay    the address is bound
//!                                           node ◀BindAck─────── relay
//! ```
//!
//! Each frame is [`MAGIC`], a type byte and fields of fixed length; requests are padded so that no
//! answer is longer than what asked for it. Lengths are exact; what the padding holds is ignored, so
//! that later versions may say more there.
//!
//! One keepalive serves all channels of a node at a relay: the relay answers to addresses that are
//! bound only, and takes it as a sign of life of each of their channels.

use std::fmt;
use std::net::SocketAddr;

use super::address;
use super::hex::{ParseHexError, format_hex, parse_array};

/// The first bytes of a control frame; the last is the version.
pub const MAGIC: [u8; 4] = [0x0b, 0x43, 0x48, 0x01];

/// The length of a sealed ticket.
pub const TICKET_LEN: usize = 30;

/// The version in [`Ticket::version`] that this crate writes and reads.
pub const TICKET_VERSION: u8 = 1;

/// The length of a reflect request, padded above that of the response.
pub const REFLECT_REQUEST_LEN: usize = 48;

/// The length of a keepalive, padded above that of its answer.
pub const KEEPALIVE_LEN: usize = 48;

/// The length of a bind request and of a bind answer.
pub const BIND_LEN: usize = 64;

/// The right to one side of a relay channel, sealed by the relay's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// [`TICKET_VERSION`].
    pub version: u8,
    /// 0 for the node with the lower [`NodeId`](crate::NodeId) of the pair, 1 for the other.
    pub side: u8,
    /// The pair's channel.
    pub channel: u32,
    /// When the ticket ends, seconds since the Unix epoch.
    pub expires_unix: u64,
    /// Keyed BLAKE2s-128 by the relay's key over [`Ticket::sealed_part`]. A secret: with it anybody
    /// could bind.
    pub mac: [u8; 16],
}

/// Leaves the seal out.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("side", &self.side)
            .field("channel", &self.channel)
            .field("expires_unix", &self.expires_unix)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    /// The 14 bytes that the seal covers.
    pub fn sealed_part(&self) -> [u8; 14] {
        let mut bytes = [0u8; 14];
        bytes[0] = self.version;
        bytes[1] = self.side;
        bytes[2..6].copy_from_slice(&self.channel.to_be_bytes());
        bytes[6..14].copy_from_slice(&self.expires_unix.to_be_bytes());
        bytes
    }

    /// The ticket as it travels.
    pub fn to_bytes(&self) -> [u8; TICKET_LEN] {
        let mut bytes = [0u8; TICKET_LEN];
        bytes[..14].copy_from_slice(&self.sealed_part());
        bytes[14..].copy_from_slice(&self.mac);
        bytes
    }

    /// Takes the bytes apart. The version, the side and the seal are for the relay to check.
    pub fn from_bytes(bytes: &[u8; TICKET_LEN]) -> Self {
        let mut fields = Fields(bytes);
        // The array is exactly as long as its fields, so nothing is ever missing.
        Self::read(&mut fields).unwrap_or(Self {
            version: 0,
            side: 0,
            channel: 0,
            expires_unix: 0,
            mac: [0; 16],
        })
    }

    /// Reads the text of [`RelayTicket::sealed`](crate::RelayTicket::sealed).
    pub fn from_hex(text: &str) -> Result<Self, ParseHexError> {
        Ok(Self::from_bytes(&parse_array(text)?))
    }

    /// The text for [`RelayTicket::sealed`](crate::RelayTicket::sealed).
    pub fn to_hex(&self) -> String {
        format_hex(&self.to_bytes())
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            version: u8::from_be_bytes(fields.take()?),
            side: u8::from_be_bytes(fields.take()?),
            channel: u32::from_be_bytes(fields.take()?),
            expires_unix: u64::from_be_bytes(fields.take()?),
            mac: fields.take()?,
        })
    }
}

/// A control frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ControlFrame {
    /// Asks a reflector how it sees the sender.
    ReflectRequest {
        /// The reflector answers to tokens of its own key only.
        token: [u8; 16],
        /// Returned in the answer.
        nonce: [u8; 8],
    },
    /// Asks for the same answer at another port of the sender's address, or from the reflector's second
    /// socket, or both: whether it arrives tells what the NAT in between lets in (RFC 5780 §4.4) and
    /// for how long it remembers a mapping (§4.6).
    ReflectElsewhere {
        /// As in [`ControlFrame::ReflectRequest`].
        token: [u8; 16],
        /// Returned in the answer.
        nonce: [u8; 8],
        /// Where the answer goes, at the address of the request's source; 0: to the source itself.
        port: u16,
        /// The answer comes from another port of the reflector's host.
        from_other: bool,
    },
    /// How the reflector sees the sender of the request.
    ReflectResponse {
        /// Of the request.
        nonce: [u8; 8],
        /// The source of the request.
        observed: SocketAddr,
    },
    /// Asks to bind the sender's address to one side of a channel.
    BindRequest {
        /// The right to do so.
        ticket: Ticket,
        /// Returned in the answers.
        nonce: [u8; 8],
    },
    /// Asks the sender to prove that it receives at its address.
    BindChallenge {
        /// Of the request.
        nonce: [u8; 8],
        /// To be returned in the answer.
        cookie: [u8; 16],
    },
    /// Proves it.
    BindAnswer {
        /// As in the request.
        ticket: Ticket,
        /// As in the request.
        nonce: [u8; 8],
        /// Of the challenge.
        cookie: [u8; 16],
    },
    /// The address is bound.
    BindAck {
        /// Of the request.
        nonce: [u8; 8],
        /// The channel of the ticket.
        channel: u32,
        /// How long the binding lives without packets, seconds.
        lifetime_s: u16,
    },
    /// Keeps every channel alive that the sender's address is bound to.
    KeepAlive {
        /// Returned in the answer.
        nonce: [u8; 8],
    },
    /// The channels are alive.
    KeepAliveAck {
        /// Of the keepalive.
        nonce: [u8; 8],
        /// The source of the keepalive.
        observed: SocketAddr,
        /// How many channels that address is bound to.
        channels: u16,
        /// How long they live without packets, seconds.
        lifetime_s: u16,
    },
}

/// Names the kind only: tokens, tickets and cookies are secrets.
impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReflectRequest { .. } => "ReflectRequest",
            Self::ReflectElsewhere { .. } => "ReflectElsewhere",
            Self::ReflectResponse { .. } => "ReflectResponse",
            Self::BindRequest { .. } => "BindRequest",
            Self::BindChallenge { .. } => "BindChallenge",
            Self::BindAnswer { .. } => "BindAnswer",
            Self::BindAck { .. } => "BindAck",
            Self::KeepAlive { .. } => "KeepAlive",
            Self::KeepAliveAck { .. } => "KeepAliveAck",
        })
    }
}

/// Why bytes are no control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeControlError {
    /// The magic is another.
    #[error("not a control frame")]
    NotControl,
    /// The type byte is none of this version.
    #[error("unknown control frame type {0}")]
    UnknownType(u8),
    /// The frame is not exactly as long as its type says.
    #[error("control frame of type {kind} has {len} bytes")]
    WrongLength {
        /// The type byte.
        kind: u8,
        /// The length of the datagram.
        len: usize,
    },
    /// The address family is neither 4 nor 6.
    #[error("unknown address family in a control frame")]
    UnknownFamily,
}

impl ControlFrame {
    /// The frame as a datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BIND_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(self.kind());
        match self {
            Self::ReflectRequest { token, nonce } => {
                bytes.extend_from_slice(token);
                bytes.extend_from_slice(nonce);
            }
            Self::ReflectElsewhere { token, nonce, port, from_other } => {
                bytes.extend_from_slice(token);
                bytes.extend_from_slice(nonce);
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.push(u8::from(*from_other));
            }
            Self::ReflectResponse { nonce, observed } => {
                bytes.extend_from_slice(nonce);
                bytes.extend_from_slice(&address::encode(Some(*observed)));
            }
            Self::BindRequest { ticket, nonce } => {
                bytes.extend_from_slice(&ticket.to_bytes());
                bytes.extend_from_slice(nonce);
            }
            Self::BindChallenge { nonce, cookie } => {
                bytes.extend_from_slice(nonce);
                bytes.extend_from_slice(cookie);
            }
            Self::BindAnswer { ticket, nonce, cookie } => {
                bytes.extend_from_slice(&ticket.to_bytes());
                bytes.extend_from_slice(nonce);
                bytes.extend_from_slice(cookie);
            }
            Self::BindAck { nonce, channel, lifetime_s } => {
                bytes.extend_from_slice(nonce);
                bytes.extend_from_slice(&channel.to_be_bytes());
                bytes.extend_from_slice(&lifetime_s.to_be_bytes());
            }
            Self::KeepAlive { nonce } => bytes.extend_from_slice(nonce),
            Self::KeepAliveAck { nonce, observed, channels, lifetime_s } => {
                bytes.extend_from_slice(nonce);
                bytes.extend_from_slice(&address::encode(Some(*observed)));
                bytes.extend_from_slice(&channels.to_be_bytes());
                bytes.extend_from_slice(&lifetime_s.to_be_bytes());
            }
        }
        if let Some(len) = wire_len(self.kind()) {
            bytes.resize(len, 0);
        }
        bytes
    }

    /// Reads a datagram of class [`Class::Control`](super::Class::Control).
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeControlError> {
        let rest = datagram.strip_prefix(&MAGIC).ok_or(DecodeControlError::NotControl)?;
        let (&kind, rest) = rest.split_first().ok_or(DecodeControlError::NotControl)?;
        let len = wire_len(kind).ok_or(DecodeControlError::UnknownType(kind))?;
        let wrong_length = DecodeControlError::WrongLength { kind, len: datagram.len() };
        if datagram.len() != len {
            return Err(wrong_length);
        }
        Self::read(kind, Fields(rest)).ok_or(wrong_length)?
    }

    fn read(kind: u8, mut fields: Fields<'_>) -> Option<Result<Self, DecodeControlError>> {
        Some(Ok(match kind {
            1 => Self::ReflectRequest { token: fields.take()?, nonce: fields.take()? },
            2 => {
                let nonce = fields.take()?;
                let Some(observed) = fields.take_address()? else {
                    return Some(Err(DecodeControlError::UnknownFamily));
                };
                Self::ReflectResponse { nonce, observed }
            }
            3 => Self::BindRequest { ticket: Ticket::read(&mut fields)?, nonce: fields.take()? },
            4 => Self::BindChallenge { nonce: fields.take()?, cookie: fields.take()? },
            5 => Self::BindAnswer {
                ticket: Ticket::read(&mut fields)?,
                nonce: fields.take()?,
                cookie: fields.take()?,
            },
            6 => Self::BindAck {
                nonce: fields.take()?,
                channel: u32::from_be_bytes(fields.take()?),
                lifetime_s: u16::from_be_bytes(fields.take()?),
            },
            7 => Self::ReflectElsewhere {
                token: fields.take()?,
                nonce: fields.take()?,
                port: u16::from_be_bytes(fields.take()?),
                from_other: fields.take::<1>()? != [0],
            },
            8 => Self::KeepAlive { nonce: fields.take()? },
            9 => {
                let nonce = fields.take()?;
                let Some(observed) = fields.take_address()? else {
                    return Some(Err(DecodeControlError::UnknownFamily));
                };
                let channels = u16::from_be_bytes(fields.take()?);
                let lifetime_s = u16::from_be_bytes(fields.take()?);
                Self::KeepAliveAck { nonce, observed, channels, lifetime_s }
            }
            other => return Some(Err(DecodeControlError::UnknownType(other))),
        }))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::ReflectRequest { .. } => 1,
            Self::ReflectResponse { .. } => 2,
            Self::BindRequest { .. } => 3,
            Self::BindChallenge { .. } => 4,
            Self::BindAnswer { .. } => 5,
            Self::BindAck { .. } => 6,
            Self::ReflectElsewhere { .. } => 7,
            Self::KeepAlive { .. } => 8,
            Self::KeepAliveAck { .. } => 9,
        }
    }
}

/// The exact length of each frame type, magic and type byte included.
fn wire_len(kind: u8) -> Option<usize> {
    Some(match kind {
        1 | 7 => REFLECT_REQUEST_LEN,
        2 => 5 + 8 + address::LEN,
        3 | 5 => BIND_LEN,
        4 => 5 + 8 + 16,
        6 => 5 + 8 + 4 + 2,
        8 => KEEPALIVE_LEN,
        9 => 5 + 8 + address::LEN + 2 + 2,
        _ => return None,
    })
}

/// Takes fields of fixed length from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    /// The inner none: of no known family.
    fn take_address(&mut self) -> Option<Option<SocketAddr>> {
        let bytes = self.take()?;
        Some(address::decode(&bytes).ok().flatten())
    }
}

#[cfg(test)]
mod tests;
