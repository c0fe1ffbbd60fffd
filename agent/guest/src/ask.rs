//! `agent ping`, `agent explain`, `agent netcheck`, `agent metrics` and what the owner changes: asked of the running agent.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coordinator_client::client::Wanted;
use coordinator_client::proxy::{api_address, proxy_of, useless_proxy, without_password};
use coordinator_client::{Client, ClientError};
use overlay_driver::Overlay;
use overlay_driver::netcheck::{LIFETIMES, NetReport};
use serde::Serialize;

use crate::enrol::{MEMBERSHIP_FILE, Membership, Offer};
use crate::identity::Identity;
use crate::job::directory::JobDirectory;
use crate::local::client::ask;
use crate::local::protocol::{Answer, Ask, Over, Pong};
use crate::mesh::overlay_config;
use crate::owner::{Change, NetworkGrant, Owner, Wishes};
use crate::state_dir::{OpenStateError, StateDir, read_json, unreadable};
use crate::status::network::{NetworkStatus, PairStatus, milliseconds};

/// What `agent ping` was told.
pub struct PingOptions {
    /// Rounds.
    pub count: u16,
    /// Between rounds.
    pub interval: Duration,
    /// Bytes of the packets.
    pub size: u16,
    /// One JSON document at the end.
    pub json: bool,
}

