//! `coordinator relay`: a relay on a machine of its own.
//!
//! ```text
//!   start ──keys on disk──▶ serving ◀──welcome── joining ◀──start, token──
//!                              └──connection lost: serving goes on, joining again──▶
//! ```
//!
//! Nodes trust it with nothing but the carriage of sealed packets. It holds a key of its own, which is its
//! name at the coordinator, and gets keys for its own tickets, which it keeps: so it serves the networks that
//! run while the coordinator is away, also after a start of its own.

mod datagrams;
mod door;
mod place;
mod session;
mod tunnels;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator_client::token::host_of;
use coordinator_client::{Client, JoinToken};
use overlay_core::control::relays::MAX_RELAY_ENDPOINTS;
use overlay_relay::{Relay, RelayHandle, RelayKeys, RelayLimits, RelayMeter};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::datagrams::Datagrams;
use self::door::Door;
use self::place::{Membership, Place};
use self::session::{Ended, Reached, Session};
use self::tunnels::Tunnels;
use crate::args;
use crate::commands::print_lines;
use crate::metrics::MetricsPort;
use crate::serve::sockets;

/// First and longest pause between two attempts to reach the coordinator. Chosen: nodes are told of a relay
/// again as soon as the coordinator is back.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long the API may take to tell where the control channel is.
const ASKING: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn run(arguments: args::Relay) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let token = arguments.join.as_deref().map(str::parse::<JoinToken>).transpose()?;
    let mut place = Place::open(&arguments.state)?;
    let token = place.enrol(token, arguments.rendezvous.as_deref(), server_of)?;
    let mut serving = Serving::new(&arguments).await?;
    let metrics = match arguments.metrics.address {
        Some(at) => Some(MetricsPort::open(at, serving.meter.subscribe()).await?),
        None => None,
    };
    let at = arguments.tunnel.unwrap_or(arguments.listen);
    let door = Door::by_descriptors();
    let tunnels = Tunnels::open(at, place.identity()?, serving.address, door.clone())?;
    let at = tunnels.address();
    let datagrams = Datagrams::open(at, place.identity()?, serving.address, door)?;
    serving.reached.tunnel = at.port();
    print_lines([
        format!("relay: {}", place.id()),
        format!("address: {}", serving.address),
        format!("tunnel: {at}"),
    ])?;
    print_lines(datagrams.as_ref().map(|_| format!("quic: {at}")))?;
    print_lines(metrics.as_ref().map(ToString::to_string))?;
    if let Some(keys) = place.keys() {
        serving.start(keys)?;
        print_lines(["ready"])?;
    }
    let joining = stay_joined(&mut place, &mut serving, token);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failed = joining => return failed.map(|never| match never {}),
        failed = tunnels.serve() => return failed.map(|never| match never {}),
        never = serve(datagrams) => match never {},
    }
    tracing::info!("stopping");
    Ok(())
}

pub(crate) enum Never {}

async fn serve(datagrams: Option<Datagrams>) -> Never {
    match datagrams {
        Some(datagrams) => datagrams.serve().await,
        None => std::future::pending().await,
    }
}

/// Keeps the coordinator informed, for ever; fails only where trying again is of no use.
async fn stay_joined(
    place: &mut Place,
    serving: &mut Serving,
    mut token: Option<String>,
) -> anyhow::Result<Never> {
    let (first, longest) = PAUSE;
    let mut pause = first;
    loop {
        find_coordinator(place).await;
        let joined = Session::open(place, token.as_deref(), &serving.reached).await;
        let ended = match joined {
            Ok((session, keys)) => {
                pause = first;
                token = None;
                let was_serving = serving.relay.is_some();
                serving.start(keys.clone())?;
                place.keep_keys(&keys)?;
                tracing::info!("the coordinator knows this relay");
                if !was_serving {
                    print_lines(["ready"])?;
                }
                session.ended().await
            }
            Err(ended) => ended,
        };
        match ended {
            Ended::Refused(reason) => bail!("the coordinator refuses this relay: {reason}"),
            Ended::Lost(error) => {
                tracing::warn!(%error, ?pause, "not connected to the coordinator")
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Asks the API where the control channel is. A coordinator that does not answer, or does not know the question,
/// is tried where it was, at first on the API's port.
async fn find_coordinator(place: &mut Place) {
    let Some((api, root)) =
        place.membership().and_then(|known| Some((known.api.clone()?, known.root)))
    else {
        return;
    };
    let asked = async { Client::new(&api, root)?.control_channel().await };
    match tokio::time::timeout(ASKING, asked).await {
        Ok(Ok(server)) => place.set_server(server),
        Ok(Err(error)) => tracing::debug!(%error, "the API does not tell the control channel"),
        Err(_) => tracing::debug!("the API does not answer"),
    }
}

/// The relay's sockets, and the relay on them.
struct Serving {
    sockets: Vec<UdpSocket>,
    limits: RelayLimits,
    address: SocketAddr,
    /// What the coordinator is told.
    reached: Reached,
    keys: Option<RelayKeys>,
    relay: Option<RelayHandle>,
    /// Of the relay that runs.
    meter: watch::Sender<RelayMeter>,
}

impl Serving {
    async fn new(arguments: &args::Relay) -> anyhow::Result<Self> {
        let sockets = sockets::bind_relay("--listen", arguments.listen)?;
        let address = sockets.first().context("a relay needs a socket")?.local_addr();
        let address = address.context("cannot read the relay's address")?;
        let mut endpoints = Vec::new();
        for host in &arguments.public_address {
            endpoints.extend(sockets::resolve(host, address.port()).await?);
        }
        endpoints.truncate(MAX_RELAY_ENDPOINTS);
        if endpoints.is_empty() {
            // The coordinator puts the address in that it sees.
            let unknown = address.ip().is_unspecified();
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let ip = if unknown { any } else { address.ip() };
            endpoints.push(SocketAddr::new(ip, address.port()));
        }
        let (meter, _) = watch::channel(RelayMeter::default());
        let reached = Reached { endpoints, tunnel: 0 };
        let limits = arguments.grants.limits();
        Ok(Self { sockets, limits, address, reached, keys: None, relay: None, meter })
    }

    /// Serves with those keys.
    fn start(&mut self, keys: RelayKeys) -> anyhow::Result<()> {
        if self.relay.is_some() && self.keys.as_ref() == Some(&keys) {
            return Ok(());
        }
        // One relay at a time on the sockets.
        self.relay = None;
        let sockets = self.sockets.iter().map(UdpSocket::try_clone).collect::<Result<_, _>>();
        let sockets = sockets.context("cannot share the relay's sockets")?;
        let relay = Relay::spawn_with(sockets, keys.clone(), self.limits)?;
        self.meter.send_replace(relay.meter());
        self.relay = Some(relay);
        self.keys = Some(keys);
        Ok(())
    }
}

/// The coordinator's control channel: on the API's port until something else is known.
fn server_of(token: &JoinToken, given: Option<&str>) -> Option<Membership> {
    let host = host_of(&token.url)?;
    let rest = token.url.strip_prefix("https://")?.split('/').next()?;
    let server = given.unwrap_or(rest).to_owned();
    let api = given.is_none().then(|| token.url.clone());
    Some(Membership { server, api, name: host.to_owned(), root: token.root, keys: None })
}

/// An address of the same family that lets the system choose the rest.
fn any_like(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}
