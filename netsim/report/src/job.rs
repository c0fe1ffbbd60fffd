//! Which job: the numbers are each coordinator's own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a coordinator is called in a scenario that gives it no name.
const UNNAMED: &str = "coordinator";

/// A job of a run. In logs it is the field `job`, with `coordinator` beside it where that one has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobKey {
    /// The name of its coordinator.
    #[serde(default = "unnamed", skip_serializing_if = "is_unnamed")]
    pub coordinator: String,
    /// Its number there.
    #[serde(rename = "job")]
    pub number: u64,
}

impl JobKey {
    /// The job of that coordinator with that number.
    pub fn new(coordinator: &str, number: u64) -> Self {
        Self { coordinator: coordinator.to_owned(), number }
    }

    /// The coordinator as logs have it: nothing where it has no name.
    pub(crate) fn named_coordinator(&self) -> &str {
        if is_unnamed(&self.coordinator) { "" } else { &self.coordinator }
    }

    /// From what logs have: no name is that of the one without.
    pub(crate) fn read(coordinator: &str, number: u64) -> Self {
        Self::new(if coordinator.is_empty() { UNNAMED } else { coordinator }, number)
    }
}

/// A job of the coordinator that has no name.
impl From<u64> for JobKey {
    fn from(number: u64) -> Self {
        Self { coordinator: unnamed(), number }
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named_coordinator() {
            "" => write!(f, "{}", self.number),
            name => write!(f, "{name}/{}", self.number),
        }
    }
}

pub(crate) fn unnamed() -> String {
    UNNAMED.to_owned()
}

pub(crate) fn is_unnamed(name: &String) -> bool {
    name == UNNAMED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_job_of_a_named_coordinator_names_it() {
        let (first, other) = (JobKey::from(7), JobKey::new("north", 7));
        assert_eq!([first.to_string(), other.to_string()], ["7", "north/7"]);
        let text = [&first, &other].map(|job| serde_json::to_string(job).unwrap());
        assert_eq!(text, [r#"{"job":7}"#, r#"{"coordinator":"north","job":7}"#]);
        let read = text.map(|text| serde_json::from_str::<JobKey>(&text).unwrap());
        assert_eq!(read, [first, other]);
    }
}
