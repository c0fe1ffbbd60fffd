//! Times in text: whole numbers whose unit is in the field's name.

/// A module for `#[serde(with = "...")]`.
macro_rules! whole {
    ($name:ident, $read:path, $write:expr) => {
        pub(crate) mod $name {
            use std::time::Duration;

            use serde::{Deserialize, Deserializer, Serializer};

            pub(crate) fn serialize<S: Serializer>(
                value: &Duration,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                let write: fn(&Duration) -> u128 = $write;
                to.serialize_u64(u64::try_from(write(value)).unwrap_or(u64::MAX))
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<Duration, D::Error> {
                u64::deserialize(from).map($read)
            }
        }
    };
}

whole!(micros, Duration::from_micros, |value| value.as_micros());
whole!(millis, Duration::from_millis, |value| value.as_millis());
whole!(seconds, Duration::from_secs, |value| u128::from(value.as_secs()));
