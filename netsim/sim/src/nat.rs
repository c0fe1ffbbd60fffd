//! How a NAT behaves, on the axes of RFC 4787.

mod expiring;
mod flows;
mod preset;
mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::seconds;

pub(crate) use flows::FlowTable;
pub use preset::Preset;
pub use table::NatTable;

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
    /// The inner port where it is free, otherwise any free one, as Linux does.
    PreservingOrRandom,
    /// One after the other, whatever the inner port.
    Sequential,
    /// Any free port.
    Random,
}

/// Which packets keep a mapping, and a permission to come in, alive (RFC 4787 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refresh {
    /// Those on their way out only; REQ-6 demands no more.
    Outbound,
    /// Those that are let in only; contrary to REQ-6, but found in the field.
    Inbound,
    /// Both, as the kernel's connection tracking does; REQ-6 allows it.
    #[default]
    Both,
}

/// What happens to a new mapping when the table is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Its packet is dropped until another one has expired, as Linux does.
    #[default]
    Refuse,
    /// The mapping that would expire first makes room for it.
    EvictOldest,
}

/// One NAT's behaviour towards UDP. TCP follows it too, with the lifetime [`TCP_LIFETIME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NatProfile {
    /// Which packets share an outer port.
    pub mapping: Mapping,
    /// From whom packets are let in.
    pub filtering: Filtering,
    /// How the outer port is chosen.
    pub port: PortAllocation,
    /// Whether inner hosts reach each other through their outer endpoints (RFC 4787 §6); the
    /// sender is then seen at its own outer endpoint (REQ-9).
    pub hairpin: bool,
    /// How long a mapping, and a permission to come in, lives without packets: it works until just
    /// before, and not at this time. Whole seconds in text.
    #[serde(rename = "lifetime-s", with = "seconds")]
    pub lifetime: Duration,
    /// Which packets keep them alive.
    #[serde(default)]
    pub refresh: Refresh,
    /// The most mappings of one protocol, at most 64,512 (the ports from 1024 on).
    #[serde(default = "default_table_size")]
    pub table_size: u32,
    /// What happens when the table is full.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// The lifetime of the presets: what Linux gives a UDP flow with traffic in both directions
/// (`nf_conntrack_udp_timeout_stream`, 120 s).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(120);

/// The lifetime of mappings for TCP: 2 hours and 4 minutes (RFC 5382 REQ-5).
pub const TCP_LIFETIME: Duration = Duration::from_secs(7440);

/// The table size of the presets. Chosen: that of a small router.
pub const DEFAULT_TABLE_SIZE: u32 = 4096;

fn default_table_size() -> u32 {
    DEFAULT_TABLE_SIZE
}

impl Refresh {
    pub(crate) fn by_outbound(self) -> bool {
        self != Self::Inbound
    }

    pub(crate) fn by_inbound(self) -> bool {
        self != Self::Outbound
    }
}
