//! Jobs' networks: tells the rendezvous which launches there are, and the ledger which have opened.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use coordinator_api::mesh::{JobMesh, MeshMember, MeshPair};
use coordinator_core::{Cluster, Job, JobId, Launch, MeshBlock, NodeNumber};
use overlay_core::control::PathReport;
use overlay_core::{MeshId, NodeId, Pattern};
use tokio::sync::mpsc;

use crate::app::App;
use crate::causes::Causes;
use crate::rendezvous::{
    Enrolled, LaunchMember, MeshView, PairView, RendezvousEvent, RendezvousHandle,
};
use crate::roster::Roster;

/// How long final reports are gathered before they are stored. Chosen: the members of a job leave within
/// seconds of each other, and each pair table of 100 nodes is about 3 MB.
const KEEP_PAUSE: Duration = Duration::from_millis(500);

impl Enrolled for Roster {
    fn enrolled(&self, node: NodeId) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(self.node_of_key(&node).is_some()))
    }
}

/// Follows the cluster and the rendezvous until either stops.
pub(crate) fn follow(
    app: &App,
    rendezvous: RendezvousHandle,
    events: mpsc::Receiver<RendezvousEvent>,
) {
    let tasks = app.tasks.clone();
    let app = app.clone();
    tasks.spawn(async move {
        let stopping = app.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = run(&app, &rendezvous, events) => {}
        }
    });
}

