//! Whether a run did what its scenario expects.
//!
//! Each job is held to its own expectations (`job`), the run as a whole to the scenario's
//! (`whole`), and the routers have a word on what came in from outside. Whatever does not hold is
//! one sentence.

use netsim_scenario::Resolved;

use crate::conduct::Outcome;
use crate::report::{JobReport, Report};
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
    let mut of_jobs = OfJobs::default();
    for report in jobs.iter().filter(|report| !report.was_repeated) {
        let wanted = &resolved.jobs[report.place];
        let output = outcome.gathered.outputs.get(&report.key());
        of_jobs.add(report, job::look(wanted, report, output.map(String::as_str)));
    }
    let expectations = of_jobs.checked();
    failures.extend(of_jobs.wrong());
    let crossings = lan.read()?;
    let facts = whole::Facts {
        jobs: &jobs,
        files: &outcome.gathered.files,
        predictions: &outcome.predictions,
        machines: world.volunteers.iter().map(|v| &v.machine).collect(),
        crossings: &crossings,
    };
    let whole: Vec<Checked> =
        resolved.expectations.iter().map(|expectation| whole::check(expectation, &facts)).collect();
    failures.extend(whole.iter().filter(|checked| !checked.met).map(Checked::sentence));
    failures.extend(audit(world)?);
    Ok(Report {
        scenario: resolved.file.display().to_string(),
        seed: resolved.seed,
        passed: failures.is_empty(),
        failures,
        warnings: outcome.warnings,
        expectations: expectations.into_iter().chain(whole).collect(),
        steps: Vec::new(),
        jobs,
    })
}

/// What is expected of each job by itself, those of a group together.
#[derive(Default)]
struct OfJobs(Vec<OfGroup>);

/// One expectation of the jobs of a group.
struct OfGroup {
    group: String,
    text: String,
    /// Jobs that were held to it.
    jobs: usize,
    wrong: Vec<String>,
}

impl OfJobs {
    fn add(&mut self, report: &JobReport, looked: Vec<job::Looked>) {
        for job::Looked { text, wrong } in looked {
            let group = &report.group;
            let known = self.0.iter_mut().find(|of| of.group == *group && of.text == text);
            match known {
                Some(of) => {
                    of.jobs += 1;
                    of.wrong.extend(wrong);
                }
                None => self.0.push(OfGroup { group: group.clone(), text, jobs: 1, wrong }),
            }
        }
    }

    fn checked(&self) -> Vec<Checked> {
        let checked = |of: &OfGroup| {
            let each = if of.jobs > 1 { format!(" ({} jobs)", of.jobs) } else { String::new() };
            let text = format!("{}{each}: {}", of.group, of.text);
            Checked { text, met: of.wrong.is_empty(), found: of.wrong.join("; ") }
        };
        self.0.iter().map(checked).collect()
    }

    fn wrong(self) -> impl Iterator<Item = String> {
        self.0.into_iter().flat_map(|of| of.wrong)
    }
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
