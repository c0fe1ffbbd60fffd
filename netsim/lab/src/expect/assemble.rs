//! From what the coordinator says about ended jobs to the report about them.

use coordinator_api::mesh::{JobMesh, MeshPair};
use netsim_scenario::Resolved;

use super::job::solutions;
use crate::conduct::{EndedJob, Outcome};
use crate::report::{JobReport, NodeReport, PairReport};

/// The jobs in the order of their numbers.
pub(super) fn reports(resolved: &Resolved, outcome: &Outcome) -> Vec<JobReport> {
    outcome.jobs.values().map(|ended| report(resolved, outcome, ended)).collect()
}

fn report(resolved: &Resolved, outcome: &Outcome, ended: &EndedJob) -> JobReport {
    let wanted = &resolved.jobs[ended.place];
    let EndedJob { job, mesh, times, .. } = ended;
    let output = outcome.gathered.outputs.get(&job.id);
    let output = output.filter(|_| wanted.expect.queens.is_some());
    let since = |at: std::time::Duration| at.saturating_sub(times.submitted).as_secs_f64();
    let mut report = JobReport {
        id: job.id,
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
        report.nodes = nodes(resolved, outcome, mesh);
        report.pairs = pairs(outcome, mesh);
    }
    report
}

fn nodes(resolved: &Resolved, outcome: &Outcome, mesh: &JobMesh) -> Vec<NodeReport> {
    let node = |member: &coordinator_api::mesh::MeshMember| {
        let sum = |count: &dyn Fn(&MeshPair) -> u64| {
            mesh.pairs.iter().filter(|pair| pair.from == member.rank).map(count).sum()
        };
        let host = outcome.predictions.machine(&member.name);
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

fn pairs(outcome: &Outcome, mesh: &JobMesh) -> Vec<PairReport> {
    let find =
        |from: u16, to: u16| mesh.pairs.iter().find(|p| p.from == from && p.to == to).cloned();
    let name = |host: &str| outcome.predictions.machine(host);
    let mut pairs = Vec::new();
    for (i, low) in mesh.members.iter().enumerate() {
        for high in &mesh.members[i + 1..] {
            let predicted = outcome.predictions.between(&name(&low.name), &name(&high.name));
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
