//! Which path a pair should have, wherever its machines stand now: the simulator's oracle, by the names
//! that the coordinators use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netsim_scenario::Resolved;
use netsim_scenario::resolved::Volunteer;
use netsim_sim::{Event, Oracle, Prediction, TopologyError};

/// What RFC 4787 says about pairs of machines. Clones look at the same places.
#[derive(Clone, Debug)]
pub(crate) struct Predictions {
    oracle: Arc<Mutex<Oracle>>,
    /// The machines by their coordinators and the host names that those give.
    names: Arc<BTreeMap<(String, String), String>>,
}

impl Predictions {
    /// For the machines of a scenario where it puts them.
    pub(crate) fn of(resolved: &Resolved) -> Result<Self, TopologyError> {
        let name = |v: &Volunteer| ((v.coordinator.clone(), v.node.clone()), v.host.clone());
        let names = resolved.volunteers.iter().map(name).collect();
        Ok(Self { oracle: Arc::new(Mutex::new(resolved.oracle()?)), names: Arc::new(names) })
    }

    /// Something has happened to the network.
    pub(crate) fn happened(&self, event: &Event) {
        self.oracle().happened(event);
    }

    /// What is expected of a pair of machines now.
    pub(crate) fn between(&self, a: &str, b: &str) -> Prediction {
        // Routers are checked when the scenario is: an unknown one cannot be here.
        self.oracle().predict(a, b).unwrap_or(Prediction::Relayed)
    }

    /// The machine that has that host name at that coordinator.
    pub(crate) fn machine(&self, coordinator: &str, host: &str) -> String {
        let known_as = (coordinator.to_owned(), host.to_owned());
        self.names.get(&known_as).cloned().unwrap_or(known_as.1)
    }

    /// Whether two machines are in the same network now.
    pub(crate) fn share_a_network(&self, a: &str, b: &str) -> bool {
        self.oracle().share_a_network(a, b)
    }

    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
