//! How a NAT behaves, on the axes of RFC 4787.

pub(crate) mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which packets of one inner endpoint share an outer port (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// All of them (EIM).
    EndpointIndependent,
    /// Those to the same address (ADM).
    AddressDependent,
    /// Those to the same address and port (APDM), the heart of a "symmetric" NAT.
    AddressAndPortDependent,
}

/// From whom packets to an outer port are let in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// From anybody (EIF).
    EndpointIndependent,
    /// From addresses that were sent to (ADF).
    AddressDependent,
    /// From addresses and ports that were sent to (APDF).
    AddressAndPortDependent,
}

/// How the outer port is chosen (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortAllocation {
    /// The inner port where it is free, otherwise the next free one.
    Preserving,
    /// Any free port.
    Random,
}

/// One NAT's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NatProfile {
    /// Which packets share an outer port.
    pub mapping: Mapping,
    /// From whom packets are let in.
    pub filtering: Filtering,
    /// How the outer port is chosen.
    pub port: PortAllocation,
    /// Whether inner hosts reach each other through their outer endpoints.
    pub hairpin: bool,
    /// How long a mapping, and a permission to come in, lives without packets. Seconds in text.
    #[serde(rename = "lifetime-s", with = "seconds")]
    pub lifetime: Duration,
}

impl NatProfile {
    /// Lets everybody in ("full cone").
    pub const FULL_CONE: Self = Self {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::EndpointIndependent,
        port: PortAllocation::Preserving,
        hairpin: false,
        lifetime: DEFAULT_LIFETIME,
    };

    /// Lets in whom it has sent to, from any port ("restricted cone").
    pub const RESTRICTED: Self = Self { filtering: Filtering::AddressDependent, ..Self::FULL_CONE };

    /// What most home routers do, Linux among them ("port-restricted cone").
    pub const HOME: Self =
        Self { filtering: Filtering::AddressAndPortDependent, ..Self::FULL_CONE };

    /// Another random port for each destination ("symmetric").
    pub const SYMMETRIC: Self = Self {
        mapping: Mapping::AddressAndPortDependent,
        port: PortAllocation::Random,
        ..Self::HOME
    };
}

/// The lifetime of the presets: what Linux gives a UDP flow with traffic in both directions
/// (`nf_conntrack_udp_timeout_stream`, 120 s).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(120);

/// A well-known situation of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// No NAT.
    None,
    /// [`NatProfile::FULL_CONE`].
    FullCone,
    /// [`NatProfile::RESTRICTED`].
    Restricted,
    /// [`NatProfile::HOME`].
    Home,
    /// [`NatProfile::SYMMETRIC`].
    Symmetric,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::None, Self::FullCone, Self::Restricted, Self::Home, Self::Symmetric];

    /// The NAT's behaviour, none where there is no NAT.
    pub fn profile(self) -> Option<NatProfile> {
        match self {
            Self::None => None,
            Self::FullCone => Some(NatProfile::FULL_CONE),
            Self::Restricted => Some(NatProfile::RESTRICTED),
            Self::Home => Some(NatProfile::HOME),
            Self::Symmetric => Some(NatProfile::SYMMETRIC),
        }
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}
