//! From what the coordinator says about ended jobs to the report about them.

use coordinator_api::mesh::{JobMesh, MeshPair};
use netsim_report::JobKey;
use netsim_scenario::Resolved;

use super::job::solutions;
use crate::conduct::{EndedJob, Outcome};
use crate::report::{JobReport, NodeReport, PairReport};

/// The jobs, each coordinator's in the order of their numbers.
pub(super) fn reports(resolved: &Resolved, outcome: &Outcome) -> Vec<JobReport> {
    outcome.jobs.iter().map(|(key, ended)| report(resolved, outcome, key, ended)).collect()
}

fn report(resolved: &Resolved, outcome: &Outcome, key: &JobKey, ended: &EndedJob) -> JobReport {
    let wanted = &resolved.jobs[ended.place];
    let EndedJob { job, mesh, times, .. } = ended;
    let output = outcome.gathered.outputs.get(key);
    let output = output.filter(|_| wanted.expect.queens.is_some());
    let since = |at: std::time::Duration| at.saturating_sub(times.submitted).as_secs_f64();
    let mut report = JobReport {
        id: job.id,
        coordinator: key.coordinator.clone(),
        name: wanted.name.clone(),
        group: wanted.group.clone(),
        place: ended.place,
        was_repeated: ended.was_repeated,
        command: job.command.clone(),
        state: format!("{:?}", job.state),
        exit: job.exit_code.map(|status| status >> 8),
        message: job.message.clone(),
        solutions: output.and_then(|output| solutions(output)),
        submitted: job.submission_time,
        started: job.start_time,
        ended: job.stop_time,
        queued_s: times.running.map(since),
        ran_s: times.running.map(|running| (times.ended - running).as_secs_f64()),
        mesh_ready_after_ms: None,
        nodes: Vec::new(),
        pairs: Vec::new(),
    };
    if let Some(mesh) = mesh {
        report.mesh_ready_after_ms = mesh.open_ms.map(|open| open.saturating_sub(mesh.assigned_ms));
        let machine = |host: &str| outcome.predictions.machine(&key.coordinator, host);
        report.nodes = nodes(resolved, &machine, mesh);
        report.pairs = pairs(outcome, &machine, mesh);
    }
    report
}

fn nodes(resolved: &Resolved, machine: &dyn Fn(&str) -> String, mesh: &JobMesh) -> Vec<NodeReport> {
    let node = |member: &coordinator_api::mesh::MeshMember| {
        let sum = |count: &dyn Fn(&MeshPair) -> u64| {
            mesh.pairs.iter().filter(|pair| pair.from == member.rank).map(count).sum()
        };
        let host = machine(&member.name);
        let behind = resolved.volunteers.iter().find(|v| v.host == host);
        NodeReport {
            rank: member.rank,
            behind: behind.map_or_else(|| "?".to_owned(), |v| v.behind.clone()),
            host,
            sent_bytes: sum(&|pair| pair.sent_bytes),
            received_bytes: sum(&|pair| pair.received_bytes),
        }
    };
    mesh.members.iter().map(node).collect()
}

fn pairs(outcome: &Outcome, machine: &dyn Fn(&str) -> String, mesh: &JobMesh) -> Vec<PairReport> {
    let find =
        |from: u16, to: u16| mesh.pairs.iter().find(|p| p.from == from && p.to == to).cloned();
    let mut pairs = Vec::new();
    for (i, low) in mesh.members.iter().enumerate() {
        for high in &mesh.members[i + 1..] {
            let predicted = outcome.predictions.between(&machine(&low.name), &machine(&high.name));
            pairs.push(PairReport {
                ranks: (low.rank, high.rank),
                predicted,
                forth: find(low.rank, high.rank),
                back: find(high.rank, low.rank),
            });
        }
    }
    pairs
}
