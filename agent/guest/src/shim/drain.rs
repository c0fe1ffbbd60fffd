//! The last words of a job's connections.
//!
//! When a command has ended, the kernel still owes its peers what it wrote last. The network goes with the
//! shim, so the shim waits until that has been acknowledged.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long data, or the end of a connection, may wait for its acknowledgement. Chosen: several
/// retransmissions on a bad path; reached only when the peer is gone.
const DATA_LIMIT: Duration = Duration::from_secs(10);

/// How long the second end of a connection may: its peer has closed and is often gone for good reason.
const LAST_ACK_LIMIT: Duration = Duration::from_secs(1);

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(10);

/// What is outstanding in a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Outstanding {
    #[default]
    Nothing,
    /// The end of connections that the peers have closed already.
    LastAck,
    /// Data, or the first end of a connection.
    Data,
}

/// Waits until this network namespace's connections have delivered what they hold, within limits.
pub(super) async fn drained() {
    let begun = Instant::now();
    loop {
        let limit = match outstanding() {
            Outstanding::Nothing => return,
            Outstanding::LastAck => LAST_ACK_LIMIT,
            Outstanding::Data => DATA_LIMIT,
        };
        if begun.elapsed() >= limit {
            return;
        }
        sleep(INTERVAL).await;
    }
}

fn outstanding() -> Outstanding {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|table| outstanding_in(&table))
        .max()
        .unwrap_or_default()
}

/// Reads a table of the kernel: `sl local remote st tx_queue:rx_queue ...`, numbers hexadecimal.
fn outstanding_in(table: &str) -> Outstanding {
    const FIN_WAIT1: u8 = 4;
    const LAST_ACK: u8 = 9;
    const LISTEN: u8 = 10;
    const CLOSING: u8 = 11;

    let of_line = |line: &str| {
        let mut fields = line.split_whitespace().skip(3);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let (unacknowledged, _) = fields.next()?.split_once(':')?;
        let unacknowledged = u32::from_str_radix(unacknowledged, 16).ok()?;
        Some(match (state, unacknowledged) {
            // A listener's numbers mean something else.
            (LISTEN, _) | (_, 0) => Outstanding::Nothing,
            (FIN_WAIT1 | CLOSING, _) => Outstanding::Data,
            // The end itself counts as one.
            (LAST_ACK, 1) => Outstanding::LastAck,
            (_, _) => Outstanding::Data,
        })
    };
    table.lines().skip(1).filter_map(of_line).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str)]) -> Outstanding {
        let mut text = String::from("  sl  local_address rem_address   st tx_queue rx_queue tr\n");
        for (state, unacknowledged) in rows {
            text += &format!(
                "   0: 0100800A:9C40 0200800A:1F90 {state} {unacknowledged}:00000000 01:00000014\n"
            );
        }
        outstanding_in(&text)
    }

    #[test]
    fn what_is_acknowledged_is_not_waited_for() {
        assert_eq!(table(&[]), Outstanding::Nothing);
        // Waiting for the peer's end, time wait, a listener with a backlog limit.
        let quiet = [("05", "00000000"), ("06", "00000000"), ("0A", "00000080")];
        assert_eq!(table(&quiet), Outstanding::Nothing);
    }

    #[test]
    fn data_and_ends_are_told_apart() {
        assert_eq!(table(&[("09", "00000001")]), Outstanding::LastAck);
        assert_eq!(table(&[("09", "00000001"), ("04", "00000001")]), Outstanding::Data);
        assert_eq!(table(&[("09", "00000400")]), Outstanding::Data);
        assert_eq!(table(&[("0B", "00000001")]), Outstanding::Data);
    }
}
