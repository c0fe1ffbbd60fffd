//! The pin: which root certificate to trust.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// SHA-256 of a root certificate's DER, written as 64 hexadecimal digits.
///
/// [`FromStr`] also takes the form `sha256:HEX` that the coordinator prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootPin(pub [u8; 32]);

/// The text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a root pin is written as 64 hexadecimal digits")]
pub struct ParsePinError;

impl RootPin {
    /// The pin of a certificate.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for RootPin {
    type Err = ParsePinError;

    fn from_str(text: &str) -> Result<Self, ParsePinError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| ParsePinError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParsePinError)?))
    }
}

impl Serialize for RootPin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RootPin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_back_with_and_without_prefix() {
        let pin = RootPin::of_certificate(b"certificate");
        assert_eq!(pin.to_string().len(), 64);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(format!("sha256:{pin}").parse(), Ok(pin));
        assert_eq!(format!("{pin}0").parse::<RootPin>(), Err(ParsePinError));
        assert_eq!("".parse::<RootPin>(), Err(ParsePinError));
    }
}
