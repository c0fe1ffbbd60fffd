//! Whole numbers with limits, so that a wrong one is refused at its place in the file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A number from 1 to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Whole<const MOST: u32>(u32);

/// The number of volunteers in a group, of jobs in a campaign or an array.
pub type Count = Whole<100_000>;

impl<const MOST: u32> Whole<MOST> {
    /// One.
    pub const ONE: Self = Self(1);

    /// That number, if it is within the limits.
    pub fn new(number: u32) -> Option<Self> {
        (1..=MOST).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl<const MOST: u32> Default for Whole<MOST> {
    fn default() -> Self {
        Self::ONE
    }
}

impl<'de, const MOST: u32> Deserialize<'de> for Whole<MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(from)?;
        let within = u32::try_from(number).ok().and_then(Self::new);
        within.ok_or_else(|| de::Error::custom(format!("{number} is not from 1 to {MOST}")))
    }
}

impl<const MOST: u32> JsonSchema for Whole<MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From1To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MOST })
    }
}
