//! What happens to machines, routers and programs, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::JobState;
use crate::text::Time;

/// `[[event]]`: something that happens, at a time or when a job gets that far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Event {
    /// When, from the start of the work (everything is built and the volunteers are there).
    pub at: Option<Time>,
    /// When a job gets that far. One of `at` and `when` is needed.
    pub when: Option<Trigger>,
    /// How long after that it happens. Default: at once.
    #[serde(default)]
    pub after: Time,
    /// What happens.
    #[serde(rename = "do")]
    pub action: Action,
    /// The machine: `vol-1`, `scientist`, ... For a relay's events: `relay-1`.
    pub node: Option<String>,
    /// The router: a named one, or `vol-1-r0` for the own router of `vol-1`.
    pub router: Option<String>,
    /// Where `roam` leads: a named router, or `public`.
    pub to: Option<String>,
    /// Which coordinator stops or starts. Default: the first.
    pub coordinator: Option<String>,
}

/// A job that gets so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trigger {
    /// Its name; of a campaign, the first that gets there.
    pub job: String,
    /// How far.
    pub state: JobState,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A router starts again: it has forgotten its mappings, and chooses other ports.
    NatReboot,
    /// A machine moves to another network.
    Roam,
    /// A machine's own link fails.
    LinkDown,
    /// It is back.
    LinkUp,
    /// A router's link outwards fails.
    UplinkDown,
    /// It is back.
    UplinkUp,
    /// A machine stands still, as a laptop whose lid is shut.
    Suspend,
    /// It goes on.
    Resume,
    /// A machine loses its power.
    Kill,
    /// It starts again.
    Start,
    /// A coordinator ends cleanly.
    CoordinatorStop,
    /// A coordinator is killed.
    CoordinatorKill,
    /// A coordinator starts again with its data.
    CoordinatorStart,
    /// A stand-alone relay ends cleanly.
    RelayStop,
    /// A stand-alone relay is killed.
    RelayKill,
    /// A stand-alone relay starts again.
    RelayStart,
}
