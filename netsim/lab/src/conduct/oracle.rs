//! Which path a pair should have, wherever its machines stand now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use netsim_report::PathKind;
use netsim_scenario::Resolved;
use netsim_sim::{Event, Oracle, Reach, TopologyError};

/// What RFC 4787 says about pairs of machines. Clones look at the same places.
#[derive(Clone, Debug)]
pub(crate) struct Predictions {
    oracle: Arc<Oracle>,
    /// The router that each machine stands behind now; none: in the public realm.
    places: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    /// The machines by the host names that the coordinator gives.
    names: Arc<BTreeMap<String, String>>,
}

/// What is expected of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    /// A direct path is possible.
    Direct,
    /// It is possible for nodes that calculate each other's next port; nobody need be so clever.
    Either,
    /// It is impossible.
    Relayed,
}

impl Predictions {
    /// For the machines of a scenario where it puts them.
    pub(crate) fn of(resolved: &Resolved) -> Result<Self, TopologyError> {
        let oracle = Oracle::new(&resolved.topology)?;
        let mut places = BTreeMap::new();
        for host in resolved.topology.hosts.iter().flat_map(|host| host.names()) {
            let place = oracle.place(&host)?.map(str::to_owned);
            places.insert(host, place);
        }
        let name = |(index, v): (usize, &netsim_scenario::resolved::Volunteer)| {
            (format!("vol-{}", index + 1), v.host.clone())
        };
        let names = resolved.volunteers.iter().enumerate().map(name).collect();
        let (oracle, places) = (Arc::new(oracle), Arc::new(Mutex::new(places)));
        Ok(Self { oracle, places, names: Arc::new(names) })
    }

    /// Something has happened to the network.
    pub(crate) fn happened(&self, event: &Event) {
        if let Event::Roam { host, behind } = event {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.insert(host.clone(), behind.clone());
        }
    }

    /// What is expected of a pair of machines now.
    pub(crate) fn between(&self, a: &str, b: &str) -> Prediction {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |name| places.get(name).and_then(Option::as_deref);
        match self.oracle.between_places(place(a), place(b)).map(|verdict| verdict.reach) {
            Ok(Reach::Plain) => Prediction::Direct,
            Ok(Reach::Predicted) => Prediction::Either,
            // Routers are checked when the scenario is: an unknown one cannot be here.
            Ok(Reach::Impossible) | Err(_) => Prediction::Relayed,
        }
    }

    /// The best path that two machines can have now, and whether only nodes that calculate each other's
    /// next port have it.
    pub(crate) fn best(&self, a: &str, b: &str) -> (PathKind, bool) {
        match self.between(a, b) {
            Prediction::Direct => (PathKind::Direct, false),
            Prediction::Either => (PathKind::Direct, true),
            Prediction::Relayed => (PathKind::Relayed, false),
        }
    }

    /// The machine that has that host name at the coordinator.
    pub(crate) fn machine(&self, host: &str) -> String {
        self.names.get(host).cloned().unwrap_or_else(|| host.to_owned())
    }

    /// Whether two machines are in the same network now.
    pub(crate) fn share_a_network(&self, a: &str, b: &str) -> bool {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |name| places.get(name).and_then(Option::as_deref);
        place(a).is_some() && place(a) == place(b)
    }
}

impl Prediction {
    /// As in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Either => "direct or relayed",
            Self::Relayed => "relayed",
        }
    }
}
