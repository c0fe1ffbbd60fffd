//! Whether a run did what its scenario expects.
//!
//! Each job is held to its own expectations (`job`), the run as a whole to the scenario's
//! (`whole`), and the routers have a word on what came in from outside. Whatever does not hold is
//! one sentence.

use netsim_scenario::Resolved;

use crate::conduct::Outcome;
use crate::report::Report;
use crate::world::World;

mod assemble;
mod job;
mod lan;
mod whole;

pub(crate) use lan::LanCounters;

/// An expectation of the scenario's, looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// What is expected.
    pub text: String,
    /// Whether it holds.
    pub met: bool,
    /// What was found; empty where nothing more can be said.
    pub found: String,
}

/// Looks at everything that must hold.
pub(crate) fn judge(
    resolved: &Resolved,
    world: &World,
    lan: &LanCounters,
    outcome: Outcome,
) -> anyhow::Result<Report> {
    let jobs = assemble::reports(resolved, &outcome);
    let mut failures = outcome.failures.clone();
    failures.extend(outcome.gathered.failures.iter().cloned());
    for report in jobs.iter().filter(|report| !report.was_repeated) {
        let wanted = &resolved.jobs[report.place];
        let output = outcome.gathered.outputs.get(&report.id);
        failures.extend(job::failures(wanted, report, output.map(String::as_str)));
    }
    let crossings = lan.read()?;
    let facts = whole::Facts {
        jobs: &jobs,
        files: &outcome.gathered.files,
        predictions: &outcome.predictions,
        machines: world.volunteers.iter().map(|v| &v.machine).collect(),
        crossings: &crossings,
    };
    let expectations: Vec<Checked> =
        resolved.expectations.iter().map(|expectation| whole::check(expectation, &facts)).collect();
    failures.extend(expectations.iter().filter(|checked| !checked.met).map(Checked::sentence));
    failures.extend(audit(world)?);
    Ok(Report {
        scenario: resolved.file.display().to_string(),
        seed: resolved.seed,
        passed: failures.is_empty(),
        failures,
        expectations,
        steps: Vec::new(),
        jobs,
    })
}

impl Checked {
    /// As one sentence, where it does not hold.
    fn sentence(&self) -> String {
        format!("expected: {}; found: {}", self.text, self.found)
    }
}

/// The routers' word that nothing was opened from outside where nothing may be.
fn audit(world: &World) -> anyhow::Result<Vec<String>> {
    let mut failures = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for router in world.volunteers.iter().flat_map(|v| &v.machine.routers) {
        if !seen.insert(router.name.clone()) {
            continue;
        }
        let audit = router.audit()?;
        let name = &router.name;
        failures.extend(audit.port_forwards.iter().map(|rule| format!("{name} forwards: {rule}")));
        if router.is_shut() && audit.opened_from_outside > 0 {
            let count = audit.opened_from_outside;
            failures.push(format!("{name} let {count} flows be opened from outside"));
        }
    }
    Ok(failures)
}
