//! Datagrams of any length in QUIC's datagrams of one length.
//!
//! A full packet is a little longer than what a QUIC datagram holds on most paths. So what waits is written one
//! behind the other, and cut where a QUIC datagram is full:
//!
//! ```text
//!   ┌ number ┬ rest ┬──────────┬───────┬────────────┐ ┌ number + 1 ┬ rest ┬────────────┬─────
//!   │  u32   │ u16  │ the rest │ frame │ a beginning│ │    u32     │ u16  │ its end    │ frame
//!   └────────┴──────┴──────────┴───────┴────────────┘ └────────────┴──────┴────────────┴─────
//! ```
//!
//! `rest` says how many bytes end the frame that the datagram before it began; frames are those of a stream
//! ([`tunnel::encode`]). No frame lies in more than two. Beginnings and ends find each other by the numbers, in
//! whatever order they come; what is lost takes the frames with it that it had a part of.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use overlay_core::wire::tunnel::{self, MAX_DATAGRAM, Target};

use crate::Datagram;

/// Number and length of the rest.
const HEADER_LEN: usize = 6;

/// Beginnings, and ends, that wait for their other parts. Chosen: networks that change the order do so by a few.
const MAX_WAITING: usize = 16;

/// QUIC datagrams that share a piece of memory. Chosen: what one system call sends.
const TOGETHER: usize = 44;

/// Writes. What it has begun goes out with [`flush`](Self::flush).
#[derive(Debug, Default)]
pub(crate) struct Packer {
    number: u32,
    /// With room for some more, so that many share one piece of memory.
    open: BytesMut,
    frame: Vec<u8>,
}

impl Packer {
    /// Takes a datagram; `out` gets QUIC datagrams of at most `longest` bytes as they become full. What does not
    /// fit two of those is lost, as on any network.
    pub(crate) fn push(
        &mut self,
        (target, datagram): (Target, &[u8]),
        longest: usize,
        mut out: impl FnMut(Bytes),
    ) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        tunnel::encode(target, datagram, &mut frame);
        self.push_frame(&frame, longest, &mut out);
        self.frame = frame;
    }

    fn push_frame(&mut self, frame: &[u8], longest: usize, mut out: impl FnMut(Bytes)) {
        let Some(body) = longest.checked_sub(HEADER_LEN).filter(|_| !frame.is_empty()) else {
            return;
        };
        if frame.len() > 2 * body {
            return;
        }
        let room = longest.saturating_sub(self.open.len());
        // A few bytes are not worth a cut, and the end has to fit the next one.
        if !self.open.is_empty() && (room < HEADER_LEN || frame.len() > room + body) {
            self.flush(&mut out);
        }
        if self.open.is_empty() {
            self.begin(0, longest);
        }
        let room = longest.saturating_sub(self.open.len());
        let (beginning, end) = frame.split_at(room.min(frame.len()));
        self.open.extend_from_slice(beginning);
        if !end.is_empty() {
            self.flush(&mut out);
            self.begin(end.len(), longest);
            self.open.extend_from_slice(end);
        }
    }

    /// Gives what is not full.
    pub(crate) fn flush(&mut self, mut out: impl FnMut(Bytes)) {
        if !self.open.is_empty() {
            self.number = self.number.wrapping_add(1);
            out(self.open.split().freeze());
        }
    }

    fn begin(&mut self, rest: usize, longest: usize) {
        if self.open.capacity() < longest {
            self.open.reserve(TOGETHER * longest);
        }
        self.open.extend_from_slice(&self.number.to_be_bytes());
        self.open.extend_from_slice(&u16::try_from(rest).unwrap_or_default().to_be_bytes());
    }
}

/// Reads.
#[derive(Debug, Default)]
pub(crate) struct Unpacker {
    /// By the number that the end has.
    beginnings: VecDeque<(u32, Bytes)>,
    ends: VecDeque<(u32, Bytes)>,
}

impl Unpacker {
    /// Takes a QUIC datagram, and gives what is complete with it. Anybody may send anything: what cannot be read is
    /// left out.
    pub(crate) fn take(&mut self, whole: &Bytes, mut out: impl FnMut(Datagram)) {
        let Some((number, bytes)) = whole.split_first_chunk::<4>() else { return };
        let Some((rest, bytes)) = bytes.split_first_chunk::<2>() else { return };
        let (number, rest) = (u32::from_be_bytes(*number), usize::from(u16::from_be_bytes(*rest)));
        let Some((end, mut bytes)) = bytes.split_at_checked(rest) else { return };
        if !end.is_empty() {
            match find(&mut self.beginnings, number) {
                Some(beginning) => give([&beginning, end].concat(), &mut out),
                None => keep(&mut self.ends, number, whole.slice_ref(end)),
            }
        }
        while let Ok(Some(frame)) = tunnel::decode(bytes) {
            out((frame.target, whole.slice_ref(frame.datagram)));
            bytes = &bytes[frame.len..];
        }
        // What is left begins a frame that is not all there; or it makes no sense, nor will its other part.
        if !bytes.is_empty() && bytes.len() <= MAX_DATAGRAM {
            let next = number.wrapping_add(1);
            match find(&mut self.ends, next) {
                Some(end) => give([bytes, &end].concat(), &mut out),
                None => keep(&mut self.beginnings, next, whole.slice_ref(bytes)),
            }
        }
    }
}

