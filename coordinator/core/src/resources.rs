//! The resource request: oarsub's `-l`.
//!
//! ```text
//! request := [ group ('+' group)* ] [ ',' walltime=TIME ]
//! group   := [ '{' condition '}' ] [ '/' ] level ('/' level)*
//! level   := PROPERTY '=' ( NUMBER | ALL | BEST | BESTHALF )
//! ```
//!
//! Levels nest: `/switch=1/nodes=2/core=1` is one core on each of two nodes behind one switch. A level that
//! names no resources below it takes them all: `nodes=2` is two whole nodes. Several requests are
//! alternatives (a moldable job).

mod parse;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::reader::Unreadable;

/// Walltime of a request that names none, seconds: OAR's shipped admission rule, 2 h.
pub const DEFAULT_WALLTIME_S: u64 = 7_200;

/// The longest walltime, seconds. Chosen: 60 days; no volunteer's machine can promise more.
const MAX_WALLTIME_S: u64 = 60 * 24 * 3_600;

/// The most nodes of a job: the limit of a mesh (`overlay_core::netmap::MAX_MEMBERS`).
pub const MAX_NODES: usize = 1_024;

/// The largest number at a level. Chosen: more resources than any one job will get here.
const MAX_COUNT: u32 = 100_000;

/// The longest resource request, bytes. Chosen: a condition and several levels.
const MAX_REQUEST: usize = 8_192;

/// The most alternatives, groups of one, and levels of one. Chosen: more than anybody writes.
const MAX_PARTS: usize = 16;

/// The property that tells nodes apart.
pub(crate) const NODE: &str = "network_address";

/// The property that tells resources apart.
pub(crate) const RESOURCE: &str = "resource_id";

/// What a job asks for: one request or several, of which one is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Resources {
    /// At least one.
    pub alternatives: Vec<Alternative>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alternative {
    /// At least one; a resource belongs to one group only.
    pub groups: Vec<Group>,
    /// Seconds, at least 1.
    pub walltime_s: u64,
}

/// Resources of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// Only resources that are such.
    pub filter: Option<Expression>,
    /// From the outermost one; at least one.
    pub levels: Vec<Level>,
}

/// So many different values of a property.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Level {
    /// The property's name, in lower case.
    pub property: String,
    /// How many.
    pub count: Count,
}

/// How many of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Count {
    /// So many, at least 1.
    Exactly(u32),
    /// All that there are.
    All,
    /// As many as are free, at least 1.
    Best,
    /// Half as many as are free, at least 1.
    BestHalf,
}

/// Why a resource request is not understood, or not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceRefusal {
    /// It cannot be read.
    #[error("cannot read the resource request: {0}")]
    Unreadable(#[from] Unreadable),
    /// More alternatives than anybody needs.
    #[error("{0} resource requests given as alternatives: give at most {MAX_PARTS}")]
    TooMany(usize),
}

/// Rows of the first version held a number of nodes, and of cores of each.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Alternatives { alternatives: Vec<Alternative> },
    Nodes { nodes: u32, cores: Option<u32>, walltime_s: u64 },
}

impl From<Stored> for Resources {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Alternatives { alternatives } => Self { alternatives },
            Stored::Nodes { nodes, cores, walltime_s } => {
                let level = |property: &str, count| Level {
                    property: property.to_owned(),
                    count: Count::Exactly(count),
                };
                let mut levels = vec![level(NODE, nodes)];
                levels.extend(cores.map(|cores| level("core", cores)));
                let groups = vec![Group { filter: None, levels }];
                Self { alternatives: vec![Alternative { groups, walltime_s }] }
            }
        }
    }
}

impl Resources {
    /// Reads the values of `-l`. None at all means one resource for [`DEFAULT_WALLTIME_S`], as in OAR.
    pub fn parse(requests: &[String]) -> Result<Self, ResourceRefusal> {
        if requests.len() > MAX_PARTS {
            return Err(ResourceRefusal::TooMany(requests.len()));
        }
        let read = |text: &String| parse::alternative(text);
        let mut alternatives = requests.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if alternatives.is_empty() {
            alternatives.push(parse::alternative(&format!("/{RESOURCE}=1"))?);
        }
        Ok(Self { alternatives })
    }

    /// The first alternative.
    pub fn first(&self) -> &Alternative {
        // There is at least one.
        &self.alternatives[0]
    }

    /// As OAR writes it back: `-l "{type = 'default'}/network_address=6,walltime=1:0:0" `.
    pub fn wanted(&self) -> String {
        self.alternatives.iter().map(|it| format!("-l \"{it}\" ")).collect()
    }

    /// All properties that it names, at levels and in conditions.
    pub fn properties(&self) -> impl Iterator<Item = &str> {
        let groups = self.alternatives.iter().flat_map(|alternative| &alternative.groups);
        groups.flat_map(|group| {
            let filter = group.filter.iter().flat_map(Expression::properties);
            filter.chain(group.levels.iter().map(|level| &*level.property))
        })
    }
}

impl Alternative {
    /// How many resources it names: the product of the levels' numbers, in all groups.
    pub fn size(&self) -> u64 {
        self.groups.iter().map(Group::size).fold(0, u64::saturating_add)
    }
}

impl Group {
    /// How many resources it names: the product of the levels' numbers.
    pub(crate) fn size(&self) -> u64 {
        let number = |level: &Level| match level.count {
            Count::Exactly(count) => u64::from(count),
            Count::All | Count::Best | Count::BestHalf => 1,
        };
        self.levels.iter().map(number).fold(1, u64::saturating_mul)
    }
}

impl fmt::Display for Alternative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                f.write_str("+")?;
            }
            match &group.filter {
                None => f.write_str("{type = 'default'}")?,
                Some(filter) => write!(f, "{{({filter}) AND type = 'default'}}")?,
            }
            for Level { property, count } in &group.levels {
                write!(f, "/{property}={count}")?;
            }
        }
        write!(f, ",walltime={}", walltime_text(self.walltime_s))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(count) => count.fmt(f),
            Self::All => f.write_str("ALL"),
            Self::Best => f.write_str("BEST"),
            Self::BestHalf => f.write_str("BESTHALF"),
        }
    }
}

/// A walltime as OAR writes it: hours, minutes and seconds without leading zeros.
pub(crate) fn walltime_text(seconds: u64) -> String {
    format!("{}:{}:{}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests;
