//! Numbers of jobs and nodes, and the time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A job's number, from 1. Written as OAR writes it: the bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node's number, from 1. Written as its OAR host name: `vol-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeNumber(pub u64);

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vol-{}", self.0)
    }
}

/// The text is not a node's host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node's host name is vol- and a number")]
pub struct ParseNodeNumberError;

impl FromStr for NodeNumber {
    type Err = ParseNodeNumberError;

    fn from_str(text: &str) -> Result<Self, ParseNodeNumberError> {
        let digits = text.strip_prefix("vol-").ok_or(ParseNodeNumberError)?;
        let number = digits.parse().map_err(|_| ParseNodeNumberError)?;
        // One node has one name: `vol-01` and `vol-+1` name nobody.
        if Self(number).to_string() == text { Ok(Self(number)) } else { Err(ParseNodeNumberError) }
    }
}

/// A point in time: milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Whole seconds since the epoch, as OAR writes times.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time that passed since `earlier`; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_reads_back_as_its_node() {
        assert_eq!("vol-12".parse(), Ok(NodeNumber(12)));
        assert_eq!(NodeNumber(12).to_string(), "vol-12");
    }

    #[test]
    fn names_that_no_node_has_are_refused() {
        for text in ["", "vol-", "vol-01", "vol-+1", "vol--1", "vol-1 ", "node-1", "1"] {
            assert_eq!(text.parse::<NodeNumber>(), Err(ParseNodeNumberError), "{text:?}");
        }
    }
}
