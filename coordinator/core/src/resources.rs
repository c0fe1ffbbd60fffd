//! The resource request: the subset of oarsub's `-l` that nodes and their cores need.

use serde::{Deserialize, Serialize};

/// Walltime of a request that names none, seconds: OAR's shipped admission rule, 2 h.
pub const DEFAULT_WALLTIME_S: u64 = 7_200;

/// The longest walltime, seconds. Chosen: 60 days; no volunteer's machine can promise more.
const MAX_WALLTIME_S: u64 = 60 * 24 * 3_600;

/// The most nodes of a job: the limit of a mesh (`overlay_core::netmap::MAX_MEMBERS`).
const MAX_NODES: u16 = 1_024;

/// The most cores that a job can ask of each node. Chosen: larger than any volunteer's machine.
const MAX_CORES: u16 = 1_024;

/// The longest resource request, bytes. Chosen: many times the longest that says something.
const MAX_REQUEST: usize = 1_000;

/// How many nodes, for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Nodes, at least 1.
    pub nodes: u16,
    /// Cores of each node, at least 1, which other jobs do not get; none means whole nodes.
    #[serde(default)]
    pub cores: Option<u16>,
    /// Seconds, at least 1.
    pub walltime_s: u64,
}

/// Why a resource request is not understood, or not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceRefusal {
    /// More than one `-l`.
    #[error("{0} resource requests given (moldable job): give one")]
    Moldable(usize),
    /// Too long to mean anything.
    #[error("the resource request has {0} bytes: write it as in nodes=6,walltime=1:00:00")]
    TooLong(usize),
    /// A `+`.
    #[error("several resource groups in {0:?}: give one group, as in nodes=6,walltime=1:00:00")]
    Groups(String),
    /// A `{...}` filter.
    #[error(
        "property filter in {0:?}: filters on resources are not supported, leave the braces out"
    )]
    Filter(String),
    /// A level that is neither nodes nor cores of nodes.
    #[error(
        "cannot recognize {level:?} in {text:?}: write nodes=N for whole nodes, or nodes=N/core=C"
    )]
    Level {
        /// The level.
        level: String,
        /// The whole request.
        text: String,
    },
    /// Not a number of nodes or cores.
    #[error("cannot recognize the number of {what} {count:?}: write a number from 1 to 1024")]
    Count {
        /// `nodes` or `cores`.
        what: &'static str,
        /// What was given.
        count: String,
    },
    /// Not a walltime.
    #[error("cannot recognize the walltime {0:?}: write h, h:m or h:m:s, at most 60 days, not 0")]
    Walltime(String),
}

impl Resources {
    /// Reads the values of `-l`. None at all means one node for [`DEFAULT_WALLTIME_S`].
    pub fn parse(requests: &[String]) -> Result<Self, ResourceRefusal> {
        match requests {
            [] => Ok(Self { nodes: 1, cores: None, walltime_s: DEFAULT_WALLTIME_S }),
            [one] => Self::parse_one(one),
            more => Err(ResourceRefusal::Moldable(more.len())),
        }
    }

    fn parse_one(text: &str) -> Result<Self, ResourceRefusal> {
        if text.len() > MAX_REQUEST {
            return Err(ResourceRefusal::TooLong(text.len()));
        }
        let text = text.trim();
        if text.contains(['{', '}']) {
            return Err(ResourceRefusal::Filter(text.to_owned()));
        }
        if text.contains('+') {
            return Err(ResourceRefusal::Groups(text.to_owned()));
        }
        let mut resources = Self { nodes: 1, cores: None, walltime_s: DEFAULT_WALLTIME_S };
        let mut parts = text.split(',').peekable();
        if let Some(level) = parts.next_if(|part| !part.trim().starts_with("walltime=")) {
            (resources.nodes, resources.cores) = parse_levels(level, text)?;
        }
        if let Some(walltime) = parts.next() {
            let value = walltime.trim().strip_prefix("walltime=");
            let value = value.ok_or_else(|| unknown_level(walltime, text))?;
            resources.walltime_s = parse_walltime(value)?;
        }
        match parts.next() {
            None => Ok(resources),
            Some(more) => Err(unknown_level(more, text)),
        }
    }

    /// As OAR writes it back: `-l "{type = 'default'}/network_address=6,walltime=1:0:0" `.
    pub fn wanted(&self) -> String {
        let Self { nodes, cores, walltime_s } = *self;
        let cores = cores.map(|cores| format!("/core={cores}")).unwrap_or_default();
        let walltime = walltime_text(walltime_s);
        format!("-l \"{{type = 'default'}}/network_address={nodes}{cores},walltime={walltime}\" ")
    }
}

