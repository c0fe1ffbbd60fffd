//! NATs by name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    DEFAULT_LIFETIME, DEFAULT_TABLE_SIZE, Filtering, Mapping, NatProfile, PortAllocation, Refresh,
    WhenFull,
};

impl NatProfile {
    /// Lets everybody in ("full cone").
    pub const FULL_CONE: Self = Self {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::EndpointIndependent,
        port: PortAllocation::Preserving,
        hairpin: false,
        lifetime: DEFAULT_LIFETIME,
        refresh: Refresh::Both,
        table_size: DEFAULT_TABLE_SIZE,
        when_full: WhenFull::Refuse,
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

    /// The next port for each destination: a symmetric NAT whose ports can be guessed.
    pub const SYMMETRIC_SEQUENTIAL: Self =
        Self { port: PortAllocation::Sequential, ..Self::SYMMETRIC };

    /// Another port for each address, but the same for all ports of an address.
    pub const ADDRESS_SYMMETRIC: Self = Self {
        mapping: Mapping::AddressDependent,
        filtering: Filtering::AddressDependent,
        ..Self::SYMMETRIC
    };

    /// A carrier's: endpoint-independent with hairpin (RFC 6888 REQ-1, which demands RFC 4787),
    /// filtering that lets everybody in (REQ-7 recommends it), random ports (REQ-15), five minutes
    /// (RFC 4787 REQ-5c), kept alive from inside only. Table: chosen, all ports of one address.
    pub const CARRIER_GRADE: Self = Self {
        port: PortAllocation::Random,
        hairpin: true,
        lifetime: Duration::from_secs(300),
        refresh: Refresh::Outbound,
        table_size: 64_512,
        ..Self::FULL_CONE
    };

    /// A cheap router: 30 s and a table of 256, where the oldest makes room. Chosen: shorter than
    /// the two minutes that RFC 4787 REQ-5 demands, as routers in the field were found to be.
    pub const SHORT_LIVED: Self = Self {
        lifetime: Duration::from_secs(30),
        refresh: Refresh::Outbound,
        table_size: 256,
        when_full: WhenFull::EvictOldest,
        ..Self::HOME
    };
}

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
    /// [`NatProfile::SYMMETRIC_SEQUENTIAL`].
    SymmetricSequential,
    /// [`NatProfile::ADDRESS_SYMMETRIC`].
    AddressSymmetric,
    /// [`NatProfile::CARRIER_GRADE`].
    CarrierGrade,
    /// [`NatProfile::SHORT_LIVED`].
    ShortLived,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::FullCone,
        Self::Restricted,
        Self::Home,
        Self::Symmetric,
        Self::SymmetricSequential,
        Self::AddressSymmetric,
        Self::CarrierGrade,
        Self::ShortLived,
    ];

    /// The NAT's behaviour, none where there is no NAT.
    pub fn profile(self) -> Option<NatProfile> {
        match self {
            Self::None => None,
            Self::FullCone => Some(NatProfile::FULL_CONE),
            Self::Restricted => Some(NatProfile::RESTRICTED),
            Self::Home => Some(NatProfile::HOME),
            Self::Symmetric => Some(NatProfile::SYMMETRIC),
            Self::SymmetricSequential => Some(NatProfile::SYMMETRIC_SEQUENTIAL),
            Self::AddressSymmetric => Some(NatProfile::ADDRESS_SYMMETRIC),
            Self::CarrierGrade => Some(NatProfile::CARRIER_GRADE),
            Self::ShortLived => Some(NatProfile::SHORT_LIVED),
        }
    }
}
