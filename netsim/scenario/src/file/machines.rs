//! Machines and who sits at them, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounded::{Count, Whole};
use super::{Churn, Firewall, IpVersions, Link, Nat};
use crate::preset::Preset;
use crate::text::Time;

/// Weights of presets: `{ home = 6, symmetric = 1 }`.
pub type Mix = BTreeMap<Preset, Whole<10_000>>;

/// `[coordinator]`, the first one, and `[[coordinators]]`, the others. Each stands in the public network
/// with a relay beside it, and has volunteers, scientists and jobs of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Coordinator {
    /// Its name, and that of its machine. Default: `coordinator`.
    pub name: String,
    /// How often agents ask for work. Default: 1 s, since a scenario is watched.
    pub poll_interval: Time,
    /// Silence after which a node is suspected. Default: 10 s.
    pub node_timeout: Time,
    /// How long a launch may take until every pair has a path. Default: 30 s.
    pub launch_deadline: Time,
    /// Its region. Default: the first.
    pub region: Option<String>,
    /// Its link. Default: perfect.
    pub link: Option<Link>,
}

impl Coordinator {
    /// What one is called that is given no name.
    pub const NAME: &str = "coordinator";
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            name: Self::NAME.to_owned(),
            poll_interval: Time::seconds(1),
            node_timeout: Time::seconds(10),
            launch_deadline: Time::seconds(30),
            region: None,
            link: None,
        }
    }
}

/// `[[relays]]`: relays of their own, in the public network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Relay {
    /// How many. Default: 1.
    pub count: Whole<64>,
    /// The coordinator that they work for. Default: the first.
    pub coordinator: Option<String>,
    /// Their region. Default: the first.
    pub region: Option<String>,
    /// Their link. Default: perfect.
    pub link: Option<Link>,
}

/// `[scientist]`, or `[[scientists]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scientist {
    /// The name that `coordinator user add` is given. Default: `alice`.
    pub name: String,
    /// The coordinator that knows this user. Default: the first. One that no scientist is said to be
    /// known to has an `alice` at home.
    pub coordinator: Option<String>,
    /// The network that the scientist's machine is behind. Default: `home`.
    pub behind: Preset,
    /// Its region. Default: the first.
    pub region: Option<String>,
    /// The link between its router and the public network. Default: perfect.
    pub link: Option<Link>,
}

impl Default for Scientist {
    fn default() -> Self {
        let (name, behind) = ("alice".to_owned(), Preset::Home);
        Self { name, coordinator: None, behind, region: None, link: None }
    }
}

/// `[[volunteers]]`: machines of one kind. Exactly one of `behind`, `mix`, `nat` and `router` says
/// what they are behind. Their names are `vol-1`, `vol-2`, ... through all groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Volunteers {
    /// How many. Default: 1.
    pub count: Count,
    /// The coordinator that they enrol with. Default: the first.
    pub coordinator: Option<String>,
    /// Cores that each gives. Default: 1.
    pub cores: Whole<1_024>,
    /// The network that each of them is behind, with a router of its own.
    pub behind: Option<Preset>,
    /// Several networks by weights, `{ home = 6, symmetric = 1 }`: the count is shared out exactly,
    /// the seed decides who gets which.
    pub mix: Option<Mix>,
    /// A router of its own for each, by preset or by axes.
    pub nat: Option<Nat>,
    /// The named router whose network they share.
    pub router: Option<String>,
    /// What each one's own router lets through at all. Not for `router`.
    pub firewall: Option<Firewall>,
    /// Which versions of IP each one's own router forwards. Not for `router`.
    pub ipv6: Option<IpVersions>,
    /// The named router that their own routers stand behind. Default: the public network.
    pub via: Option<String>,
    /// Their region. Default: the first. Not for those behind a named router.
    pub region: Option<String>,
    /// The link of each one's own router towards the public network; behind a `router`, the machine's
    /// own link to it. Default: perfect.
    pub link: Option<Link>,
    /// When they come and go. Default: they stay.
    pub churn: Option<Churn>,
}
