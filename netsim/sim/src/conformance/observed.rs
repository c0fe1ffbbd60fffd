//! What was seen, and how it differs from what a profile says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nat::{Filtering, Mapping, NatProfile, PortAllocation, Refresh};
use crate::units::millis;

/// How a NAT behaves, as far as it can be seen from both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observed {
    /// Whether source endpoints change on the way out at all.
    pub translates: bool,
    /// Which packets share an outer port.
    pub mapping: Mapping,
    /// From whom packets are let in.
    pub filtering: Filtering,
    /// How the outer port is chosen.
    pub allocation: Allocation,
    /// What happens to the second of two machines that use the same port; none where the first
    /// one's port is not kept.
    pub conflict: Option<Conflict>,
    /// Whether the machines inside reach each other through their outer endpoints. Without
    /// translation that is no question, and true.
    pub hairpin: bool,
    /// How long an unused mapping works; none where none is needed.
    pub lifetime: Option<Lifetime>,
    /// Which packets keep it alive; none where the lifetime was not found.
    pub refresh: Option<Refresh>,
}

/// How outer ports are chosen, for packets of different inner ports to one remote endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// The inner port.
    Preserved,
    /// Each at the same small distance after the one before.
    Sequential,
    /// Without a rule that could be seen.
    Irregular,
}

/// What the second of two machines with the same inner port gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflict {
    /// The port after it.
    Next,
    /// Some other one.
    Other,
    /// The same one ("overloading", which RFC 4787 REQ-3 forbids).
    Overloaded,
    /// Nothing: its packet does not get out.
    Refused,
}

/// A lifetime as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lifetime {
    /// The mapping still worked at this age.
    #[serde(rename = "alive-ms", with = "millis")]
    pub alive: Duration,
    /// At this age it did not; none when it outlived the measurement.
    #[serde(rename = "dead-ms", with = "optional")]
    pub dead: Option<Duration>,
}

/// Where something that was seen is not what a profile says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{axis}: {seen} was seen, but the profile says {said}")]
pub struct Difference {
    /// The axis.
    pub axis: &'static str,
    /// What was seen.
    pub seen: String,
    /// What the profile says.
    pub said: String,
}

impl Observed {
    /// Where this is not what the profile says (none: a router without NAT and filter). Empty when
    /// it agrees.
    ///
    /// A measured lifetime agrees when the profile's lies after the last sign of life and not after
    /// the first of death. What cannot be seen (the table's size) is not compared; random and
    /// sequential ports are told apart, preserved ones by what happens on conflict.
    pub fn differences(&self, profile: Option<&NatProfile>) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |axis, seen: String, said: String| {
            if seen != said {
                found.push(Difference { axis, seen, said });
            }
        };
        compare("translation", format!("{}", self.translates), format!("{}", profile.is_some()));
        let Some(profile) = profile else {
            let open = format!("{:?}", Filtering::EndpointIndependent);
            compare("filtering", format!("{:?}", self.filtering), open);
            return found;
        };
        compare("mapping", format!("{:?}", self.mapping), format!("{:?}", profile.mapping));
        compare("filtering", format!("{:?}", self.filtering), format!("{:?}", profile.filtering));
        compare("hairpin", format!("{}", self.hairpin), format!("{}", profile.hairpin));
        let (allocation, conflict) = match profile.port {
            PortAllocation::Preserving => (Allocation::Preserved, Some(Conflict::Next)),
            PortAllocation::PreservingOrRandom => (Allocation::Preserved, Some(Conflict::Other)),
            PortAllocation::Sequential => (Allocation::Sequential, None),
            PortAllocation::Random => (Allocation::Irregular, None),
        };
        compare("port allocation", format!("{:?}", self.allocation), format!("{allocation:?}"));
        compare("port conflict", format!("{:?}", self.conflict), format!("{conflict:?}"));
        let fits = self.lifetime.is_some_and(|seen| {
            seen.alive < profile.lifetime && seen.dead.is_none_or(|dead| profile.lifetime <= dead)
        });
        if !fits {
            compare("lifetime", format!("{:?}", self.lifetime), format!("{:?}", profile.lifetime));
        }
        if self.lifetime.is_some_and(|lifetime| lifetime.dead.is_some()) {
            compare(
                "refresh",
                format!("{:?}", self.refresh),
                format!("{:?}", Some(profile.refresh)),
            );
        }
        found
    }
}

mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
