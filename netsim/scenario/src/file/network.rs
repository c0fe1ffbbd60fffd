//! Regions, ways and routers, as they are written.

use std::borrow::Cow;
use std::fmt;

use netsim_sim::nat::Preset as NatPreset;
use netsim_sim::{Filtering, Mapping, PortAllocation, Refresh, WhenFull};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::Link;
use super::bounded::Whole;
use crate::text::{Share, Size, Speed, Time};

/// `[[regions]]`: a part of the public network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Region {
    /// Its name.
    pub name: String,
}

/// `[[ways]]`: what packets meet between two regions, the same both ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Way {
    /// The two regions.
    pub between: [String; 2],
    /// What every packet takes at least, one way.
    #[serde(default)]
    pub delay: Time,
    /// What each packet takes longer at most.
    #[serde(default)]
    pub jitter: Time,
    /// The share of packets that are lost.
    #[serde(default)]
    pub loss: Share,
    /// How many packets in a row a loss takes on average. Default: each by itself.
    pub burst: Option<f64>,
    /// The rate. Default: without limit.
    pub rate: Option<Speed>,
    /// What may wait in front of it. Default: 100 ms at the rate, but at least 16 KiB.
    pub queue: Option<Size>,
}

/// `[[routers]]`: a router that has a name, and the network behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Router {
    /// Its name.
    pub name: String,
    /// Its NAT by preset or by axes. Default: `home`.
    #[serde(default)]
    pub nat: Nat,
    /// The named router that it stands behind. Default: the public network.
    pub behind: Option<String>,
    /// Its region. Default: the first. Not for those behind a named router.
    pub region: Option<String>,
    /// Its link outwards. Default: perfect.
    pub uplink: Option<Link>,
    /// What it lets through at all. Default: everything.
    #[serde(default)]
    pub firewall: Firewall,
    /// Which versions of IP it forwards. Default: `no` IPv6.
    #[serde(default)]
    pub ipv6: IpVersions,
}

/// What a router lets through at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    /// Everything.
    #[default]
    None,
    /// No UDP.
    UdpBlocked,
    /// TCP to ports 80 and 443 only.
    WebOnly,
    /// TCP to the proxy only, which is a machine of its own and asks for a password.
    ProxyOnly,
}

/// Which versions of IP a router forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IpVersions {
    /// IPv4 only.
    #[default]
    No,
    /// IPv4 and IPv6; IPv6 lets in what was asked for.
    Yes,
    /// IPv6 only.
    Only,
}

/// A NAT: `"home"`, or a table such as `{ like = "home", lifetime = "30s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Nat {
    /// By name.
    Preset(NatPreset),
    /// By its axes.
    Axes(NatInFull),
}

impl Default for Nat {
    fn default() -> Self {
        Self::Preset(NatPreset::Home)
    }
}

/// A NAT by the axes of RFC 4787.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NatInFull {
    /// The NAT that this one is like, except for what is given. Default: `home`.
    #[schemars(schema_with = "preset_schema")]
    pub like: Option<NatPreset>,
    /// Which packets share an outer port (RFC 4787 §4.1).
    #[schemars(schema_with = "axis_schema")]
    pub mapping: Option<Mapping>,
    /// From whom packets are let in (§5).
    #[schemars(schema_with = "axis_schema")]
    pub filtering: Option<Filtering>,
    /// How the outer port is chosen (§4.2).
    #[schemars(schema_with = "port_schema")]
    pub port: Option<PortAllocation>,
    /// Whether inner machines reach each other through their outer endpoints (§6).
    pub hairpin: Option<bool>,
    /// How long a mapping lives without packets, in whole seconds (§4.3).
    pub lifetime: Option<Time>,
    /// Which packets keep it alive (§4.3).
    #[schemars(schema_with = "refresh_schema")]
    pub refresh: Option<Refresh>,
    /// The most mappings.
    pub table_size: Option<Whole<64_512>>,
    /// What happens when there are as many.
    #[schemars(schema_with = "full_schema")]
    pub when_full: Option<WhenFull>,
}

impl<'de> Deserialize<'de> for Nat {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NatVisitor)
    }
}

struct NatVisitor;

impl<'de> de::Visitor<'de> for NatVisitor {
    type Value = Nat;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a NAT's name such as \"home\", or a table")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Nat, E> {
        NatPreset::deserialize(de::value::StrDeserializer::new(name)).map(Nat::Preset)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Nat, A::Error> {
        NatInFull::deserialize(de::value::MapAccessDeserializer::new(map)).map(Nat::Axes)
    }
}

impl JsonSchema for Nat {
    fn schema_name() -> Cow<'static, str> {
        "Nat".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<NatInFull>();
        json_schema!({
            "description": "A NAT by name, or by the axes of RFC 4787.",
            "anyOf": [preset_schema(generator), full],
        })
    }
}

/// The names that serde gives to values of the simulator's vocabulary.
fn names<T: Serialize>(values: &[T]) -> Schema {
    let names: Vec<_> = values.iter().map(|v| serde_json::json!(v)).collect();
    json_schema!({ "type": "string", "enum": names })
}

fn preset_schema(_: &mut SchemaGenerator) -> Schema {
    names(&NatPreset::ALL)
}

/// Mapping and filtering have the same names.
fn axis_schema(_: &mut SchemaGenerator) -> Schema {
    let (a, b) = (Mapping::EndpointIndependent, Mapping::AddressDependent);
    names(&[a, b, Mapping::AddressAndPortDependent])
}

fn port_schema(_: &mut SchemaGenerator) -> Schema {
    let (a, b) = (PortAllocation::Preserving, PortAllocation::PreservingOrRandom);
    names(&[a, b, PortAllocation::Sequential, PortAllocation::Random])
}

fn refresh_schema(_: &mut SchemaGenerator) -> Schema {
    names(&[Refresh::Outbound, Refresh::Inbound, Refresh::Both])
}

fn full_schema(_: &mut SchemaGenerator) -> Schema {
    names(&[WhenFull::Refuse, WhenFull::EvictOldest])
}
