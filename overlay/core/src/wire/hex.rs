//! Sealed tickets and tokens travel in JSON as hexadecimal text.

use data_encoding::HEXLOWER_PERMISSIVE;

/// The text is not the hexadecimal form of that many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes as hexadecimal digits")]
pub struct ParseHexError {
    /// How many bytes the text must hold.
    pub expected: usize,
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn format_hex(bytes: &[u8]) -> String {
    HEXLOWER_PERMISSIVE.encode(bytes)
}

/// Reads a reflector token, see [`ToNode::Welcome`](crate::control::ToNode::Welcome).
pub fn parse_reflector_token(text: &str) -> Result<[u8; 16], ParseHexError> {
    parse_array(text)
}

/// Reads a key of a relay, see [`ToRelay::Welcome`](crate::control::relays::ToRelay::Welcome).
pub fn parse_key(text: &str) -> Result<[u8; 32], ParseHexError> {
    parse_array(text)
}

pub(crate) fn parse_array<const N: usize>(text: &str) -> Result<[u8; N], ParseHexError> {
    let error = ParseHexError { expected: N };
    // The length is looked at first, so that a long text costs nothing.
    if text.len() != 2 * N {
        return Err(error);
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| error)?;
    bytes.try_into().map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_either_case_and_nothing_but_the_right_length() {
        let token = parse_reflector_token("000102030405060708090A0b0c0d0e0F").unwrap();
        assert_eq!(token, hex_literal::hex!("000102030405060708090a0b0c0d0e0f"));
        assert_eq!(format_hex(&token), "000102030405060708090a0b0c0d0e0f");
        for bad in ["", "00", "000102030405060708090a0b0c0d0e0", "zz0102030405060708090a0b0c0d0e0f"]
        {
            assert_eq!(parse_reflector_token(bad), Err(ParseHexError { expected: 16 }), "{bad}");
        }
    }
}
