//! The exchange before the search: every rank sends pseudo-random bytes to every other one.
//!
//! Both ends make the same stream from (N, sender, receiver), so the receiver knows what must
//! arrive; SHA-256 of what arrived, of what the sender says it sent, and of what it should have
//! sent must agree. The bytes only have to differ from pair to pair and not compress.

use sha2::{Digest, Sha256};

use crate::wire::MAX_CHUNK;

/// One ordered pair's exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) n: u8,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) bytes: u64,
}

/// Why an exchange is not what it should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    #[error("the exchange brought {received} bytes, expected {expected}")]
    Length { received: u64, expected: u64 },
    #[error("the exchanged bytes were altered: their SHA-256 is not the expected one")]
    Altered,
    #[error("the exchange's closing SHA-256 is not the expected one")]
    Digest,
    #[error("bytes of the exchange came after its end")]
    AfterEnd,
}

/// The sender's side: chunks, then the digest.
pub(crate) struct Outgoing {
    stream: Stream,
    left: u64,
    hash: Sha256,
}

impl Outgoing {
    pub(crate) fn new(exchange: Exchange) -> Self {
        Self { stream: Stream::new(exchange), left: exchange.bytes, hash: Sha256::new() }
    }

    /// The next bytes to send; `None` at the end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let len = self.left.min(MAX_CHUNK as u64);
        if len == 0 {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        self.stream.fill(&mut bytes);
        self.hash.update(&bytes);
        self.left -= len;
        Some(bytes)
    }

    /// SHA-256 of the chunks so far.
    pub(crate) fn digest(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

/// The receiver's side.
pub(crate) struct Incoming {
    exchange: Exchange,
    received: u64,
    hash: Sha256,
    ended: bool,
}

impl Incoming {
    pub(crate) fn new(exchange: Exchange) -> Self {
        Self { exchange, received: 0, hash: Sha256::new(), ended: false }
    }

    /// Takes a chunk in; refuses more than was agreed.
    pub(crate) fn absorb(&mut self, bytes: &[u8]) -> Result<(), ExchangeError> {
        if self.ended {
            return Err(ExchangeError::AfterEnd);
        }
        self.received += bytes.len() as u64;
        if self.received > self.exchange.bytes {
            return Err(self.wrong_length());
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// Compares what came with what should have come.
    pub(crate) fn end(&mut self, announced: [u8; 32]) -> Result<(), ExchangeError> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(ExchangeError::AfterEnd);
        }
        if self.received != self.exchange.bytes {
            return Err(self.wrong_length());
        }
        let mut expected = Outgoing::new(self.exchange);
        while expected.chunk().is_some() {}
        let expected = expected.digest();
        let received: [u8; 32] = self.hash.finalize_reset().into();
        if received != expected {
            return Err(ExchangeError::Altered);
        }
        if announced != expected {
            return Err(ExchangeError::Digest);
        }
        Ok(())
    }

    fn wrong_length(&self) -> ExchangeError {
        ExchangeError::Length { received: self.received, expected: self.exchange.bytes }
    }
}

/// xorshift64*, seeded by the pair.
struct Stream(u64);

impl Stream {
    fn new(exchange: Exchange) -> Self {
        let pair = u64::from(exchange.from) << 32 | u64::from(exchange.to);
        let seed = (pair ^ u64::from(exchange.n) << 56).wrapping_add(1);
        // Odd factor: one to one, so pairs keep different seeds; the low bit keeps it from zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            word.copy_from_slice(&number[..word.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: Exchange = Exchange { n: 8, from: 1, to: 2, bytes: 100_001 };

    fn chunks(exchange: Exchange) -> (Vec<Vec<u8>>, [u8; 32]) {
        let mut outgoing = Outgoing::new(exchange);
        let chunks = std::iter::from_fn(|| outgoing.chunk()).collect();
        (chunks, outgoing.digest())
    }

    #[test]
    fn what_is_sent_is_what_is_expected() {
        let (chunks, digest) = chunks(EXCHANGE);
        let mut incoming = Incoming::new(EXCHANGE);
        for chunk in &chunks {
            incoming.absorb(chunk).unwrap();
        }
        assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), 100_001);
        assert_eq!(incoming.end(digest), Ok(()));
        assert_eq!(incoming.end(digest), Err(ExchangeError::AfterEnd));
        assert_eq!(incoming.absorb(&[0]), Err(ExchangeError::AfterEnd));
    }

    #[test]
    fn one_flipped_bit_is_found() {
        let (mut chunks, digest) = chunks(EXCHANGE);
        chunks[1][17] ^= 4;
        let mut incoming = Incoming::new(EXCHANGE);
        chunks.iter().for_each(|chunk| incoming.absorb(chunk).unwrap());
        assert_eq!(incoming.end(digest), Err(ExchangeError::Altered));
    }

    #[test]
    fn the_stream_of_another_pair_is_refused() {
        let swapped = Exchange { from: EXCHANGE.to, to: EXCHANGE.from, ..EXCHANGE };
        let (chunks, digest) = chunks(swapped);
        let mut incoming = Incoming::new(EXCHANGE);
        chunks.iter().for_each(|chunk| incoming.absorb(chunk).unwrap());
        assert_eq!(incoming.end(digest), Err(ExchangeError::Altered));
    }

    #[test]
    fn too_few_and_too_many_bytes_are_refused() {
        let (chunks, digest) = chunks(EXCHANGE);
        let mut short = Incoming::new(EXCHANGE);
        short.absorb(&chunks[0]).unwrap();
        assert!(matches!(short.end(digest), Err(ExchangeError::Length { .. })));
        let mut long = Incoming::new(EXCHANGE);
        chunks.iter().for_each(|chunk| long.absorb(chunk).unwrap());
        assert!(matches!(long.absorb(&[0]), Err(ExchangeError::Length { .. })));
    }
}
