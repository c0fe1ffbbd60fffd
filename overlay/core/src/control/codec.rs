//! The framing of the control stream: `u32` length, then JSON. Both ends use it.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_MESSAGE;

const LENGTH: usize = 4;

/// The message cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeMessageError {
    /// It would be longer than [`MAX_MESSAGE`].
    #[error("control message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// It has no JSON form.
    #[error("control message has no json form")]
    Json(#[source] serde_json::Error),
}

/// The stream cannot be read any further: the connection is to be closed.
#[derive(Debug, thiserror::Error)]
pub enum DecodeMessageError {
    /// The peer announced a message longer than [`MAX_MESSAGE`].
    #[error("control message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// The bytes are not a message of this version.
    #[error("control message is not understood")]
    Json(#[source] serde_json::Error),
}

/// Writes one message with its length in front.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, EncodeMessageError> {
    let mut bytes = vec![0u8; LENGTH];
    serde_json::to_writer(&mut bytes, message).map_err(EncodeMessageError::Json)?;
    let len = bytes.len() - LENGTH;
    let prefix = u32::try_from(len).ok().filter(|_| len <= MAX_MESSAGE);
    let prefix = prefix.ok_or(EncodeMessageError::TooLong(len))?;
    bytes[..LENGTH].copy_from_slice(&prefix.to_be_bytes());
    Ok(bytes)
}

/// Puts the pieces of a stream together to messages.
///
/// Call [`FrameReader::next_message`] until it gives none after each [`FrameReader::extend`]; then it
/// holds at most one unfinished message, so at most [`MAX_MESSAGE`] bytes and one piece.
pub struct FrameReader<T> {
    buffer: Vec<u8>,
    taken: usize,
    message: PhantomData<fn() -> T>,
}

impl<T> Default for FrameReader<T> {
    fn default() -> Self {
        Self { buffer: Vec::new(), taken: 0, message: PhantomData }
    }
}

impl<T: DeserializeOwned> FrameReader<T> {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece of the stream.
    pub fn extend(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next message, none when more of the stream is needed.
    ///
    /// After an error the stream is of no more use.
    pub fn next_message(&mut self) -> Result<Option<T>, DecodeMessageError> {
        let rest = &self.buffer[self.taken..];
        let Some((prefix, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if len > MAX_MESSAGE {
            return Err(DecodeMessageError::TooLong(len));
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(DecodeMessageError::Json)?;
        self.taken += LENGTH + len;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ToCoordinator;

    fn hello() -> ToCoordinator {
        ToCoordinator::Hello { version: 1, software: "test 1".into() }
    }

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let stream = [encode(&hello()).unwrap(), encode(&hello()).unwrap()].concat();
        for cut in 0..=stream.len() {
            let mut reader = FrameReader::<ToCoordinator>::new();
            let mut seen = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                reader.extend(piece);
                while let Some(message) = reader.next_message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [hello(), hello()], "cut at {cut}");
        }
    }

    #[test]
    fn message_has_its_length_in_front() {
        let bytes = encode(&hello()).unwrap();
        let json = br#"{"type":"hello","version":1,"software":"test 1"}"#;
        assert_eq!(bytes[..4], [0, 0, 0, json.len() as u8]);
        assert_eq!(&bytes[4..], json);
    }

    #[test]
    fn too_long_a_message_is_refused_before_it_is_read() {
        let mut reader = FrameReader::<ToCoordinator>::new();
        reader.extend(&(MAX_MESSAGE as u32 + 1).to_be_bytes());
        assert!(matches!(reader.next_message(), Err(DecodeMessageError::TooLong(_))));
        let software = "x".repeat(MAX_MESSAGE);
        let message = ToCoordinator::Hello { version: 1, software };
        assert!(matches!(encode(&message), Err(EncodeMessageError::TooLong(_))));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut reader = FrameReader::<ToCoordinator>::new();
        reader.extend(&[0, 0, 0, 2, b'{', b'}']);
        assert!(matches!(reader.next_message(), Err(DecodeMessageError::Json(_))));
    }
}
