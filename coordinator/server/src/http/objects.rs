//! OAR's objects, made from the core's.

use std::collections::BTreeMap;

use coordinator_api::agent::{AssignedNode, Assignment};
use coordinator_api::job::{Event, Job as JobObject, JobItem, JobNode, JobResource, JobRow};
use coordinator_api::resource::{ResourceItem, ResourceRow, ResourceState};
use coordinator_core::{Job, Node, NodeNumber, Part, UnixMillis};

use super::links;

/// OAR's "for ever" in `available_upto`.
const AVAILABLE_UPTO: u64 = 2_147_483_647;

/// An item of `GET /jobs`.
pub(super) fn job_item(job: &Job, now: UnixMillis) -> JobItem {
    JobItem {
        id: job.id.0,
        state: job.state,
        owner: job.owner.clone(),
        name: job.request.name.clone(),
        queue: job.request.queue.clone(),
        submission: job.submitted.seconds(),
        links: links::of_job(job.id),
        api_timestamp: now.seconds(),
    }
}

/// `GET /jobs/ID`.
pub(super) fn job(job: &Job, now: UnixMillis) -> JobObject {
    let seconds = |time: Option<UnixMillis>| time.map_or(0, UnixMillis::seconds);
    let file = |kind| match &job.request.name {
        Some(name) => format!("OAR.{name}.{}.{kind}", job.id),
        None => format!("OAR.{}.{kind}", job.id),
    };
    JobObject {
        id: job.id.0,
        name: job.request.name.clone(),
        state: job.state,
        owner: job.owner.clone(),
        project: job.request.project().to_owned(),
        queue: job.request.queue.clone(),
        kind: "PASSIVE".to_owned(),
        types: job.request.types.names().into_iter().map(str::to_owned).collect(),
        command: job.request.command.clone(),
        initial_request: job.request.initial_request.clone(),
        launching_directory: "/".to_owned(),
        stdout_file: file("stdout"),
        stderr_file: file("stderr"),
        properties: properties(job),
        wanted_resources: job.request.resources.wanted(),
        walltime: Some(job.walltime_s()),
        submission_time: job.submitted.seconds(),
        // Of a job that has ended there is no plan.
        scheduled_start: job
            .started
            .or(job.request.reservation)
            .filter(|_| !job.state.is_final())
            .map(UnixMillis::seconds),
        start_time: seconds(job.started),
        stop_time: seconds(job.stopped),
        exit_code: job.exit_code,
        message: job.message(),
        reservation: if job.reserved.is_some() { "Scheduled" } else { "None" }.to_owned(),
        array_id: job.array_id().0,
        array_index: Some(u64::from(job.array_index())),
        dependencies: job.request.dependencies.iter().map(|id| id.0).collect(),
        resubmit_job_id: Some(job.resubmit_of.map_or(0, |id| id.0)),
        cpuset_name: None,
        events: events(job),
        links: links::of_job(job.id),
        api_timestamp: now.seconds(),
        assignment: None,
    }
}

/// An item of `GET /jobs/table`: OAR's columns, where file names still hold `%jobid%`.
pub(super) fn job_row(job: &Job, now: UnixMillis) -> JobRow {
    let object = self::job(job, now);
    let file = |kind| match &job.request.name {
        Some(name) => format!("OAR.{name}.%jobid%.{kind}"),
        None => format!("OAR.%jobid%.{kind}"),
    };
    JobRow {
        id: object.id,
        job_id_of_old: object.id,
        job_id: object.id,
        job_name: object.name,
        job_type: object.kind,
        job_user: object.owner,
        state: object.state,
        project: object.project,
        queue_name: object.queue,
        command: object.command,
        initial_request: object.initial_request,
        launching_directory: object.launching_directory,
        stdout_file: file("stdout"),
        stderr_file: file("stderr"),
        properties: object.properties,
        reservation: object.reservation,
        message: object.message,
        walltime: job.started.and(object.walltime),
        submission_time: object.submission_time,
        start_time: object.start_time,
        stop_time: object.stop_time,
        exit_code: object.exit_code,
        array_id: object.array_id,
        assigned_moldable_job: job.started.map_or(0, |_| object.id),
        links: object.links,
        api_timestamp: object.api_timestamp,
    }
}

