//! `agent run` and `agent join`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use coordinator_client::{Client, JoinToken};
use tokio::signal::unix::{SignalKind, signal};

use crate::confine::cage::Cages;
use crate::enrol::{Membership, Offer, membership};
use crate::events::{Events, What};
use crate::identity::Identity;
use crate::job;
use crate::local::server::LocalServer;
use crate::mesh::{MeshNetwork, SocketOptions};
use crate::metrics::MetricsServer;
use crate::owner::{NetworkGrant, Owner};
use crate::poll::Launches;
use crate::retry::Reach;
use crate::state_dir::StateDir;

/// What `agent run` was told.
pub struct RunOptions {
    /// To become a node; not needed afterwards.
    pub token: Option<JoinToken>,
    /// What the volunteer gives.
    pub offer: Offer,
    /// What the network may carry of jobs.
    pub network: NetworkGrant,
    /// The overlay's UDP socket.
    pub socket: SocketOptions,
    /// Where everything that happens to jobs and their networks is written.
    pub events: Option<PathBuf>,
    /// Where scrapers of this machine find the counters.
    pub metrics: Option<SocketAddr>,
}

/// Enrols if need be; nothing else.
///
/// # Errors
/// With a sentence for people.
pub async fn join(state: &Path, token: &JoinToken, offer: Offer) -> anyhow::Result<Membership> {
    let state = StateDir::open(state)?;
    let identity = Identity::load_or_create(state.path())?;
    let stop = stopped()?;
    let reach = Reach::default();
    tokio::select! {
        joined = membership(state.path(), &identity, Some(token), offer, &reach) => Ok(joined?),
        () = stop => anyhow::bail!("stopped before the coordinator answered"),
    }
}

/// Works as a node until SIGTERM or SIGINT. Jobs that run then go on for a minute, waiting for the next
/// agent.
///
/// # Errors
/// With a sentence for people.
pub async fn run(state: &Path, options: RunOptions) -> anyhow::Result<()> {
    let events = match &options.events {
        Some(file) => Events::to_file(file)
            .with_context(|| format!("cannot write events to {}", file.display()))?,
        None => Events::default(),
    };
    let state = StateDir::open(state)?;
    let identity = Identity::load_or_create(state.path())?;
    let node = identity.node();
    let stop = stopped()?;
    let mut stop = std::pin::pin!(stop);
    tracing::info!(%node, state = %state.path().display(), "the agent starts");

    let reach = Reach::default();
    let enrolling =
        membership(state.path(), &identity, options.token.as_ref(), options.offer, &reach);
    let membership = tokio::select! {
        joined = enrolling => joined?,
        () = &mut stop => return Ok(()),
    };
    let owner =
        Owner::load(state.path(), options.offer, options.network).context("the owner's limits")?;
    let client = Client::new(&membership.url, membership.root)?
        .with_credential(&membership.credential)?
        .with_pace(owner.pace());
    let socket = SocketOptions { limit: owner.limit(), ..options.socket };
    let network =
        MeshNetwork::start(&identity, &membership, &socket, state.path(), &events).await?;
    let _metrics = match options.metrics {
        Some(at) => {
            let server = MetricsServer::start(at, network.overlay().clone()).await;
            let server = server.with_context(|| {
                format!("cannot listen on {at} for --metrics: choose another port")
            })?;
            tracing::info!(at = %server.at(), "metrics");
            Some(server)
        }
        None => None,
    };
    let _local = LocalServer::start(state.path(), network.overlay().clone(), owner.clone())
        .context("making the socket for the owner's questions failed")?;
    let cages = Cages::find();
    cages.sweep();
    let context = Arc::new(job::Context {
        owner: owner.clone(),
        cages,
        client,
        reach,
        network: network.clone(),
        hostname: membership.hostname.clone(),
        events: events.clone(),
        // Stays this very program when its file is replaced by an upgrade.
        program: "/proc/self/exe".into(),
    });
    let mut launches = Launches::take_up(context, state.path())?;
    let host = membership.hostname.clone();
    events.record(What::AgentStarted { host, version: env!("CARGO_PKG_VERSION") });
    tracing::info!(hostname = %membership.hostname, "ready for jobs");
    tokio::select! {
        () = launches.poll(Duration::from_millis(membership.poll_interval_ms)) => {}
        () = owner.watch_the_clock() => {}
        () = network.tell_activity(owner.changes()) => {}
        () = &mut stop => tracing::info!("stopping"),
    }
    // In this order: a mesh that is dropped while the overlay lives is left.
    network.shutdown().await;
    launches.release_ended().await;
    owner.close();
    events.finish();
    Ok(())
}

/// Completes at SIGTERM or SIGINT.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
