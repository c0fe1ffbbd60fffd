//! From a scenario as it is written to one where everything is decided.

use crate::fault::{Fault, at, did_you_mean};
use crate::load::ScenarioFile;
use crate::resolved::{Coordinator, Resolved};

mod churn;
mod expectations;
mod jobs;
mod links;
mod machines;
mod mix;
mod network;
mod timeline;

/// The most volunteers of a scenario, in virtual time.
pub const MOST_VOLUNTEERS: usize = 100_000;

/// The most volunteers of the laboratory: each is an agent and two network namespaces.
pub const MOST_REAL_VOLUNTEERS: usize = 1_000;

/// Resolves a scenario.
pub(crate) fn resolve(file: &ScenarioFile, seed: Option<u64>) -> Result<Resolved, Fault> {
    let (scenario, folder) = (&file.scenario, &file.folder);
    let seed = seed.unwrap_or(scenario.seed);
    let mut network = network::Network::new(scenario)?;
    let coordinators = network.add_coordinators(scenario)?;
    let clusters = Clusters(&coordinators);
    let relays = network.add_relays(&scenario.relays, clusters)?;
    let scientists = network.add_scientists(scenario, clusters)?;
    let volunteers = network.add_volunteers(scenario, seed, folder, clusters)?;
    network.add_proxy();
    let of = jobs::Of { clusters, scientists: &scientists, volunteers: &volunteers };
    let (jobs, gatherings) = jobs::resolve(scenario, of, folder)?;
    let resolved = Resolved {
        file: file.path.clone(),
        folder: folder.clone(),
        title: scenario.title.clone(),
        seed,
        duration: scenario.duration.0,
        topology: network.into_topology(),
        coordinators,
        scientists,
        relays,
        volunteers,
        jobs,
        gatherings,
        timeline: Vec::new(),
        expectations: Vec::new(),
        drills: scenario.drills.map_or(0, |n| u8::try_from(n.number()).unwrap_or(u8::MAX)),
    };
    // What nobody could build is not right.
    resolved.topology.check().map_err(|error| Fault::new(at!["volunteers"], error.to_string()))?;
    let timeline = timeline::resolve(scenario, &resolved)?;
    let expectations = expectations::resolve(scenario, &resolved)?;
    Ok(Resolved { timeline, expectations, ..resolved })
}

/// The coordinators, of which others name one.
#[derive(Clone, Copy)]
struct Clusters<'a>(&'a [Coordinator]);

impl Clusters<'_> {
    /// The one that is named at the key `coordinator`, or the first.
    fn named(self, name: Option<&String>) -> Result<String, Fault> {
        let names = self.0.iter().map(|coordinator| coordinator.name.as_str());
        match (name, self.0) {
            (Some(name), _) => known("coordinator", name, names)
                .map(|()| name.clone())
                .map_err(|message| Fault::new(at!["coordinator"], message)),
            (None, [first, ..]) => Ok(first.name.clone()),
            (None, []) => Ok(String::new()),
        }
    }
}

/// `name`, if it is one of `known`; `kind` is for the message.
fn known<'a>(
    kind: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Result<(), String> {
    let known: Vec<&str> = known.into_iter().collect();
    if known.contains(&name) {
        return Ok(());
    }
    let hint = did_you_mean(name, known.iter().copied());
    let list = match known.as_slice() {
        [] => format!("there are no {kind}s"),
        some if some.len() <= 12 => format!("there are: {}", some.join(", ")),
        many => format!("there are {}", many.len()),
    };
    Err(format!("there is no {kind} `{name}`{hint}; {list}"))
}
