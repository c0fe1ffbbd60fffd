//! Links by name. Each number has its source, or says why it was chosen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::loss::{GilbertElliott, Loss};
use super::profile::{LinkProfile, Mtu, OneWay, Rate, TooBig};

/// A well-known kind of access link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkPreset {
    /// A telephone line with PPPoE.
    Adsl,
    /// Fibre to the home.
    Fibre,
    /// Television cable.
    Cable,
    /// A mobile phone's network (LTE).
    #[serde(rename = "4g")]
    FourG,
    /// A wired machine of a university.
    Campus,
    /// A laptop on its home's wireless network; the line behind it is another link.
    Wifi,
    /// A wired machine on its own network's switch.
    Lan,
    /// A satellite at rest above the equator.
    Geostationary,
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn rate(kbit_per_s: u64, queue_kib: u32) -> Option<Rate> {
    Some(Rate { bits_per_s: kbit_per_s * 1_000, queue_bytes: queue_kib * 1024 })
}

const fn mtu(bytes: u32) -> Option<Mtu> {
    Some(Mtu { bytes, too_big: TooBig::Notice })
}

/// Ethernet's MTU (RFC 894).
const ETHERNET: OneWay = OneWay { mtu: mtu(1500), ..OneWay::PERFECT };

impl LinkPreset {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Adsl,
        Self::Fibre,
        Self::Cable,
        Self::FourG,
        Self::Campus,
        Self::Wifi,
        Self::Lan,
        Self::Geostationary,
    ];

    /// The name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adsl => "adsl",
            Self::Fibre => "fibre",
            Self::Cable => "cable",
            Self::FourG => "4g",
            Self::Campus => "campus",
            Self::Wifi => "wifi",
            Self::Lan => "lan",
            Self::Geostationary => "geostationary",
        }
    }

    /// What it does to packets.
    pub fn profile(self) -> LinkProfile {
        match self {
            Self::Adsl => ADSL,
            Self::Fibre => FIBRE,
            Self::Cable => CABLE,
            Self::FourG => FOUR_G,
            Self::Campus => CAMPUS,
            Self::Wifi => LinkProfile::symmetric(WIFI),
            Self::Lan => LAN,
            Self::Geostationary => GEOSTATIONARY,
        }
    }
}

/// Rates: chosen, a line of middling length; ADSL2+ reaches 24 down and 1.4 Mbit/s up on a short one
/// (ITU-T G.992.5). Delay: chosen, 10 ms each way with interleaving on, and up to 2 ms jitter. MTU:
/// 1492, PPPoE (RFC 2516 §7). Queues: chosen, half a second up and a quarter down, the bloated
/// buffers of home routers (Gettys and Nichols, "Bufferbloat", *ACM Queue* 9(11), 2011). Loss:
/// chosen, one in a thousand in bursts of 10, impulse noise that interleaving did not mend.
const ADSL: LinkProfile = {
    let noise = GilbertElliott { enter: 0.0002, leave: 0.1, loss_good: 0.0, loss_bad: 0.5 };
    let loss = Loss::Bursty(noise);
    let way = OneWay { delay: us(10_000), jitter: us(2_000), loss, mtu: mtu(1492), ..ETHERNET };
    LinkProfile {
        up: OneWay { rate: rate(1_000, 64), ..way },
        down: OneWay { rate: rate(16_000, 512), ..way },
    }
};

/// Rates: chosen, a common offer; a GPON tree carries 2,488 down and 1,244 Mbit/s up for all its
/// homes (ITU-T G.984.2). Delay: chosen, 2 ms each way: 5 µs for each km of glass, and the wait for
/// an upward slot. Queues: chosen, 16 ms at the rate.
const FIBRE: LinkProfile = {
    let way = OneWay { delay: us(2_000), jitter: us(500), ..ETHERNET };
    LinkProfile {
        up: OneWay { rate: rate(500_000, 1_000), ..way },
        down: OneWay { rate: rate(1_000_000, 2_000), ..way },
    }
};

/// Rates: chosen, a common offer on DOCSIS 3. Delay: chosen, 6 ms each way; upward there are up to
/// 6 ms more, since a modem asks before it sends (a request-grant round is a few 2 ms MAP
/// intervals). Queue up: chosen, 100 ms, between DOCSIS-PIE's target of 10 ms (RFC 8034) and the
/// seconds of older modems. Loss: chosen, one in ten thousand.
const CABLE: LinkProfile = {
    let way = OneWay { delay: us(6_000), loss: Loss::Independent(0.0001), ..ETHERNET };
    LinkProfile {
        up: OneWay { jitter: us(6_000), rate: rate(20_000, 250), ..way },
        down: OneWay { jitter: us(1_000), rate: rate(200_000, 1_000), ..way },
    }
};

