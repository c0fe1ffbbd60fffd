//! Which path a pair should have, wherever its machines stand now: the simulator's oracle, by the names
//! that the coordinator uses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netsim_scenario::Resolved;
use netsim_sim::{Event, Oracle, Prediction, TopologyError};

/// What RFC 4787 says about pairs of machines. Clones look at the same places.
#[derive(Clone, Debug)]
pub(crate) struct Predictions {
    oracle: Arc<Mutex<Oracle>>,
    /// The machines by the host names that the coordinator gives.
    names: Arc<BTreeMap<String, String>>,
}

impl Predictions {
    /// For the machines of a scenario where it puts them.
    pub(crate) fn of(resolved: &Resolved) -> Result<Self, TopologyError> {
        let name = |(index, v): (usize, &netsim_scenario::resolved::Volunteer)| {
            (format!("vol-{}", index + 1), v.host.clone())
        };
        let names = resolved.volunteers.iter().enumerate().map(name).collect();
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

    /// The machine that has that host name at the coordinator.
    pub(crate) fn machine(&self, host: &str) -> String {
        self.names.get(host).cloned().unwrap_or_else(|| host.to_owned())
    }

    /// Whether two machines are in the same network now.
    pub(crate) fn share_a_network(&self, a: &str, b: &str) -> bool {
        self.oracle().share_a_network(a, b)
    }

    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
