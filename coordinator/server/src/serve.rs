//! `coordinator serve`: everything that listens.

mod doorkeeper;
pub(crate) mod sockets;
mod tunnels;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use coordinator_client::{JoinToken, RootPin};
use coordinator_core::Policy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use overlay_core::wire::tunnel;
use overlay_relay::gateway::Gateway;
use overlay_relay::{Relay, RelayHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::doorkeeper::Doorkeeper;
use self::sockets::DataLock;
use self::tunnels::Tunnels;
use crate::app::{Announced, App, Parts};
use crate::args::{Compat, Serve};
use crate::clock::Clock;
use crate::commands::{PKI_FOLDER, PUBLIC_URL, add_token, print_lines};
use crate::files::FileStore;
use crate::http;
use crate::limits::Limits;
use crate::metrics::MetricsPort;
use crate::password::PasswordDesk;
use crate::pki::Pki;
use crate::relay_desk::RelayDesk;
use crate::rendezvous::{Rendezvous, RendezvousConfig, RendezvousHandle};
use crate::roster::Roster;
use crate::stage::{Retention, StageLimits, StageStore};
use crate::store::{Store, TokenMakes};

/// How long the first start's join token can be used.
const FIRST_TOKEN: Duration = Duration::from_secs(24 * 3600);

/// How long requests may go on after the order to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may be silent. Chosen: a few polls.
const SILENCE: Duration = Duration::from_secs(60);

/// Requests at a time on one connection. Chosen: an agent or a user needs a handful.
const STREAMS: u32 = 64;

/// A running coordinator.
pub struct Server {
    /// The API.
    pub url: String,
    /// What clients pin.
    pub root: RootPin,
    /// A join token, on the first start only.
    pub join_token: Option<JoinToken>,
    /// The state behind the API.
    pub app: App,
    /// Where the API listens.
    pub address: SocketAddr,
    rendezvous: RendezvousHandle,
    relay: RelayHandle,
    https: axum_server::Handle<SocketAddr>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    metrics: Option<MetricsPort>,
    _lock: DataLock,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn run(arguments: Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut server = Server::start(&arguments, Arc::new(Clock::default())).await?;
    let mut lines = vec![format!("url: {}", server.url), format!("root: sha256:{}", server.root)];
    lines.extend(server.join_token.take().map(|token| format!("join token: {token}")));
    lines.extend(server.metrics.as_ref().map(ToString::to_string));
    lines.push("ready".to_owned());
    print_lines(lines)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server.serving => {
            ended.context("the API's task ended")?.context("the API's socket failed")?;
        }
    }
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

impl Server {
    /// Opens the data directory, binds the sockets and starts everything.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub async fn start(arguments: &Serve, clock: Arc<Clock>) -> anyhow::Result<Self> {
        let data = &arguments.data;
        let store = Store::open(data).await?;
        let lock = DataLock::take(data)?;
        let pki = Arc::new(Pki::open(&data.join(PKI_FOLDER), &arguments.public_address)?);
        let limits = StageLimits { max_stagein: arguments.max_stagein, ..StageLimits::default() };
        let stage = StageStore::open(&data.join("stage"), limits)
            .context("cannot use the stage directory in the data directory")?;
        let files = FileStore::open(&data.join("files"))
            .context("cannot use the directory of users' files in the data directory")?;

        let api = sockets::bind_tcp("--listen", arguments.listen)?;
        let control = sockets::bind_udp("--rendezvous", arguments.rendezvous)?;
        let relay = sockets::bind_relay("--relay", arguments.relay)?;
        let address = api.local_addr().context("cannot read the API's address")?;
        let control_address = control.local_addr().context("cannot read an address")?;
        let control_port = control_address.port();
        let host = arguments.public_address.first().map_or("localhost", String::as_str);
        let url = sockets::url(host, address.port());

        let first_start = store.is_new(clock.now()).await?;
        store.set_setting(PUBLIC_URL, &url).await?;
        let join_token = if first_start {
            Some(add_token(&store, data, TokenMakes::Node, clock.now(), FIRST_TOKEN).await?)
        } else {
            None
        };

        let keys = pki.relay_keys();
        let relay = Relay::spawn_with(relay, keys.clone(), arguments.grants.limits())?;
        let metrics = match arguments.metrics.address {
            Some(at) => {
                // The same relay for as long as this runs.
                let (_, meter) = watch::channel(relay.meter());
                Some(MetricsPort::open(at, meter).await?)
            }
            None => None,
        };
        let gateway = Gateway::new(control_address, relay.local_addr());
        let relay_endpoints = sockets::resolve(host, relay.local_addr().port()).await?;
        let roster = Arc::new(Roster::default());
        let desk = RelayDesk { store: store.clone(), pki: pki.clone(), clock: clock.clone() };
        let (rendezvous, events) = Rendezvous::start(RendezvousConfig {
            socket: control,
            certificate: pki.resolver(),
            relay_keys: keys,
            relay_endpoints,
            enrolled: roster.clone(),
            relays: Arc::new(desk),
            gateway,
            reset_secret: pki.reset_secret(),
        })?;

        let policy = Policy {
            node_timeout: arguments.node_timeout,
            launch_deadline: arguments.launch_deadline,
            quotas: arguments.quota.clone(),
            ..Policy::default()
        };
        let announced = Announced {
            rendezvous: format!(":{control_port}"),
            poll_interval: arguments.poll_interval,
        };
        let rendezvous_and_events = Some((rendezvous.clone(), events));
        let parts = Parts {
            store,
            stage,
            files,
            limits: Limits::new(arguments.user_rate),
            clock,
            policy,
            passwords: PasswordDesk::new().context("cannot make a secret")?,
            proxies: arguments.trusted_proxy.clone(),
            retention: Retention {
                stageins: arguments.keep_stageins,
                results: arguments.keep_results,
            },
            roster,
            rendezvous: rendezvous_and_events,
            announced,
            ruby_agents: arguments.compat.contains(&Compat::RubyAgent),
        };
        let app = App::start(parts).await?;

        let https = axum_server::Handle::new();
        let acceptor = RustlsAcceptor::new(tls(&pki)?).acceptor(Doorkeeper::by_descriptors());
        let acceptor = Tunnels::new(acceptor, gateway);
        let mut server = axum_server::from_tcp(api)?.acceptor(acceptor).handle(https.clone());
        limit_silence(server.http_builder());
        let service = http::router(app.clone());
        let service = service.into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(server.serve(service));
        let root = pki.root_pin();
        Ok(Self {
            url,
            root,
            join_token,
            app,
            address,
            rendezvous,
            relay,
            https,
            serving,
            metrics,
            _lock: lock,
        })
    }

    /// Where the jobs' networks are made.
    pub fn rendezvous(&self) -> &RendezvousHandle {
        &self.rendezvous
    }

    /// Ends everything: requests under way have a few seconds.
    pub async fn stop(self) {
        self.https.graceful_shutdown(Some(STOP_PATIENCE));
        if !self.serving.is_finished() {
            let _ = self.serving.await;
        }
        self.rendezvous.shutdown().await;
        self.app.stop().await;
        drop(self.relay);
    }
}

/// Ends connections whose other end is gone or never asks: volunteers' machines vanish without a word.
fn limit_silence(http: &mut hyper_util::server::conn::auto::Builder<TokioExecutor>) {
    http.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE / 2)
        .keep_alive_timeout(SILENCE / 2)
        .max_concurrent_streams(STREAMS);
}

fn tls(pki: &Arc<Pki>) -> anyhow::Result<RustlsConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_no_client_auth()
        .with_cert_resolver(pki.resolver());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), tunnel::ALPN.to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}
