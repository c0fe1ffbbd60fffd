//! Datagrams inside a TLS stream, for networks that let no UDP through, and inside QUIC's datagrams, for
//! those that let UDP pass to one port only.
//!
//! A frame of a stream is a length (`u16`, of what follows), a target, and the datagram as it would be on the
//! wire. The coordinator's end of the stream passes it on to the socket that the target names, and
//! what comes back with the same target in front. So everything behind it is as with UDP: the
//! session with the coordinator is QUIC, the relay asks for tickets and proofs, and what the jobs
//! say is sealed end to end. QUIC's datagrams carry such frames, too, cut where one of them is full (overlay/tunnel).

/// Chosen in the TLS handshake (ALPN), so that API and tunnel share a port.
pub const ALPN: &[u8] = b"cah-tunnel/1";

/// The ALPN of a QUIC connection whose datagrams (RFC 9221) do the same.
pub const DATAGRAM_ALPN: &[u8] = b"cah-datagram/2";

/// The longest datagram: above what any path on the Internet takes.
pub const MAX_DATAGRAM: usize = 4096;

/// The bytes in front of the datagram.
pub const HEADER_LEN: usize = 3;

/// Whom a datagram is for, or from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The coordinator's control channel (QUIC).
    Control,
    /// The coordinator's relay.
    Relay,
}

/// The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The length is 0 or above [`MAX_DATAGRAM`].
    #[error("a tunnel frame of {0} bytes")]
    Length(usize),
    /// The target is none of this version.
    #[error("a tunnel frame for the unknown target {0}")]
    Target(u8),
}

/// Appends a frame. A datagram that is longer than [`MAX_DATAGRAM`] is left out, as a network would.
pub fn encode(target: Target, datagram: &[u8], to: &mut Vec<u8>) {
    let Some(len) = u16::try_from(datagram.len() + 1).ok() else { return };
    if datagram.len() > MAX_DATAGRAM {
        return;
    }
    to.extend_from_slice(&len.to_be_bytes());
    to.push(target.code());
    to.extend_from_slice(datagram);
}

impl Target {
    fn code(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Relay => 1,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Control),
            1 => Some(Self::Relay),
            _ => None,
        }
    }
}

/// A frame at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whom it is for, or from.
    pub target: Target,
    /// What it carries.
    pub datagram: &'a [u8],
    /// The bytes that it takes, header and datagram.
    pub len: usize,
}

/// Reads the frame that `bytes` begin with. None while it is not all there.
///
/// # Errors
///
/// [`TunnelError`]: the stream must be closed.
pub fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, TunnelError> {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes(*len));
    if len == 0 || len > MAX_DATAGRAM + 1 {
        return Err(TunnelError::Length(len));
    }
    let Some((&target, rest)) = rest.split_first() else { return Ok(None) };
    let target = Target::from_code(target).ok_or(TunnelError::Target(target))?;
    let datagram = rest.get(..len - 1);
    Ok(datagram.map(|datagram| Frame { target, datagram, len: len + 2 }))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn frames_have_these_bytes_and_read_back_one_by_one() {
        let mut bytes = Vec::new();
        encode(Target::Control, &[0xaa, 0xbb], &mut bytes);
        encode(Target::Relay, &[], &mut bytes);
        assert_eq!(bytes, hex!("0003 00 aabb 0001 01"));
        assert_eq!(
            decode(&bytes),
            Ok(Some(Frame { target: Target::Control, datagram: &[0xaa, 0xbb], len: 5 }))
        );
        assert_eq!(
            decode(&bytes[5..]),
            Ok(Some(Frame { target: Target::Relay, datagram: &[], len: 3 }))
        );
    }

    #[test]
    fn frames_that_are_cut_short_are_waited_for() {
        let mut bytes = Vec::new();
        encode(Target::Relay, &[7; 300], &mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn impossible_frames_end_the_stream_and_long_datagrams_are_lost() {
        assert_eq!(decode(&hex!("0000")), Err(TunnelError::Length(0)));
        assert_eq!(decode(&hex!("1002 00")), Err(TunnelError::Length(MAX_DATAGRAM + 2)));
        assert_eq!(decode(&hex!("0001 02")), Err(TunnelError::Target(2)));
        let mut bytes = Vec::new();
        encode(Target::Relay, &[0; MAX_DATAGRAM + 1], &mut bytes);
        encode(Target::Relay, &[0; 70_000], &mut bytes);
        assert!(bytes.is_empty());
        encode(Target::Relay, &[0; MAX_DATAGRAM], &mut bytes);
        assert!(decode(&bytes).unwrap().is_some());
    }
}
