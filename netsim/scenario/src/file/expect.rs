//! What must hold in the end, as it is written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::text::Time;

/// `[[expect]]`: something that must hold when everything has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// What is looked at.
    pub that: Subject,
    /// The job or campaign that it is about. Default: all of them.
    pub job: Option<String>,
    /// The coordinator whose jobs it is about. Default: all of them.
    pub coordinator: Option<String>,
    /// For metrics: which percentile of the values, 0 to 100. Default: 50, the median.
    pub percentile: Option<f64>,
    /// The least that it may be: a number, or a time such as `"5s"`.
    pub at_least: Option<Quantity>,
    /// The most that it may be.
    pub at_most: Option<Quantity>,
    /// What it must be exactly. Only for numbers of something.
    pub exactly: Option<u64>,
    /// For `path`: the two machines.
    pub between: Option<[String; 2]>,
    /// For `path`: what their path must be in the end.
    pub is: Option<Path>,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// From one to the other.
    Direct,
    /// Over a relay.
    Relayed,
}

/// What an expectation is about: numbers of something, a property, or a [`Metric`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The number of jobs that ended well.
    JobsTerminated,
    /// The number of jobs that ended in an error.
    JobsFailed,
    /// The number of pairs whose path is direct in the end.
    DirectPairs,
    /// The number of pairs whose path is relayed in the end.
    RelayedPairs,
    /// The number of files that were collected.
    CollectedFiles,
    /// The relayed pairs are exactly those that RFC 4787 makes impossible to connect.
    RelayedAsPredicted,
    /// Machines of the same network talk inside it: their packets never cross its router.
    LanPairsDirect,
    /// The path of one pair.
    Path,
    /// See [`Metric::TimeToMesh`].
    TimeToMesh,
    /// See [`Metric::Rtt`].
    Rtt,
    /// See [`Metric::FirstByte`].
    FirstByte,
    /// See [`Metric::QueueTime`].
    QueueTime,
    /// See [`Metric::RunTime`].
    RunTime,
}

/// A quantity that is measured several times in a run. All are times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// From a job's assignment until every pair of its nodes has a path. One value for each job.
    TimeToMesh,
    /// The round trip between two nodes of a job in the end. One value for each pair.
    Rtt,
    /// From a job's assignment until a pair has carried its first byte. One value for each pair.
    FirstByte,
    /// From a job's submission until its command starts. One value for each job.
    QueueTime,
    /// From the start of a job's command to its end. One value for each job.
    RunTime,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::TimeToMesh, Self::Rtt, Self::FirstByte, Self::QueueTime, Self::RunTime];

    /// The name in scenario files, in the event log and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeToMesh => "time-to-mesh",
            Self::Rtt => "rtt",
            Self::FirstByte => "first-byte",
            Self::QueueTime => "queue-time",
            Self::RunTime => "run-time",
        }
    }
}

impl Subject {
    /// The metric, if it is one.
    pub fn metric(self) -> Option<Metric> {
        match self {
            Self::TimeToMesh => Some(Metric::TimeToMesh),
            Self::Rtt => Some(Metric::Rtt),
            Self::FirstByte => Some(Metric::FirstByte),
            Self::QueueTime => Some(Metric::QueueTime),
            Self::RunTime => Some(Metric::RunTime),
            Self::JobsTerminated
            | Self::JobsFailed
            | Self::DirectPairs
            | Self::RelayedPairs
            | Self::CollectedFiles
            | Self::RelayedAsPredicted
            | Self::LanPairsDirect
            | Self::Path => None,
        }
    }
}

/// A number of something, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A number.
    Number(u64),
    /// A time.
    Time(Time),
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl de::Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number such as 3, or a time such as \"5s\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity::Number(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        u64::try_from(number)
            .map(Quantity::Number)
            .map_err(|_| E::custom(format!("{number} is less than nothing")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.parse().map(Quantity::Time).map_err(E::custom)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let time = generator.subschema_for::<Time>();
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, time] })
    }
}
