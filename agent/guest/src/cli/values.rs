//! What stands after options.

use std::net::SocketAddr;

use bytesize::ByteSize;
use coordinator_client::JoinToken;

use crate::metrics;

/// Done here because clap would quote a damaged token, which is a secret, in its message.
pub(super) fn parse_token(text: &str) -> anyhow::Result<JoinToken> {
    Ok(text.parse()?)
}

/// An endpoint that others can send to.
pub(super) fn reachable(text: &str) -> Result<SocketAddr, String> {
    let endpoint: SocketAddr =
        text.parse().map_err(|_| "write an address and a port, as in 203.0.113.7:41641")?;
    let ip = endpoint.ip();
    if endpoint.port() == 0 || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err(
            "nobody can send there: write the address that leads here from outside".to_owned()
        );
    }
    Ok(endpoint)
}

/// An endpoint that only this machine's users reach.
pub(super) fn local(text: &str) -> Result<SocketAddr, String> {
    let endpoint: SocketAddr =
        text.parse().map_err(|_| "write an address and a port, as in 127.0.0.1:9464")?;
    if !metrics::is_local(endpoint) {
        return Err("others could read there: write 127.0.0.1 or [::1]".to_owned());
    }
    Ok(endpoint)
}

/// Bytes per second, written as such or as bits; 0: no limit.
pub(super) fn per_second(text: &str) -> Result<u64, String> {
    let written = || format!("{text:?} is no rate: write it as in 2MB/s, 500kB/s or 16Mbit/s");
    let amount =
        text.trim().strip_suffix("/s").ok_or_else(written).or_else(|error| match text {
            "0" => Ok("0"),
            _ => Err(error),
        })?;
    let (amount, share) = match amount.strip_suffix("bit") {
        Some(bits) => (bits, 8),
        None => (amount, 1),
    };
    Ok(bytes(amount).ok_or_else(written)?.div_ceil(share))
}

/// Bytes; 0: no limit.
pub(super) fn per_day(text: &str) -> Result<u64, String> {
    bytes(text).ok_or_else(|| format!("{text:?} is no volume: write it as in 20GB or 500MB"))
}

/// None for what is no number with a unit, or a negative one.
fn bytes(text: &str) -> Option<u64> {
    Some(text.trim().parse::<ByteSize>().ok()?.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_volumes_are_written_as_people_do() {
        let table = [
            ("2MB/s", 2_000_000),
            ("1.5 MB/s", 1_500_000),
            ("500kB/s", 500_000),
            ("16Mbit/s", 2_000_000),
            ("100 Mbit/s", 12_500_000),
            ("1MiB/s", 1 << 20),
            ("1bit/s", 1),
            ("0", 0),
        ];
        for (text, expected) in table {
            assert_eq!(per_second(text), Ok(expected), "{text}");
        }
        for bad in ["", "/s", "2", "2MB", "2MB/h", "-2MB/s", "2Mbits/s", "2XB/s", "MB/s"] {
            assert!(per_second(bad).unwrap_err().contains("16Mbit/s"), "{bad}");
        }
        assert_eq!(per_day("20GB"), Ok(20_000_000_000));
        assert_eq!(per_day("0"), Ok(0));
        assert_eq!(per_day("99999999999EB"), Ok(u64::MAX));
        for bad in ["", "much", "-1GB", "20GB/s"] {
            assert!(per_day(bad).unwrap_err().contains("20GB"), "{bad}");
        }
    }
}
