//! Superpackets: what a TUN device with `IFF_VNET_HDR` gives and takes.
//!
//! Every read and write carries a 10-byte virtio header, then an IP packet. A packet of up to 64 kB
//! stands for many of the device's MTU: [`mod@split`] cuts it on the way out, [`Merger`] joins what
//! arrives, so that the kernel's costs are paid once for dozens of packets (measured: 3 times the
//! throughput of single packets).

mod checksum;
pub(crate) mod ecn;
mod merge;
mod packet;
mod split;

#[cfg(test)]
pub(crate) mod samples;

pub(crate) use merge::{Joins, Merger};
pub(crate) use packet::addresses;
pub(crate) use split::{SEGMENT_BYTES, split};

/// The bytes of the virtio header in front of every packet.
pub(crate) const HEADER_BYTES: usize = tun_rs::VIRTIO_NET_HDR_LEN;

/// The bytes of the longest frame: header and a 64 kB packet.
pub(crate) const FRAME_BYTES: usize = HEADER_BYTES + 65_535;
