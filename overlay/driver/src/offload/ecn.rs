//! Explicit congestion notification through the tunnel (RFC 6040, normal mode): the mark of the job's
//! packet is copied outside, and what routers did to it on the way is copied back inside.

use quinn_udp::EcnCodepoint;
use quinn_udp::EcnCodepoint::{Ce, Ect0, Ect1};

use super::checksum;
use super::packet::{be16, put16};

/// Where the two bits are: the lower ones of IPv4's second byte, in the middle of IPv6's.
const V4_SHIFT: u32 = 0;
const V6_SHIFT: u32 = 4;

/// The mark of an IP packet, which its datagram outside gets too; none: it knows nothing of marks.
pub(crate) fn mark(packet: &[u8]) -> Option<EcnCodepoint> {
    let &[first, second, ..] = packet else { return None };
    EcnCodepoint::from_bits(second >> shift(first))
}

/// The mark that a packet goes on with (RFC 6040, figure 4); an error where it must be dropped: the sender
/// would not understand that a router has asked it to slow down.
fn combine(
    inner: Option<EcnCodepoint>,
    outer: Option<EcnCodepoint>,
) -> Result<Option<EcnCodepoint>, NotUnderstood> {
    match (inner, outer) {
        (None, Some(Ce)) => Err(NotUnderstood),
        (None, None | Some(Ect0 | Ect1)) => Ok(None),
        (Some(Ect0 | Ect1), Some(Ce)) => Ok(Some(Ce)),
        (Some(Ect0), Some(Ect1)) => Ok(Some(Ect1)),
        (Some(inner), _) => Ok(Some(inner)),
    }
}

/// The packet must be dropped, see [`take_over`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

/// Takes over into an IP packet what routers marked on its datagram.
pub(crate) fn take_over(
    packet: &mut [u8],
    outer: Option<EcnCodepoint>,
) -> Result<(), NotUnderstood> {
    let inner = mark(packet);
    // Nearly always.
    if inner == outer {
        return Ok(());
    }
    let mark = combine(inner, outer)?;
    if mark != inner {
        put(packet, mark);
    }
    Ok(())
}

/// Writes the mark, and brings IPv4's checksum up to date (RFC 1624).
fn put(packet: &mut [u8], mark: Option<EcnCodepoint>) {
    let Some(&[first, second]) = packet.first_chunk() else { return };
    let bits = mark.map_or(0, |mark| mark as u8);
    let marked = second & !(3 << shift(first)) | bits << shift(first);
    if first >> 4 == 4 && packet.len() >= 20 {
        let sum = u64::from(!be16(packet, 10)) + u64::from(!u16::from(second));
        put16(packet, 10, checksum::finish(sum + u64::from(marked)));
    }
    packet[1] = marked;
}

fn shift(first: u8) -> u32 {
    if first >> 4 == 4 { V4_SHIFT } else { V6_SHIFT }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    const ALL: [Option<EcnCodepoint>; 4] = [None, Some(Ect0), Some(Ect1), Some(Ce)];

    fn samples() -> [Vec<u8>; 2] {
        [("10.128.0.1", "10.128.0.2"), ("fd00::1", "fd00::2")].map(|(source, destination)| {
            let addresses = (source.parse().unwrap(), destination.parse().unwrap());
            samples::packet(addresses, 17, 0, 0, b"payload")
        })
    }

    #[test]
    fn the_table_is_that_of_the_rfc() {
        // Rows: the mark inside; columns: Not-ECT, ECT(0), ECT(1), CE outside.
        let table = [
            [Ok(None), Ok(None), Ok(None), Err(NotUnderstood)],
            [Ok(Some(Ect0)), Ok(Some(Ect0)), Ok(Some(Ect1)), Ok(Some(Ce))],
            [Ok(Some(Ect1)), Ok(Some(Ect1)), Ok(Some(Ect1)), Ok(Some(Ce))],
            [Ok(Some(Ce)); 4],
        ];
        for (inner, row) in ALL.into_iter().zip(table) {
            assert_eq!(ALL.map(|outer| combine(inner, outer)), row, "{inner:?} inside");
        }
    }

    #[test]
    fn a_mark_changes_nothing_but_its_bits_and_the_checksum() {
        for whole in samples() {
            for from in ALL {
                let mut packet = whole.clone();
                // The other bits of the byte are somebody else's.
                packet[1] |= if packet[0] >> 4 == 4 { 0b1010_0100 } else { 0b1100_0101 };
                samples::mend(&mut packet);
                put(&mut packet, from);
                for to in ALL {
                    put(&mut packet, to);
                    assert_eq!((mark(&packet), samples::payload(&packet)), (to, &b"payload"[..]));
                }
                put(&mut packet, None);
                assert_eq!(packet[2..4], whole[2..4]);
            }
        }
    }

    #[test]
    fn what_must_be_dropped_is_left_as_it_was() {
        for mut packet in samples() {
            let before = packet.clone();
            assert_eq!(take_over(&mut packet, Some(Ce)), Err(NotUnderstood));
            assert_eq!(take_over(&mut packet, Some(Ect0)), Ok(()));
            assert_eq!(packet, before);
        }
        for rubbish in [&mut [][..], &mut [0x45], &mut [0x45, 3], &mut [0; 19]] {
            assert_eq!(take_over(rubbish, None), Ok(()));
        }
    }
}
