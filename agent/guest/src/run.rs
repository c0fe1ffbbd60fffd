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
use crate::oar::OarOptions;
use crate::owner::{NetworkGrant, Owner};
use crate::poll::Launches;
use crate::retry::Reach;
use crate::state_dir::StateDir;

/// What `agent run` was told.
pub struct RunOptions {
    /// Whose jobs it runs.
    pub server: ServerOptions,
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

/// Whose jobs a node runs.
pub enum ServerOptions {
    /// A coordinator's; the token makes the node, and is not needed afterwards.
    Coordinator(Option<JoinToken>),
    /// A plain OAR server's.
    Oar(OarOptions),
}

/// The node's place.
struct Place {
    client: Client,
    hostname: String,
    network: Option<MeshNetwork>,
    interval: Duration,
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
    let stop = stopped()?;
    let mut stop = std::pin::pin!(stop);
    tracing::info!(state = %state.path().display(), "the agent starts");

    let owner =
        Owner::load(state.path(), options.offer, options.network).context("the owner's limits")?;
    let socket = SocketOptions { limit: owner.limit(), ..options.socket.clone() };
    let reach = Reach::default();
    let finding = async {
        match &options.server {
            ServerOptions::Coordinator(token) => {
                let enrolling =
                    Enrolling { token: token.as_ref(), offer: options.offer, socket: &socket };
                node_of_coordinator(state.path(), enrolling, &reach, &events).await
            }
            ServerOptions::Oar(oar) => Ok(Place {
                client: oar.client(state.path(), &reach).await?,
                hostname: oar.node.clone(),
                network: None,
                interval: oar.interval,
            }),
        }
    };
    let place = tokio::select! {
        found = finding => found?,
        () = &mut stop => return Ok(()),
    };
    let Place { client, hostname, network, interval } = place;
    let client = client.with_pace(owner.pace());
    let overlay = network.as_ref().map(|network| network.overlay().clone());
    let _metrics = match (options.metrics, &overlay) {
        (Some(at), Some(overlay)) => {
            let server = MetricsServer::start(at, overlay.clone()).await;
            let server = server.with_context(|| {
                format!("cannot listen on {at} for --metrics: choose another port")
            })?;
            tracing::info!(at = %server.at(), "metrics");
            Some(server)
        }
        (None, _) | (_, None) => None,
    };
    let _local = LocalServer::start(state.path(), overlay, owner.clone())
        .context("making the socket for the owner's questions failed")?;
    let cages = Cages::find();
    cages.sweep();
    let context = Arc::new(job::Context {
        owner: owner.clone(),
        cages,
        client,
        reach,
        network: network.clone(),
        hostname: hostname.clone(),
        events: events.clone(),
        // Stays this very program when its file is replaced by an upgrade.
        program: "/proc/self/exe".into(),
    });
    let mut launches = Launches::take_up(context, state.path())?;
    tracing::info!(%hostname, "ready for jobs");
    events.record(What::AgentStarted { host: hostname, version: env!("CARGO_PKG_VERSION") });
    tokio::select! {
        () = launches.poll(interval) => {}
        () = owner.watch_the_clock() => {}
        () = tell_activity(network.as_ref(), &owner) => {}
        () = &mut stop => tracing::info!("stopping"),
    }
    // In this order: a mesh that is dropped while the overlay lives is left.
    if let Some(network) = network {
        network.shutdown().await;
    }
    launches.release_ended().await;
    owner.close();
    events.finish();
    Ok(())
}

/// Tells the peers of the owner's word, where there are any.
async fn tell_activity(network: Option<&MeshNetwork>, owner: &Owner) {
    match network {
        Some(network) => network.tell_activity(owner.changes()).await,
        None => std::future::pending().await,
    }
}

/// What a coordinator's node is made from.
struct Enrolling<'a> {
    token: Option<&'a JoinToken>,
    offer: Offer,
    socket: &'a SocketOptions,
}

/// Enrols if need be, and starts the overlay.
async fn node_of_coordinator(
    state: &Path,
    Enrolling { token, offer, socket }: Enrolling<'_>,
    reach: &Reach,
    events: &Events,
) -> anyhow::Result<Place> {
    let identity = Identity::load_or_create(state)?;
    tracing::info!(node = %identity.node(), "this node's key");
    let membership = membership(state, &identity, token, offer, reach).await?;
    let client =
        Client::new(&membership.url, membership.root)?.with_credential(&membership.credential)?;
    let network = MeshNetwork::start(&identity, &membership, socket, state, events).await?;
    Ok(Place {
        client,
        hostname: membership.hostname,
        network: Some(network),
        interval: Duration::from_millis(membership.poll_interval_ms),
    })
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