fn give(frame: Vec<u8>, out: &mut impl FnMut(Datagram)) {
    let frame = Bytes::from(frame);
    if let Ok(Some(whole)) = tunnel::decode(&frame)
        && whole.len == frame.len()
    {
        out((whole.target, frame.slice_ref(whole.datagram)));
    }
}

fn find(waiting: &mut VecDeque<(u32, Bytes)>, number: u32) -> Option<Bytes> {
    let index = waiting.iter().position(|(other, _)| *other == number)?;
    waiting.remove(index).map(|(_, part)| part)
}

fn keep(waiting: &mut VecDeque<(u32, Bytes)>, number: u32, part: Bytes) {
    if waiting.len() >= MAX_WAITING {
        waiting.pop_front();
    }
    waiting.push_back((number, part));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 1200;

    fn datagrams(lens: impl IntoIterator<Item = usize>) -> Vec<Datagram> {
        let datagram = |(index, len)| {
            let target = if index % 2 == 0 { Target::Relay } else { Target::Control };
            (target, (0..len).map(|byte| (byte * 7 + index) as u8).collect::<Bytes>())
        };
        lens.into_iter().enumerate().map(datagram).collect()
    }

    fn packed(datagrams: &[Datagram], longest: usize) -> Vec<Bytes> {
        let (mut packer, mut all) = (Packer::default(), Vec::new());
        for (target, datagram) in datagrams {
            packer.push((*target, datagram), longest, |full| all.push(full));
        }
        packer.flush(|last| all.push(last));
        assert!(all.iter().all(|packed| packed.len() <= longest));
        all
    }

    fn unpacked<'a>(packed: impl IntoIterator<Item = &'a Bytes>) -> Vec<Datagram> {
        let (mut unpacker, mut all) = (Unpacker::default(), Vec::new());
        packed.into_iter().for_each(|packed| unpacker.take(packed, |datagram| all.push(datagram)));
        all
    }

    #[test]
    fn what_is_packed_comes_out_whatever_its_length() {
        for longest in [LONGEST, 1201, 1207, 1414] {
            let many = datagrams((1..=2 * (longest - HEADER_LEN) - 3).step_by(3));
            assert_eq!(unpacked(&packed(&many, longest)), many);
        }
        let full = datagrams([1452; 100]);
        assert_eq!(packed(&full, 1414).len(), 104, "hardly more than without cuts");
        let small = datagrams([60; 200]);
        assert_eq!(packed(&small, 1414).len(), 9);
    }

    #[test]
    fn what_does_not_fit_two_is_left_out_and_nothing_else() {
        let mut mixed = datagrams([100, 2 * (LONGEST - HEADER_LEN) - 2, 0, 200]);
        let all = unpacked(&packed(&mixed, LONGEST));
        mixed.remove(1);
        // One without a byte is a frame of a target alone.
        assert_eq!(all, mixed);
        assert!(packed(&mixed, HEADER_LEN - 1).is_empty());
    }

    #[test]
    fn the_order_may_change_and_a_loss_takes_two_at_most() {
        let full = datagrams([1452; 40]);
        let mut packed = packed(&full, 1414);
        let sorted = |mut datagrams: Vec<Datagram>| {
            datagrams.sort();
            datagrams
        };
        packed.chunks_mut(3).for_each(<[_]>::reverse);
        assert_eq!(sorted(unpacked(&packed)), sorted(full.clone()));
        packed.chunks_mut(3).for_each(<[_]>::reverse);
        for lost in 0..packed.len() {
            let rest = packed.iter().enumerate().filter(|(index, _)| *index != lost);
            let arrived = unpacked(rest.map(|(_, packed)| packed));
            assert!((38..=39).contains(&arrived.len()), "{lost}: {}", arrived.len());
            assert!(arrived.iter().all(|datagram| full.contains(datagram)));
        }
    }

    #[test]
    fn rubbish_gives_nothing_and_takes_little() {
        let mut unpacker = Unpacker::default();
        let packed = packed(&datagrams([1300, 20]), LONGEST);
        for packed in &packed {
            for len in 0..packed.len() {
                Unpacker::default().take(&packed.slice(..len), |datagram| panic!("{datagram:?}"));
            }
        }
        for len in 0..40 {
            for byte in [0, 1, 0xff] {
                unpacker.take(&vec![byte; len].into(), |datagram| assert!(datagram.1.len() < 40));
            }
        }
        for number in 0..1000u32 {
            // An end without a beginning, and a beginning without an end.
            let bytes = [&number.to_be_bytes()[..], &[0, 3, 1, 2, 3, 0, 99, 1]].concat();
            unpacker.take(&bytes.into(), |datagram| panic!("{datagram:?}"));
        }
        assert!(unpacker.beginnings.len() <= MAX_WAITING && unpacker.ends.len() <= MAX_WAITING);
    }
}
