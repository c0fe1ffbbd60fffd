//! Quantities as scenario files write them: a number and its unit, in text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time such as `"45ms"` or `"1m 30s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A rate such as `"16Mbit/s"`, in bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Speed(pub u64);

/// A size such as `"64KiB"`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share such as `"0.1%"`, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl Time {
    /// That many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// That many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        time.0
    }
}

/// The longest time that makes sense. Chosen: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(time) if time > LONGEST => Err(format!("`{text}` is longer than ten years")),
            Ok(time) => Ok(Self(time)),
            Err(error) => {
                Err(format!("`{text}` is not a duration such as \"45ms\" or \"10s\": {error}"))
            }
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

const SPEEDS: [(&str, u64); 4] =
    [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000), ("bit/s", 1)];

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match parse_unit(text, &SPEEDS) {
            Some(rate) if rate > 0 => Ok(Self(rate)),
            Some(_) | None => Err(format!(
                "`{text}` is not a rate: write a number above 0 and bit/s, kbit/s, Mbit/s or \
                 Gbit/s, such as \"16Mbit/s\""
            )),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_unit(f, self.0, &SPEEDS)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_unit(text, &SIZES).map(Self).ok_or_else(|| {
            format!(
                "`{text}` is not a size: write a number and B, KiB, MiB or GiB, such as \"1MiB\""
            )
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_unit(f, self.0, &SIZES)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').map(|digits| digits.trim().parse::<f64>());
        match number {
            Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            Some(_) | None => {
                Err(format!("`{text}` is not a share: write 0% to 100%, such as \"0.1%\""))
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded, so that 0.3% is not 0.30000000000000004%.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

/// A decimal number and one of the units, as a whole number of the smallest one.
fn parse_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(*factor),
        Some(_) => {
            let value = number.parse::<f64>().ok()? * (*factor as f64);
            // Beyond this a fraction would not be exact.
            (value < 9e15).then_some(value.round() as u64)
        }
    }
}

/// In the largest unit that leaves a whole number.
fn write_unit(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let whole = units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = whole.or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{name}", value / factor)
}

/// The quantities are text for serde, and text of a certain form for the schema.
macro_rules! text {
    ($type:ident, $pattern:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(from)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

text!(Time, r"^([0-9]+ ?[a-zµ]+ ?)+$|^0$", "45ms");
text!(Speed, r"^[0-9]+(\.[0-9]+)? ?[kMG]?bit/s$", "16Mbit/s");
text!(Size, r"^[0-9]+(\.[0-9]+)? ?([KMG]i)?B$", "64KiB");
text!(Share, r"^[0-9]+(\.[0-9]+)? ?%$", "0.1%");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_has_a_number_and_a_unit() {
        assert_eq!("1MiB".parse(), Ok(Size(1 << 20)));
        assert_eq!("512 B".parse(), Ok(Size(512)));
        assert_eq!("1.5Mbit/s".parse(), Ok(Speed(1_500_000)));
        assert_eq!("0.1%".parse(), Ok(Share(0.001)));
        assert_eq!("1m 30s".parse(), Ok(Time::seconds(90)));
        for wrong in ["", "1", "MiB", "-1MiB", "1MB", "99999999999GiB", "1.2.3MiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        for wrong in ["0Mbit/s", "16Mb", "16"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
        for wrong in ["101%", "0.1", "-1%", "NaN%", "%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        for wrong in ["5", "", "20years"] {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for value in ["1.5GiB", "3MiB", "1025B", "0B"] {
            let size: Size = value.parse().unwrap();
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for share in [0.003, 0.001, 1.0, 0.0] {
            assert_eq!(Share(share).to_string().parse(), Ok(Share(share)));
        }
        assert_eq!(Speed(16_500_000).to_string(), "16500kbit/s");
    }
}