/// The condition on resources after the admission rules.
fn properties(job: &Job) -> String {
    let added = "desktop_computing = 'YES'";
    match &job.request.properties {
        None => format!("({added}) AND drain='NO'"),
        Some(own) => format!("(({own}) AND {added}) AND drain='NO'"),
    }
}

/// `GET /jobs/ID/events`.
pub(super) fn events(job: &Job) -> Vec<Event> {
    let event = |event: &coordinator_core::Event| Event {
        event_id: event.id,
        job_id: event.job.0,
        kind: event.kind.name().to_owned(),
        date: event.date.seconds(),
        description: event.description.clone(),
        to_check: "NO".to_owned(),
    };
    job.events.iter().map(event).collect()
}

/// What `node` must know to run its part of the job; none if it has no part in the current launch.
pub(super) fn assignment(job: &Job, node: NodeNumber) -> Option<Assignment> {
    let launch = job.launch.as_ref()?;
    let (rank, _) = launch.part(node)?;
    let named = |part: &Part| AssignedNode {
        name: part.node.to_string(),
        // A node has 65,535 cores at most.
        cores: u16::try_from(part.cores.len()).unwrap_or(u16::MAX),
    };
    Some(Assignment {
        generation: launch.generation,
        rank: u16::try_from(rank).ok()?,
        nodes: launch.parts.iter().map(named).collect(),
        mesh: job.request.types.mesh,
        spmd: job.request.types.spmd,
        stagein: job.request.stagein_sha256.is_some(),
        stagein_sha256: job.request.stagein_sha256.clone(),
        walltime: job.walltime_s(),
    })
}

/// The nodes of the job's current or last launch: `GET /jobs/ID/nodes`.
pub(super) fn job_nodes(job: &Job, now: UnixMillis) -> Vec<JobNode> {
    let parts = job.launch.iter().flat_map(|launch| &launch.parts);
    let node = |part: &Part| JobNode {
        network_address: part.node.to_string(),
        status: "assigned".to_owned(),
        links: links::of_node(part.node),
        api_timestamp: now.seconds(),
    };
    parts.map(node).collect()
}

/// An item of `GET /resources`: a core of the node.
pub(super) fn resource_item(node: &Node, id: u64, now: UnixMillis) -> ResourceItem {
    ResourceItem {
        id,
        state: node.state,
        available_upto: AVAILABLE_UPTO,
        network_address: node.number.to_string(),
        links: links::of_resource(id, node.number),
        api_timestamp: now.seconds(),
    }
}

/// The full objects of one node's resources: OAR's columns, and `core` and `host`.
pub(super) fn resource_rows(node: &Node, now: UnixMillis) -> impl Iterator<Item = ResourceRow> {
    let state_num = match node.state {
        ResourceState::Alive => 1,
        ResourceState::Absent => 2,
        ResourceState::Suspected => 3,
        ResourceState::Dead => 4,
    };
    let no = || "NO".to_owned();
    let name = node.number.to_string();
    node.resources().zip(0..).map(move |(id, cpuset)| ResourceRow {
        id,
        kind: "default".to_owned(),
        network_address: name.clone(),
        state: node.state,
        state_num,
        next_state: "UnChanged".to_owned(),
        finaud_decision: no(),
        next_finaud_decision: no(),
        suspended_jobs: no(),
        scheduler_priority: 0,
        cpuset,
        besteffort: "YES".to_owned(),
        deploy: no(),
        expiry_date: 0,
        desktop_computing: "YES".to_owned(),
        last_job_date: node.last_job.seconds(),
        available_upto: AVAILABLE_UPTO,
        last_available_upto: 0,
        drain: if node.is_draining() { "YES" } else { "NO" }.to_owned(),
        host: name.clone(),
        core: id,
        cpu: node.number.0,
        mem: node.memory_mib,
        links: links::of_resource(id, node.number),
        api_timestamp: now.seconds(),
        properties: own_properties(node),
    })
}

/// What operators have set, without what is a column.
fn own_properties(node: &Node) -> BTreeMap<String, String> {
    let own = node.properties.iter().filter(|(name, _)| *name != "drain");
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `GET /jobs/ID/resources`: the full objects, with the job's word for them.
pub(super) fn job_resources(
    rows: impl Iterator<Item = ResourceRow>,
    status: &str,
) -> Vec<JobResource> {
    rows.map(|resource| JobResource { status: status.to_owned(), resource }).collect()
}