/// Rates: chosen, a cell shared with others. Delay: chosen, 20 ms each way, with up to 20 ms (up,
/// scheduling requests) or 10 ms (down) more. In order: the radio repeats what it loses and hands
/// it over in sequence (acknowledged mode, 3GPP TS 36.322), so that loss is rare (chosen: one in a
/// thousand) and jitter is not. Queues: chosen, 400 ms up, 200 ms down: mobile buffers are deep.
/// MTU: 1500 as phones show; 3GPP TS 23.060 advises operators to use 1358 where it matters.
const FOUR_G: LinkProfile = {
    let way = OneWay { delay: us(20_000), loss: Loss::Independent(0.001), ..ETHERNET };
    LinkProfile {
        up: OneWay { jitter: us(20_000), rate: rate(10_000, 500), ..way },
        down: OneWay { jitter: us(10_000), rate: rate(40_000, 1_000), ..way },
    }
};

/// Gigabit Ethernet (IEEE 802.3ab). Delay: chosen, 500 µs: a few switches and a router. Queue:
/// chosen, 4 ms, a shallow campus switch.
const CAMPUS: LinkProfile = LinkProfile::symmetric(OneWay {
    delay: us(500),
    jitter: us(100),
    rate: rate(1_000_000, 512),
    ..ETHERNET
});

/// Rate: chosen, what a laptop two rooms away gets of 802.11ac. Delay: chosen, 1 ms and up to 5 ms
/// jitter for the shared medium; in order, since block acknowledgement restores it (IEEE 802.11).
/// Loss: chosen, 0.6 % in bursts of 5: retries hide single losses, fades outlast them.
const WIFI: OneWay = OneWay {
    delay: us(1_000),
    jitter: us(5_000),
    loss: Loss::Bursty(GilbertElliott {
        enter: 0.002,
        leave: 0.2,
        loss_good: 0.001,
        loss_bad: 0.5,
    }),
    rate: rate(100_000, 512),
    ..ETHERNET
};

/// Gigabit Ethernet. Delay: chosen, 50 µs: one switch and two network stacks.
const LAN: LinkProfile =
    LinkProfile::symmetric(OneWay { delay: us(50), rate: rate(1_000_000, 512), ..ETHERNET });

/// Delay: 260 ms each way between two ground stations (ITU-T G.114, Annex A; light needs 239 ms for
/// twice 35,786 km). Jitter: chosen, 10 ms, the wait for a slot. Rates: chosen, a common consumer
/// offer. Queues: chosen, half a second up and 300 ms down. Loss: chosen, 0.2 % in long bursts,
/// rain fade on a coded channel.
const GEOSTATIONARY: LinkProfile = {
    let fade = GilbertElliott { enter: 0.0001, leave: 0.02, loss_good: 0.0, loss_bad: 0.4 };
    let loss = Loss::Bursty(fade);
    let way = OneWay { delay: us(260_000), jitter: us(10_000), loss, ..ETHERNET };
    LinkProfile {
        up: OneWay { rate: rate(3_000, 188), ..way },
        down: OneWay { rate: rate(25_000, 940), ..way },
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_make_sense_and_are_called_as_they_are_written() {
        for preset in LinkPreset::ALL {
            assert_eq!(preset.profile().check(), Ok(()), "{preset:?}");
            let text = serde_json::to_string(&preset).unwrap();
            assert_eq!(text, format!("{:?}", preset.name()));
            let profile = serde_json::to_string(&preset.profile()).unwrap();
            let read: LinkProfile = serde_json::from_str(&profile).unwrap();
            assert_eq!(read, preset.profile(), "{profile}");
        }
    }

    #[test]
    fn stated_losses_hold() {
        let loss = |preset: LinkPreset| preset.profile().up.loss.mean();
        for (preset, stated) in [
            (LinkPreset::Adsl, 0.001),
            (LinkPreset::Wifi, 0.006),
            (LinkPreset::Geostationary, 0.002),
            (LinkPreset::Lan, 0.0),
        ] {
            assert!((loss(preset) - stated).abs() < 0.0003, "{preset:?}: {}", loss(preset));
        }
    }

    #[test]
    fn unknown_keys_and_impossible_numbers_are_refused() {
        let read = |text: &str| serde_json::from_str::<OneWay>(text);
        assert!(read(r#"{"delay-ms": 3}"#).is_err());
        let way = read(r#"{"loss": {"independent": 1.5}}"#).unwrap();
        assert!(way.check().is_err());
        let way = read(r#"{"rate": {"bits-per-s": 0, "queue-bytes": 1}}"#).unwrap();
        assert!(way.check().is_err());
    }
}