/// A walltime as OAR writes it: hours, minutes and seconds without leading zeros.
pub(crate) fn walltime_text(seconds: u64) -> String {
    format!("{}:{}:{}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn unknown_level(level: &str, text: &str) -> ResourceRefusal {
    ResourceRefusal::Level { level: level.trim().to_owned(), text: text.to_owned() }
}

/// `nodes=N` or `nodes=N/core=C`, with a slash in front or without.
fn parse_levels(levels: &str, text: &str) -> Result<(u16, Option<u16>), ResourceRefusal> {
    let levels = levels.trim();
    let mut levels = levels.strip_prefix('/').unwrap_or(levels).split('/');
    let nodes = levels.next().unwrap_or_default();
    let nodes = match nodes.split_once('=') {
        Some(("nodes" | "network_address", count)) => parse_count("nodes", count, MAX_NODES)?,
        _ => return Err(unknown_level(nodes, text)),
    };
    let cores = match levels.next().map(|level| (level, level.split_once('='))) {
        None => None,
        Some((_, Some(("core", count)))) => Some(parse_count("cores", count, MAX_CORES)?),
        Some((level, _)) => return Err(unknown_level(level, text)),
    };
    match levels.next() {
        None => Ok((nodes, cores)),
        Some(more) => Err(unknown_level(more, text)),
    }
}

fn parse_count(what: &'static str, count: &str, most: u16) -> Result<u16, ResourceRefusal> {
    let number = parse_digits(count).and_then(|n| u16::try_from(n).ok());
    let number = number.filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| ResourceRefusal::Count { what, count: count.to_owned() })
}

/// `h`, `h:m` or `h:m:s`: a bare number is hours. Minutes and seconds may pass 59, as in OAR.
fn parse_walltime(text: &str) -> Result<u64, ResourceRefusal> {
    let bad = || ResourceRefusal::Walltime(text.to_owned());
    let mut seconds: u64 = 0;
    let mut unit = 3600;
    for part in text.split(':') {
        let value = parse_digits(part).ok_or_else(bad)?;
        if unit == 0 {
            return Err(bad());
        }
        seconds += value * unit;
        unit /= 60;
    }
    if (1..=MAX_WALLTIME_S).contains(&seconds) { Ok(seconds) } else { Err(bad()) }
}

/// Up to 7 digits and nothing else, so that sums of products cannot overflow.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Resources, ResourceRefusal> {
        Resources::parse(&[text.to_owned()])
    }

    #[test]
    fn requests_for_whole_nodes_are_read() {
        for (text, nodes, walltime_s) in [
            ("nodes=6", 6, 7_200),
            ("/nodes=6", 6, 7_200),
            ("network_address=2", 2, 7_200),
            ("nodes=6,walltime=1", 6, 3_600),
            ("nodes=6,walltime=0:5", 6, 300),
            ("/nodes=6,walltime=1:02:03", 6, 3_723),
            ("nodes=1, walltime=0:0:1", 1, 1),
            ("walltime=0:90:0", 1, 5_400),
            ("nodes=1024", 1024, 7_200),
        ] {
            assert_eq!(parse(text), Ok(Resources { nodes, cores: None, walltime_s }), "{text}");
        }
    }

    #[test]
    fn requests_for_some_cores_of_each_node_are_read() {
        for text in ["nodes=6/core=2", "/nodes=6/core=2", "network_address=6/core=2,walltime=2"] {
            let expected = Resources { nodes: 6, cores: Some(2), walltime_s: 7_200 };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn no_request_means_one_node_for_two_hours() {
        let default = Resources { nodes: 1, cores: None, walltime_s: 7_200 };
        assert_eq!(Resources::parse(&[]), Ok(default));
    }

    #[test]
    fn what_is_not_whole_nodes_is_refused_with_the_reason() {
        for (text, says) in [
            ("nodes=abc", "number of nodes"),
            ("nodes=0", "number of nodes"),
            ("nodes=1025", "number of nodes"),
            ("nodes=99999999", "number of nodes"),
            ("nodes=-1", "number of nodes"),
            ("nosuch=1", "nosuch"),
            ("/nodes=1/cpu=2", "cpu=2"),
            ("/nodes=1/core=2/core=1", "core=1"),
            ("/nodes=1/core=0", "number of cores"),
            ("/nodes=1/core=ALL", "number of cores"),
            ("//nodes=1", "whole nodes"),
            ("core=4", "whole nodes"),
            ("nodes", "whole nodes"),
            ("", "whole nodes"),
            ("nodes=1+nodes=2", "several resource groups"),
            ("{gpu='YES'}/nodes=1", "braces"),
            ("nodes=1,walltime=0", "walltime"),
            ("nodes=1,walltime=", "walltime"),
            ("nodes=1,walltime=1:2:3:4", "walltime"),
            ("nodes=1,walltime=9999999", "walltime"),
            ("nodes=1,walltime=1,walltime=2", "whole nodes"),
            ("nodes=1,foo=2", "foo=2"),
        ] {
            let refusal = parse(text).expect_err(text).to_string();
            assert!(refusal.contains(says), "{text:?}: {refusal}");
        }
        let two = [String::from("nodes=1"), String::from("nodes=2")];
        assert_eq!(Resources::parse(&two), Err(ResourceRefusal::Moldable(2)));
    }

    #[test]
    fn a_request_is_written_back_as_oar_does() {
        let resources = Resources { nodes: 1, cores: None, walltime_s: 300 };
        assert_eq!(
            resources.wanted(),
            "-l \"{type = 'default'}/network_address=1,walltime=0:5:0\" "
        );
    }
}
