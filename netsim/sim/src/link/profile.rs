//! What a link does to packets, as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::loss::Loss;
use crate::units::micros;

/// A link between a machine and its network, as seen from the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LinkProfile {
    /// From the machine into the network.
    pub up: OneWay,
    /// From the network to the machine.
    pub down: OneWay,
}

/// One direction of a link. The default is perfect: no delay, no loss, no limits.
///
/// In text the times are whole microseconds, the shares 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OneWay {
    /// Every packet takes at least this long, beside the time in the queue.
    #[serde(rename = "delay-us", with = "micros")]
    pub delay: Duration,
    /// Each packet takes up to this much longer, uniformly drawn.
    #[serde(rename = "jitter-us", with = "micros")]
    pub jitter: Duration,
    /// Whether jitter lets packets overtake each other. If not, one that would waits for the one
    /// before it, as links with retransmission and in-order delivery do.
    pub jitter_reorders: bool,
    /// Which packets are lost, after the queue: they have used its rate.
    pub loss: Loss,
    /// How fast it is, and how much may wait. None: as fast as one likes.
    pub rate: Option<Rate>,
    /// The largest packet. None: any.
    pub mtu: Option<Mtu>,
    /// The share of packets that arrive twice. The copy takes its turn in the queue.
    pub duplicate: f64,
    /// Packets held back. None: none.
    pub reorder: Option<Reorder>,
}

/// A rate, and the drop-tail queue in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rate {
    /// Bits of whole IP packets a second, at least 1.
    pub bits_per_s: u64,
    /// Bytes that may wait, the packet that is leaving included. A packet that finds nothing
    /// waiting always gets in; one that would go beyond this is dropped.
    pub queue_bytes: u32,
}

/// The largest packet of a link, and what happens to larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mtu {
    /// Bytes of a whole IP packet.
    pub bytes: u32,
    /// What happens to larger packets; nothing is fragmented.
    #[serde(default)]
    pub too_big: TooBig,
}

/// What happens to a packet above the MTU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooBig {
    /// It is dropped and the sender hears of it (RFC 1191 §4, RFC 4443 §3.2).
    #[default]
    Notice,
    /// It is dropped silently: a black hole (RFC 2923 §2.1).
    Drop,
}

/// Packets that are held back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reorder {
    /// The share of packets held back.
    pub share: f64,
    /// How much longer they take.
    #[serde(rename = "hold-us", with = "micros")]
    pub hold: Duration,
}

/// Why a link's profile is refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// A share is not one.
    #[error("{field} is {value}: give a share from 0 to 1")]
    Share {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// Nothing would ever arrive.
    #[error("bits-per-s is 0: leave the rate out, or take the link down")]
    NoRate,
    /// Nothing would ever fit.
    #[error("mtu of {0} bytes: IPv4 needs 68 at least (RFC 791)")]
    TinyMtu(u32),
}

/// The least MTU of IPv4 (RFC 791 §3.2).
const LEAST_MTU: u32 = 68;

impl OneWay {
    /// Does nothing to packets.
    pub const PERFECT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        jitter_reorders: false,
        loss: Loss::None,
        rate: None,
        mtu: None,
        duplicate: 0.0,
        reorder: None,
    };

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), LinkError> {
        let mut shares = vec![("duplicate", self.duplicate)];
        match self.loss {
            Loss::None => {}
            Loss::Independent(share) => shares.push(("loss", share)),
            Loss::Bursty(chain) => {
                let names = ["enter", "leave", "loss-good", "loss-bad"];
                shares.extend(names.into_iter().zip(chain.shares()));
            }
        }
        shares.extend(self.reorder.map(|reorder| ("share", reorder.share)));
        let bad = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value));
        if let Some((field, value)) = bad {
            return Err(LinkError::Share { field, value });
        }
        if self.rate.is_some_and(|rate| rate.bits_per_s == 0) {
            return Err(LinkError::NoRate);
        }
        match self.mtu {
            Some(mtu) if mtu.bytes < LEAST_MTU => Err(LinkError::TinyMtu(mtu.bytes)),
            Some(_) | None => Ok(()),
        }
    }
}

impl LinkProfile {
    /// Does nothing to packets.
    pub const PERFECT: Self = Self { up: OneWay::PERFECT, down: OneWay::PERFECT };

    /// The same in both directions.
    pub const fn symmetric(way: OneWay) -> Self {
        Self { up: way, down: way }
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), LinkError> {
        self.up.check().and_then(|()| self.down.check())
    }
}
