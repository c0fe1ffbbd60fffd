//! A network as data: regions, routers, machines, and what happens to them.
//!
//! Names refer to each other; [`Topology::build`] makes a [`crate::Network`] of them, or says which
//! name is wrong. A router stands behind another one that comes before it, or in the public realm.

mod build;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::churn::{Churn, ChurnError};
use crate::firewall::{Firewall, Stateful};
use crate::link::{LinkError, LinkPreset, LinkProfile, OneWay};
use crate::nat::{NatProfile, Preset};
use crate::units::millis;

pub use build::Built;

/// A network as data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Topology {
    /// Names of the parts of the public realm. None: it is one.
    pub regions: Vec<String>,
    /// The ways between them. Regions without one are as near as neighbours.
    pub ways: Vec<WaySpec>,
    /// Routers, those further out first.
    pub routers: Vec<RouterSpec>,
    /// Machines.
    pub hosts: Vec<HostSpec>,
    /// What happens to them.
    pub events: Vec<TimedEvent>,
}

impl Topology {
    /// The regions of routers and machines by their names: each one's own, or that of the outermost router
    /// that it is behind. Those that are in none are not there.
    pub fn regions_by_name(&self) -> BTreeMap<&str, &str> {
        let mut regions = BTreeMap::new();
        let routers = self.routers.iter().map(|r| (&r.name, &r.region, &r.behind));
        let hosts = self.hosts.iter().map(|h| (&h.name, &h.region, &h.behind));
        // Routers stand behind earlier ones, and machines behind routers.
        for (name, own, behind) in routers.chain(hosts) {
            let outside = || behind.as_deref().and_then(|behind| regions.get(behind).copied());
            if let Some(region) = own.as_deref().or_else(outside) {
                regions.insert(name.as_str(), region);
            }
        }
        regions
    }
}

/// What lies between two regions, the same both ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaySpec {
    /// The two regions.
    pub between: [String; 2],
    /// What packets meet on the way.
    pub way: OneWay,
}

/// A link by name or in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkSpec {
    /// By name.
    Preset(LinkPreset),
    /// In full.
    Profile(Box<LinkProfile>),
}

impl LinkSpec {
    /// In full.
    pub fn profile(&self) -> LinkProfile {
        match self {
            Self::Preset(preset) => preset.profile(),
            Self::Profile(profile) => **profile,
        }
    }
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self::Profile(Box::new(LinkProfile::PERFECT))
    }
}

/// A NAT by name or by axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatSpec {
    /// By name.
    Preset(Preset),
    /// By axes.
    Axes(NatProfile),
}

impl NatSpec {
    /// By axes; none where there is no NAT.
    pub fn profile(&self) -> Option<NatProfile> {
        match self {
            Self::Preset(preset) => preset.profile(),
            Self::Axes(profile) => Some(*profile),
        }
    }
}

impl Default for NatSpec {
    fn default() -> Self {
        Self::Preset(Preset::None)
    }
}

/// A router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RouterSpec {
    /// Its name, unique among routers.
    pub name: String,
    /// The router that it stands behind. None: in the public realm.
    pub behind: Option<String>,
    /// Its region, if it stands in the public realm. None: the first.
    pub region: Option<String>,
    /// Its NAT. Default: none.
    pub nat: NatSpec,
    /// Its filter for what it does not translate. Default: none.
    pub stateful: Option<Stateful>,
    /// Whether it forwards IPv6.
    pub ipv6: bool,
    /// Whether it forwards no IPv4.
    pub ipv6_only: bool,
    /// What it lets through at all.
    pub firewall: Firewall,
    /// The machine that [`Firewall::ProxyOnly`] lets through.
    pub proxy: Option<String>,
    /// Its link outwards. Default: perfect.
    pub uplink: LinkSpec,
}

/// Machines of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HostSpec {
    /// Its name, unique among machines. Several have `-1`, `-2`, ... added.
    pub name: String,
    /// How many. Default: 1.
    pub count: u32,
    /// The router that it stands behind. None: in the public realm.
    pub behind: Option<String>,
    /// Its region, if it stands in the public realm. None: the first.
    pub region: Option<String>,
    /// Its link. Default: perfect.
    pub link: LinkSpec,
    /// When it comes and goes. None: it is always there.
    pub churn: Option<Churn>,
}

impl Default for HostSpec {
    fn default() -> Self {
        let (name, link) = (String::new(), LinkSpec::default());
        Self { name, count: 1, behind: None, region: None, link, churn: None }
    }
}

/// Something that happens, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TimedEvent {
    /// When, from the start. Milliseconds in text.
    #[serde(rename = "at-ms", with = "millis")]
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// Something that happens. Strings are names of machines, or of routers where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A machine moves behind that router, or into the public realm.
    Roam {
        /// The machine.
        host: String,
        /// The router. None: the public realm.
        #[serde(default)]
        behind: Option<String>,
    },
    /// A router starts again, without its mappings and with other ports.
    NatReboot(String),
    /// A machine's link goes down.
    LinkDown(String),
    /// It comes up again.
    LinkUp(String),
    /// A router's uplink goes down.
    UplinkDown(String),
    /// It comes up again.
    UplinkUp(String),
    /// A machine stands still.
    Suspend(String),
    /// It goes on.
    Resume(String),
    /// A machine is gone.
    Kill(String),
    /// It starts again.
    Start(String),
}

/// Why a topology is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TopologyError {
    /// A name that nothing has.
    #[error("there is no {kind} {name:?}: routers have to come before what is behind them")]
    Unknown {
        /// Region, router or host.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name that two things have.
    #[error("there are two of the {kind} {name:?}: names must differ")]
    Twice {
        /// Region, router or host.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A region inside.
    #[error("{0:?} is behind a router: leave its region out")]
    RegionInside(String),
    /// More than the simulator has addresses or memory for.
    #[error("more than {most} {kind}: make the scenario smaller, or spread it over more routers")]
    TooMany {
        /// What.
        kind: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// A link that cannot be meant.
    #[error("the link of {name:?}")]
    Link {
        /// Whose.
        name: String,
        /// What is wrong.
        #[source]
        source: LinkError,
    },
    /// A churn that cannot be meant.
    #[error("the churn of {name:?}")]
    Churn {
        /// Whose.
        name: String,
        /// What is wrong.
        #[source]
        source: ChurnError,
    },
}
