//! When volunteers come and go, as it is written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::Time;

/// When a group's machines come and go: drawn from a distribution, or from a trace. A machine that
/// goes loses its power: nothing on it gets a word out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Churn {
    /// The distribution of the times on and off. Default: exponential.
    pub model: Option<ChurnModel>,
    /// Mean time on.
    pub on: Option<Time>,
    /// Mean time off.
    pub off: Option<Time>,
    /// The shape of `weibull` (below 1 is heavy-tailed: many short times, few very long ones) or the
    /// sigma of `lognormal`. Default: 0.5 and 1.5.
    pub shape: Option<f64>,
    /// A file, relative to the scenario file, with a line `MACHINE,FROM,TO` for each time on: the
    /// machine's number from 1, and seconds. `#` begins a comment.
    pub trace: Option<PathBuf>,
    /// So many times faster than the trace was: 3600 makes an hour a second. Default: 1.
    pub speed: Option<f64>,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChurnModel {
    /// Memoryless.
    #[default]
    Exponential,
    /// Heavy-tailed for shapes below 1.
    Weibull,
    /// Heavy-tailed.
    Lognormal,
}