async fn run(
    app: &App,
    rendezvous: &RendezvousHandle,
    mut events: mpsc::Receiver<RendezvousEvent>,
) {
    let mut changes = app.ledger.watch();
    let mut open: BTreeSet<MeshId> = BTreeSet::new();
    let mut reported: BTreeSet<MeshId> = BTreeSet::new();
    let mut over: BTreeSet<(MeshId, NodeId)> = BTreeSet::new();
    loop {
        let cluster = changes.borrow_and_update().clone();
        reconcile(app, rendezvous, &mut open, &cluster).await;
        let now_over = parts_over(app, &cluster);
        for (mesh, node) in now_over.difference(&over) {
            rendezvous.part_ended(*mesh, *node);
        }
        over = now_over;
        tokio::select! {
            () = tokio::time::sleep(KEEP_PAUSE), if !reported.is_empty() => {
                for mesh in std::mem::take(&mut reported) {
                    keep(app, rendezvous, mesh).await;
                }
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            event = events.recv() => match event {
                Some(RendezvousEvent::Left { mesh, .. }) => {
                    reported.insert(mesh);
                }
                Some(event) => on_event(app, event).await,
                None => return,
            },
        }
    }
}

/// Brings the rendezvous to the launches that are live.
async fn reconcile(
    app: &App,
    rendezvous: &RendezvousHandle,
    open: &mut BTreeSet<MeshId>,
    cluster: &Cluster,
) {
    let live = live_meshes(app, cluster);
    let gone: Vec<MeshId> = open.iter().filter(|mesh| !live.contains_key(mesh)).copied().collect();
    for mesh in gone {
        open.remove(&mesh);
        keep(app, rendezvous, mesh).await;
        rendezvous.close(mesh, "the job's launch is over");
    }
    for (mesh, (members, pattern)) in live {
        if !open.insert(mesh) {
            continue;
        }
        if let Err(error) = rendezvous.launch(mesh, members, pattern) {
            // The launch deadline will name the job's nodes; here is the cause.
            tracing::error!(%mesh, %error, "network not announced");
        }
    }
}

fn live_meshes(app: &App, cluster: &Cluster) -> BTreeMap<MeshId, (Vec<LaunchMember>, Pattern)> {
    let jobs = cluster.jobs().filter(|job| job.is_mesh());
    let launches = jobs.filter_map(|job| Some((job, job.live_launch()?)));
    let live = launches.filter(|(_, launch)| launch.is_live());
    live.map(|(job, launch)| {
        let member = |node: NodeNumber| {
            let key = app.roster.key(node)?;
            Some(LaunchMember { node: key, name: node.to_string() })
        };
        let members = launch.parts.iter().filter_map(|part| member(part.node)).collect();
        (mesh_id(job.id, launch.generation), (members, job.request.types.pattern))
    })
    .collect()
}

/// The members of live networks that have done their part.
fn parts_over(app: &App, cluster: &Cluster) -> BTreeSet<(MeshId, NodeId)> {
    let jobs = cluster.jobs().filter(|job| job.is_mesh());
    let launches = jobs.filter_map(|job| Some((job.id, job.live_launch()?)));
    let live = launches.filter(|(_, launch)| launch.is_live());
    live.flat_map(|(id, launch)| {
        let over = launch.parts.iter().filter(|part| part.is_over());
        over.filter_map(move |part| {
            Some((mesh_id(id, launch.generation), app.roster.key(part.node)?))
        })
    })
    .collect()
}

fn mesh_id(job: JobId, generation: u32) -> MeshId {
    MeshId { job: job.0, generation }
}

async fn on_event(app: &App, event: RendezvousEvent) {
    match event {
        RendezvousEvent::Open { mesh } => {
            tracing::info!(%mesh, "network is open");
            let (job, generation) = (JobId(mesh.job), mesh.generation);
            // A failure is logged by the ledger; the launch deadline takes care of the job.
            let _ = app.ledger.apply(move |draft| draft.mesh_opened(job, generation)).await;
        }
        RendezvousEvent::Left { .. }
        | RendezvousEvent::Connected(_)
        | RendezvousEvent::Disconnected(_) => tracing::debug!(?event, "rendezvous"),
    }
}

/// Stores the pair table: the rendezvous forgets closed networks after a while.
async fn keep(app: &App, rendezvous: &RendezvousHandle, mesh: MeshId) {
    let found = app.look_up(JobId(mesh.job)).await;
    let Ok(Some(job)) = found else { return };
    let launch = job.launch.as_ref().filter(|launch| launch.generation == mesh.generation);
    let (Some(launch), Some(view)) = (launch, rendezvous.view(mesh)) else { return };
    if let Err(error) = app.store.keep_mesh(&job_mesh(&job, launch, &view)).await {
        tracing::warn!(%mesh, error = %Causes(&error), "pair table not kept");
    }
}

/// The pair table of a job's current or last launch, as it stands or as it was kept.
pub(crate) fn current(rendezvous: &RendezvousHandle, job: &Job) -> Option<JobMesh> {
    let launch = job.launch.as_ref()?;
    let view = rendezvous.view(mesh_id(job.id, launch.generation))?;
    Some(job_mesh(job, launch, &view))
}

fn job_mesh(job: &Job, launch: &Launch, view: &MeshView) -> JobMesh {
    let member = |(rank, part): (usize, &coordinator_core::Part)| {
        let rank = u16::try_from(rank).unwrap_or(u16::MAX);
        let ipv4 = mesh_id(job.id, launch.generation).ipv4(rank);
        MeshMember { rank, name: part.node.to_string(), ipv4: ipv4.to_string() }
    };
    JobMesh {
        job: job.id.0,
        generation: launch.generation,
        assigned_ms: launch.assigned.0,
        open_ms: launch.opened.map(|opened| opened.0).or(view.opened_at_ms),
        pattern: view.pattern.to_string(),
        members: launch.parts.iter().enumerate().map(member).collect(),
        pairs: view.pairs.iter().map(mesh_pair).collect(),
    }
}

fn mesh_pair(pair: &PairView) -> MeshPair {
    let report = &pair.report;
    let (path, via) = match report.path {
        PathReport::None => ("none", None),
        PathReport::Direct { endpoint } => ("direct", Some(endpoint)),
        PathReport::Relayed { relay } => ("relayed", Some(relay)),
    };
    MeshPair {
        from: pair.from,
        to: pair.to,
        path: path.to_owned(),
        via: via.map(|via| via.to_string()),
        rtt_us: report.rtt_us,
        established_after_ms: report.established_after_ms,
        sent_bytes: report.sent_bytes,
        received_bytes: report.received_bytes,
        explain: report.explain.clone(),
    }
}

/// What keeps the networks from opening whose launch deadline has passed.
pub(crate) fn blocks(app: &App, cluster: &Cluster) -> Vec<MeshBlock> {
    let Some(rendezvous) = &app.rendezvous else { return Vec::new() };
    let now = app.clock.now();
    let jobs = cluster.jobs().filter(|job| job.is_mesh());
    let launches = jobs.filter_map(|job| Some((job.id, job.live_launch()?)));
    let late = launches.filter(|(_, launch)| launch.opened.is_none() && launch.deadline <= now);
    late.map(|(job, launch)| {
        let mesh = mesh_id(job, launch.generation);
        let faulty = rendezvous.blocking_nodes(mesh);
        let faulty = faulty.iter().filter_map(|key| app.roster.node_of_key(key)).collect();
        MeshBlock { job, reason: rendezvous.blockers(mesh), faulty }
    })
    .collect()
}
