//! A relay's counters in Prometheus' text format (version 0.0.4).

use std::fmt::Write as _;

use crate::stats::RelayStats;

/// What the format calls itself, for the header of an answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The counters as a scraper reads them.
pub fn exposition(stats: &RelayStats) -> String {
    let RelayStats {
        forwarded_packets,
        forwarded_bytes,
        reflected,
        challenged,
        bound,
        channels,
        bindings,
        pairs,
        dropped,
        io,
    } = *stats;
    let mut page = String::new();
    for (name, help, value) in [
        ("channels", "Channels in the table.", channels),
        ("bindings", "Sides of channels that an address holds.", bindings),
        ("pairs", "Channels with both sides held.", pairs),
    ] {
        family(&mut page, name, "gauge", help, [(None, value)]);
    }
    for (name, help, value) in [
        ("forwarded_packets_total", "Packets passed on to the other side.", forwarded_packets),
        ("forwarded_bytes_total", "Bytes of those.", forwarded_bytes),
        ("reflected_total", "Questions answered as to where they came from.", reflected),
        ("challenges_total", "Cookies sent to those who want to bind.", challenged),
        ("binds_total", "Bindings made or refreshed.", bound),
        ("send_calls_total", "Send calls, each of one packet or many.", io.sends),
        ("overflowed_packets_total", "Packets that waited too long for the socket.", io.overflowed),
        ("send_errors_total", "Sends that the kernel refused.", io.send_errors),
    ] {
        family(&mut page, name, "counter", help, [(None, value)]);
    }
    let dropped = dropped.by_reason().map(|(reason, count)| (Some(reason), count));
    let help = "Datagrams neither passed on nor answered.";
    family(&mut page, "dropped_datagrams_total", "counter", help, dropped);
    page
}

fn family(
    page: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Option<&'static str>, u64)>,
) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "# HELP clouds_relay_{name} {help}");
    let _ = writeln!(page, "# TYPE clouds_relay_{name} {kind}");
    for (reason, value) in samples {
        let _ = match reason {
            Some(reason) => writeln!(page, "clouds_relay_{name}{{reason=\"{reason}\"}} {value}"),
            None => writeln!(page, "clouds_relay_{name} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{DropReason, Dropped};

    #[test]
    fn every_counter_has_its_line_and_every_family_a_type() {
        let mut dropped = Dropped::default();
        dropped.count(DropReason::OverQuota, 1);
        dropped.count(DropReason::OverQuota, 1);
        let page = exposition(&RelayStats {
            forwarded_packets: 7,
            forwarded_bytes: 900,
            pairs: 3,
            dropped,
            ..RelayStats::default()
        });
        for line in [
            "# TYPE clouds_relay_forwarded_packets_total counter",
            "clouds_relay_forwarded_packets_total 7",
            "clouds_relay_forwarded_bytes_total 900",
            "# TYPE clouds_relay_pairs gauge",
            "clouds_relay_pairs 3",
            "clouds_relay_dropped_datagrams_total{reason=\"over-quota\"} 2",
            "clouds_relay_dropped_datagrams_total{reason=\"bad-cookie\"} 0",
        ] {
            assert!(page.lines().any(|there| there == line), "{line} in\n{page}");
        }
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        for sample in samples {
            let name = sample.split([' ', '{']).next().unwrap();
            assert!(page.contains(&format!("# TYPE {name} ")), "{name}");
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        }
    }
}
