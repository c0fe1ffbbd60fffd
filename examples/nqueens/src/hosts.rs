//! The list of machines: one host a line, as in a node file of OAR.

use std::{fmt, net::SocketAddr};

/// Ranks at most: each holds a connection to every other (chosen).
const MAX_RANKS: usize = 1024;

/// Where a rank listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Why a host list is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum HostsError {
    #[error("the host list names no host")]
    Empty,
    #[error("the host list names more than {MAX_RANKS} hosts")]
    TooMany,
    #[error("line {line} of the host list is not a host or host:port: {text:?}")]
    Line { line: usize, text: String },
}

/// Reads a host list: `host`, `host:port`, `[v6]:port` or a bare address on each line.
///
/// A node file has one line per core, so only the first line of each host counts; the order is kept.
/// Empty lines and those that begin with `#` are skipped.
pub(crate) fn parse(text: &str, default_port: u16) -> Result<Vec<Host>, HostsError> {
    let mut hosts = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let entry = line.trim();
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        let host = parse_entry(entry, default_port).ok_or_else(|| HostsError::Line {
            line: index + 1,
            text: entry.chars().take(80).collect(),
        })?;
        if !hosts.contains(&host) {
            if hosts.len() == MAX_RANKS {
                return Err(HostsError::TooMany);
            }
            hosts.push(host);
        }
    }
    if hosts.is_empty() { Err(HostsError::Empty) } else { Ok(hosts) }
}

fn parse_entry(entry: &str, default_port: u16) -> Option<Host> {
    if let Ok(address) = entry.parse::<SocketAddr>() {
        return Some(Host { name: address.ip().to_string(), port: address.port() });
    }
    if let Ok(address) = entry.parse::<std::net::IpAddr>() {
        return Some(Host { name: address.to_string(), port: default_port });
    }
    let (name, port) = match entry.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)?),
        None => (entry, default_port),
    };
    let is_name = !name.is_empty()
        && name.len() <= 253 // RFC 1035, section 2.3.4
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    is_name.then(|| Host { name: name.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text, 4910).unwrap().iter().map(Host::to_string).collect()
    }

    #[test]
    fn a_node_file_has_one_line_per_core() {
        assert_eq!(
            names("vol-2\nvol-2\nvol-1\nvol-2\n\nvol-1\n"),
            ["vol-2:4910", "vol-1:4910"],
            "unique, in order"
        );
    }

    #[test]
    fn entries_may_carry_ports_and_addresses() {
        assert_eq!(
            names(
                "# mine\n127.0.0.1:5001\n127.0.0.1:5002\n10.0.0.1\nfd00::1\n[fd00::2]:7\na.b:80\n"
            ),
            [
                "127.0.0.1:5001",
                "127.0.0.1:5002",
                "10.0.0.1:4910",
                "[fd00::1]:4910",
                "[fd00::2]:7",
                "a.b:80"
            ]
        );
    }

    #[test]
    fn bad_lists_are_refused() {
        assert_eq!(parse("\n# nothing\n", 1), Err(HostsError::Empty));
        for bad in ["host:0", "host:70000", "a b", ":1", "host:", "ho\u{7}st"] {
            let error = parse(&format!("good\n{bad}\n"), 1).unwrap_err();
            assert!(matches!(error, HostsError::Line { line: 2, .. }), "{bad}: {error}");
        }
        let many: String = (0..=MAX_RANKS).map(|k| format!("h{k}\n")).collect();
        assert_eq!(parse(&many, 1), Err(HostsError::TooMany));
    }
}
