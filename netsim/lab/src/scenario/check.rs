//! What a scenario must fulfil beyond its syntax.

use std::ops::Range;

use super::{Job, Scenario, Volunteers};
use crate::queens;

/// The most volunteers of a scenario: each is an agent, a router and two network namespaces.
pub(crate) const MAX_VOLUNTEERS: usize = 64;

/// A fault, and where in the text it stands.
pub(super) type Fault = (Option<Range<usize>>, String);

/// The first thing that is wrong with `scenario`.
pub(super) fn check(scenario: &Scenario) -> Result<(), Fault> {
    if scenario.volunteers.is_empty() {
        return Err((None, "there are no volunteers: add a [[volunteers]] group".to_owned()));
    }
    if scenario.job.is_empty() {
        return Err((None, "there is no job: add a [[job]]".to_owned()));
    }
    scenario.volunteers.iter().try_for_each(check_group)?;
    let machines = scenario.machines().len();
    if machines > MAX_VOLUNTEERS {
        return Err((
            None,
            format!("{machines} volunteers: at most {MAX_VOLUNTEERS} are possible"),
        ));
    }
    scenario.job.iter().try_for_each(|job| check_job(job, machines))
}

fn check_group(group: &Volunteers) -> Result<(), Fault> {
    if *group.count.as_ref() == 0 {
        return Err((Some(group.count.span()), "`count` must be at least 1".to_owned()));
    }
    if *group.cores.as_ref() == 0 {
        return Err((Some(group.cores.span()), "`cores` must be at least 1".to_owned()));
    }
    Ok(())
}

fn check_job(job: &Job, machines: usize) -> Result<(), Fault> {
    let nodes = usize::from(*job.nodes.as_ref());
    if nodes == 0 || nodes > machines {
        let text =
            format!("`nodes` is {nodes}, but must be 1 to {machines}, the number of volunteers");
        return Err((Some(job.nodes.span()), text));
    }
    if job.command.trim().is_empty() {
        return Err((None, "a job's `command` must not be empty".to_owned()));
    }
    let is_mesh = job.types.iter().any(|t| t == "mesh");
    if (job.expect.pair_bytes > 0 || job.expect.relayed_as_predicted) && !is_mesh {
        let text = "`pair_bytes` and `relayed_as_predicted` need the job type `mesh`";
        return Err((None, text.to_owned()));
    }
    if let Some(board) = &job.expect.queens
        && queens::solutions(*board.as_ref()).is_none()
    {
        let text = format!("`queens` must be 1 to {}", queens::LARGEST);
        return Err((Some(board.span()), text));
    }
    Ok(())
}
