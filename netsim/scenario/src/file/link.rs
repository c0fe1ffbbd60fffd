//! Links, as they are written: by name, or in full.

use std::borrow::Cow;
use std::fmt;

use netsim_sim::LinkPreset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::text::{Share, Size, Speed, Time};

/// A link: `"adsl"`, or a table such as `{ like = "adsl", loss = "1%" }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Link {
    /// By name.
    Preset(LinkPreset),
    /// In full.
    Full(Box<LinkInFull>),
}

/// A link in full. What is given here holds in both directions, what is in `up` or `down` in one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LinkInFull {
    /// The link that this one is like, except for what is given. Default: one without any limits.
    #[schemars(schema_with = "preset_schema")]
    pub like: Option<LinkPreset>,
    /// What every packet takes at least, one way.
    pub delay: Option<Time>,
    /// What each packet takes longer at most.
    pub jitter: Option<Time>,
    /// Whether jitter lets packets overtake each other.
    pub reorders: Option<bool>,
    /// The share of packets that are lost.
    pub loss: Option<Share>,
    /// How many packets in a row a loss takes on average. Default: each by itself.
    pub burst: Option<f64>,
    /// The rate.
    pub rate: Option<Speed>,
    /// What may wait in front of it. Default: 100 ms at the rate, but at least 16 KiB.
    pub queue: Option<Size>,
    /// The largest packet in bytes; the sender of a larger one hears of it.
    pub mtu: Option<u32>,
    /// The share of packets that arrive twice.
    pub duplicate: Option<Share>,
    /// From the machine outwards only.
    pub up: Option<Direction>,
    /// Towards the machine only.
    pub down: Option<Direction>,
}

/// What differs in one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Direction {
    /// What every packet takes at least.
    pub delay: Option<Time>,
    /// What each packet takes longer at most.
    pub jitter: Option<Time>,
    /// Whether jitter lets packets overtake each other.
    pub reorders: Option<bool>,
    /// The share of packets that are lost.
    pub loss: Option<Share>,
    /// How many packets in a row a loss takes on average. Default: each by itself.
    pub burst: Option<f64>,
    /// The rate.
    pub rate: Option<Speed>,
    /// What may wait in front of it. Default: 100 ms at the rate, but at least 16 KiB.
    pub queue: Option<Size>,
    /// The largest packet in bytes; the sender of a larger one hears of it.
    pub mtu: Option<u32>,
    /// The share of packets that arrive twice.
    pub duplicate: Option<Share>,
}

impl LinkInFull {
    /// What holds in both directions.
    pub fn both(&self) -> Direction {
        let Self { like: _, up: _, down: _, .. } = self;
        Direction {
            delay: self.delay,
            jitter: self.jitter,
            reorders: self.reorders,
            loss: self.loss,
            burst: self.burst,
            rate: self.rate,
            queue: self.queue,
            mtu: self.mtu,
            duplicate: self.duplicate,
        }
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(LinkVisitor)
    }
}

struct LinkVisitor;

impl<'de> de::Visitor<'de> for LinkVisitor {
    type Value = Link;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link's name such as \"adsl\", or a table")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Link, E> {
        LinkPreset::deserialize(de::value::StrDeserializer::new(name)).map(Link::Preset)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Link, A::Error> {
        let full = LinkInFull::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Link::Full(Box::new(full)))
    }
}

impl JsonSchema for Link {
    fn schema_name() -> Cow<'static, str> {
        "Link".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<LinkInFull>();
        json_schema!({
            "description": "A link by name, or a table such as { like = \"adsl\", loss = \"1%\" }.",
            "anyOf": [preset_schema(generator), full],
        })
    }
}

fn preset_schema(_: &mut SchemaGenerator) -> Schema {
    let names = LinkPreset::ALL.map(LinkPreset::name);
    json_schema!({ "type": "string", "enum": names })
}