/// One ping.
#[derive(Debug, Serialize)]
struct Pinged {
    over: Over,
    #[serde(skip_serializing_if = "Option::is_none")]
    pong: Option<Pong>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Pings a node on the path in use, and on the relay where that is another. Whether any was answered.
///
/// # Errors
/// No agent runs, or it knows no such node.
pub async fn ping(
    state: &Path,
    node: &str,
    options: &PingOptions,
    mut out: impl Write,
) -> anyhow::Result<bool> {
    // An unknown node is an error at once, not a ping that fails.
    network(state).await?.find(node).map_err(anyhow::Error::msg)?;
    let mut pings = Vec::new();
    for round in 0..options.count {
        if round > 0 {
            tokio::time::sleep(options.interval).await;
        }
        for over in [Over::Current, Over::Relay] {
            let relayed = pings.last().and_then(|last: &Pinged| last.pong.as_ref());
            if over == Over::Relay && relayed.is_some_and(|pong| pong.relayed) {
                continue;
            }
            let question = Ask::Ping { node: node.to_owned(), over, size: options.size };
            let pinged = match ask(state, question).await {
                Ok(Answer::Pong(pong)) => Pinged { over, pong: Some(pong), error: None },
                Ok(other) => bail!("the agent answered something else: {other:?}"),
                Err(error) => Pinged { over, pong: None, error: Some(error.to_string()) },
            };
            if !options.json {
                writeln!(out, "{node} {pinged}")?;
            }
            pings.push(pinged);
        }
    }
    if options.json {
        serde_json::to_writer(&mut out, &serde_json::json!({ "node": node, "pings": pings }))?;
        writeln!(out)?;
    }
    Ok(pings.iter().any(|pinged| pinged.pong.is_some()))
}

impl fmt::Display for Pinged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pong, &self.error) {
            (Some(pong), _) => {
                let path = if pong.relayed { "relay " } else { "direct" };
                write!(f, "{path} {}  {} ms", pong.endpoint, milliseconds(pong.rtt_us))
            }
            (None, error) => {
                let path = if self.over == Over::Relay { "relay " } else { "path  " };
                write!(f, "{path} {}", error.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Why the pairs with a node are as they are.
///
/// # Errors
/// No agent runs, or it knows no such node.
pub async fn explain(state: &Path, node: &str, json: bool) -> anyhow::Result<String> {
    let network = network(state).await?;
    let id = network.find(node).map_err(anyhow::Error::msg)?;
    let pairs: Vec<_> = network.pairs_with(id).collect();
    if json {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(mesh, pair)| {
                serde_json::json!({ "job": mesh.job, "pair": pair, "sentence": pair.sentence() })
            })
            .collect();
        return Ok(serde_json::to_string(&pairs)?);
    }
    let line = |(mesh, pair): &(overlay_core::MeshId, &PairStatus)| {
        format!("{} (job {}): {}", pair.name, mesh.job, pair.sentence())
    };
    Ok(pairs.iter().map(line).collect::<Vec<_>>().join("\n"))
}

async fn network(state: &Path) -> anyhow::Result<NetworkStatus> {
    match ask(state, Ask::Network).await? {
        Answer::Network(network) => Ok(*network),
        other @ (Answer::Pong(_)
        | Answer::Netcheck(_)
        | Answer::Owner(_)
        | Answer::Metrics { .. }) => {
            bail!("the agent answered something else: {other:?}")
        }
    }
}

/// Waits until the agent of that directory has no job any more.
///
/// # Errors
/// When the directory cannot be read.
pub async fn emptied(state: &Path) -> anyhow::Result<()> {
    while !JobDirectory::all(&state.join("jobs")).with_context(|| unreadable(state))?.is_empty() {
        tokio::time::sleep(EMPTIED_PAUSE).await;
    }
    Ok(())
}

/// How often to look.
const EMPTIED_PAUSE: Duration = Duration::from_millis(200);

/// Changes what jobs may use, in the running agent or for the next one; what holds then.
///
/// # Errors
/// When it cannot be kept.
pub async fn change(state: &Path, change: Change) -> anyhow::Result<Wishes> {
    match StateDir::open(state) {
        Ok(_lock) => {
            // What was offered has no part in what was said.
            let offer = Offer { cores: 1, memory_mib: 0 };
            let owner = Owner::load(state, offer, NetworkGrant::default());
            Ok(owner.and_then(|owner| owner.change(&change)).with_context(|| unreadable(state))?)
        }
        Err(OpenStateError::InUse { .. }) => {
            match ask(state, Ask::Owner { change: Box::new(change) }).await? {
                Answer::Owner(wishes) => Ok(*wishes),
                other @ (Answer::Pong(_)
                | Answer::Netcheck(_)
                | Answer::Network(_)
                | Answer::Metrics { .. }) => bail!("the agent answered something else: {other:?}"),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// What the running agent has counted, in Prometheus' text format.
///
/// # Errors
/// No agent runs.
pub async fn metrics(state: &Path) -> anyhow::Result<String> {
    match ask(state, Ask::Metrics).await? {
        Answer::Metrics { text } => Ok(text),
        other @ (Answer::Pong(_) | Answer::Netcheck(_) | Answer::Owner(_) | Answer::Network(_)) => {
            bail!("the agent answered something else: {other:?}")
        }
    }
}

/// What `agent netcheck` finds.
#[derive(Debug, Serialize)]
pub struct Netcheck {
    /// UDP and what is in its way.
    #[serde(flatten)]
    pub network: NetReport,
    /// The API answers over HTTPS.
    pub api: bool,
    /// Why not.
    pub api_error: Option<String>,
    /// The proxy that is configured (`HTTPS_PROXY`), without its password.
    pub proxy: Option<String>,
    /// The API does not answer without the proxy.
    pub proxy_needed: bool,
    /// What is configured as a proxy and is no proxy's address.
    pub proxy_ignored: Option<String>,
}

impl fmt::Display for Netcheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        let via = match (&self.proxy, self.proxy_needed) {
            (Some(proxy), true) => format!(" (through the proxy {proxy}, which is needed)"),
            (Some(proxy), false) => format!(" (a proxy is set, {proxy}, but not needed)"),
            (None, _) => match &self.proxy_ignored {
                Some(text) => format!(
                    " (without the proxy {text:?}, which is no address: HTTPS_PROXY=http://HOST:PORT)"
                ),
                None => String::new(),
            },
        };
        match &self.api_error {
            None => writeln!(f, "HTTPS: the coordinator answers{via}"),
            Some(error) => writeln!(f, "HTTPS: {error}{via}"),
        }
    }
}

/// Measures the network: by the running agent, on its own socket, or without one.
///
/// # Errors
/// This machine is no node, or the state directory cannot be used.
pub async fn netcheck(state: &Path, lifetime: bool) -> anyhow::Result<Netcheck> {
    let read = read_json::<Membership>(&state.join(MEMBERSHIP_FILE));
    let Some(membership) = read.with_context(|| unreadable(state))? else {
        bail!("this machine is not a node yet, so nobody is known to ask: `agent join TOKEN`");
    };
    let api = api(&membership);
    let proxy = proxy_of(&membership.url).map(|proxy| without_password(&proxy));
    let direct = reachable_without_proxy(&membership.url);
    let network = udp(state, &membership, lifetime);
    let (api, direct, network) = tokio::join!(api, direct, network);
    Ok(Netcheck {
        network: network?,
        api: api.is_none(),
        api_error: api,
        proxy_needed: proxy.is_some() && !direct,
        proxy_ignored: useless_proxy(&membership.url).map(|proxy| without_password(&proxy)),
        proxy,
    })
}

async fn udp(state: &Path, membership: &Membership, lifetime: bool) -> anyhow::Result<NetReport> {
    let _lock = match StateDir::open(state) {
        Ok(lock) => lock,
        Err(OpenStateError::InUse { .. }) => {
            return match ask(state, Ask::Netcheck { lifetime }).await? {
                Answer::Netcheck(report) => Ok(report),
                other @ (Answer::Network(_)
                | Answer::Pong(_)
                | Answer::Owner(_)
                | Answer::Metrics { .. }) => {
                    bail!("the agent answered something else: {other:?}")
                }
            };
        }
        Err(error) => return Err(error.into()),
    };
    let identity = Identity::load_or_create(state)?;
    let any = SocketAddr::from(([0u16; 8], 0));
    let overlay = Overlay::start(overlay_config(&identity, membership, any, Vec::new())?).await?;
    let lifetimes: &[Duration] = if lifetime { &LIFETIMES } else { &[] };
    let report = overlay.netcheck(lifetimes).await;
    overlay.shutdown().await;
    Ok(report)
}

/// Why the API does not answer; none when it does, be it with a refusal.
async fn api(membership: &Membership) -> Option<String> {
    // Without the credential: it would be taken for a poll.
    let asked = async {
        Client::new(&membership.url, membership.root)?
            .node_jobs(&membership.hostname, Wanted::ToKill)
            .await
    };
    match asked.await {
        Ok(_) | Err(ClientError::Refused { .. }) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Whether a TCP connection to the API's host comes about.
async fn reachable_without_proxy(url: &str) -> bool {
    let Some(address) = api_address(url) else { return false };
    let connecting = tokio::net::TcpStream::connect(address);
    matches!(tokio::time::timeout(Duration::from_secs(5), connecting).await, Ok(Ok(_)))
}
