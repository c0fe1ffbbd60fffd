//! A scenario as it is written.
//!
//! The types here are the file's format: `deny_unknown_fields` everywhere, human units
//! ([`crate::text`]), names for what is referred to. [`crate::ScenarioFile::resolve`] turns a [`Scenario`] into a
//! [`crate::Resolved`], which has every machine by name. The JSON schema is made from these types, so
//! that what stands here as a comment is what an editor shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod bounded;
mod churn;
mod expect;
mod link;
mod machines;
mod network;
mod timeline;
mod work;

pub use bounded::{Count, Whole};
pub use churn::{Churn, ChurnModel};
pub use expect::{Expect, Metric, Path, Quantity, Subject};
pub use link::{Direction, Link, LinkInFull};
pub use machines::{Coordinator, Mix, Relay, Scientist, Volunteers};
pub use network::{Firewall, IpVersions, Nat, NatInFull, Region, Router, Way};
pub use timeline::{Action, Event, Trigger};
pub use work::{Job, JobExpect, JobState};

use crate::text::Time;

/// A scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scenario {
    /// One line for `netsim list`.
    pub title: String,
    /// Decides everything that is drawn: which volunteer is behind which router of a mix, when
    /// machines come and go, in which order they start. `--seed` overrides it. Default: 1.
    pub seed: u64,
    /// The longest that the whole run may take. Default: 10 minutes.
    pub duration: Time,
    /// Parts of the public network.
    pub regions: Vec<Region>,
    /// What lies between two regions. Regions without a way are as near as neighbours.
    pub ways: Vec<Way>,
    /// Routers that have a name: shared networks, carriers, networks to roam to.
    pub routers: Vec<Router>,
    /// The first coordinator's settings.
    pub coordinator: Coordinator,
    /// More of them, each a server and a cluster of its own.
    pub coordinators: Vec<Coordinator>,
    /// Relays that run alone, beside the coordinators' own.
    pub relays: Vec<Relay>,
    /// The machine that jobs are submitted from.
    pub scientist: Option<Scientist>,
    /// Several of them. A coordinator's first one submits what names no other.
    pub scientists: Vec<Scientist>,
    /// Groups of volunteers, in the order in which they enrol (`vol-1` is the first of the first).
    pub volunteers: Vec<Volunteers>,
    /// Jobs, submitted in this order.
    pub job: Vec<Job>,
    /// What happens to machines, routers and programs meanwhile.
    pub event: Vec<Event>,
    /// What must hold when everything has ended.
    pub expect: Vec<Expect>,
    /// When the jobs have ended, the laboratory prints how fast their pairs reached each other, and then does the
    /// drills: in a job of their own a relay is killed, a machine moves, a router starts again, each so often, and
    /// the same in virtual time. Default: nothing of it.
    pub drills: Option<Whole<100>>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            title: String::new(),
            seed: 1,
            duration: Time::seconds(600),
            regions: Vec::new(),
            ways: Vec::new(),
            routers: Vec::new(),
            coordinator: Coordinator::default(),
            coordinators: Vec::new(),
            relays: Vec::new(),
            scientist: None,
            scientists: Vec::new(),
            volunteers: Vec::new(),
            job: Vec::new(),
            event: Vec::new(),
            expect: Vec::new(),
            drills: None,
        }
    }
}
