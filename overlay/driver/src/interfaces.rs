//! The endpoints of the machine's own interfaces.

mod changes;
mod kind;

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use changes::Changes;
use if_addrs::{IfOperStatus, Interface};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::worker::{Command, WorkerHandle};

/// How often the machine's addresses are read although the kernel has told of no change.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long changes may gather: a network that comes up is told of in many steps.
const GATHER: Duration = Duration::from_millis(100);

/// Tells the worker the machine's own endpoints whenever they change; `moved` is told of all but the first.
pub(crate) async fn watch(local: SocketAddr, worker: WorkerHandle, moved: Arc<Notify>) {
    let changes = Changes::subscribe();
    if let Err(error) = &changes {
        tracing::warn!(%error, ?INTERVAL, "the kernel does not tell of changed addresses: looking at times");
    }
    let mut known = None;
    loop {
        let endpoints = host_endpoints(local);
        if known.as_ref() != Some(&endpoints) {
            if known.replace(endpoints.clone()).is_some() {
                tracing::info!(?endpoints, "the machine's addresses have changed");
                moved.notify_one();
            }
            if worker.send(Command::HostEndpoints(endpoints)).await.is_err() {
                return;
            }
        }
        let changed = async {
            match &changes {
                Ok(changes) if changes.next().await.is_ok() => sleep(GATHER).await,
                Ok(_) | Err(_) => pending().await,
            }
        };
        // Either way it is looked at again.
        let _ = timeout(INTERVAL, changed).await;
    }
}

/// Where a socket bound to `local` may be reached on this machine's own networks.
///
/// A socket bound to one address has that endpoint alone; otherwise every interface that is up counts,
/// but for loopback, link-local IPv6 and what belongs to containers or other overlays ([`kind`]).
pub(crate) fn host_endpoints(local: SocketAddr) -> Vec<SocketAddr> {
    if !local.ip().is_unspecified() {
        return vec![local];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the machine's addresses");
        Vec::new()
    });
    select(&interfaces, local)
}

fn select(interfaces: &[Interface], local: SocketAddr) -> Vec<SocketAddr> {
    let mut endpoints: Vec<SocketAddr> = interfaces
        .iter()
        .filter(|interface| {
            interface.oper_status != IfOperStatus::Down
                && !interface.is_loopback()
                && !kind::is_foreign(Path::new(kind::SYSFS), &interface.name)
        })
        .map(Interface::ip)
        .filter(|ip| match ip {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => local.is_ipv6() && !v6.is_unicast_link_local(),
        })
        .map(|ip| SocketAddr::new(ip, local.port()))
        .collect();
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_address_is_the_only_endpoint() {
        let local: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        assert_eq!(host_endpoints(local), [local]);
    }

    #[test]
    fn loopback_and_link_local_are_left_out() {
        for endpoint in host_endpoints("[::]:4000".parse().unwrap()) {
            assert!(!endpoint.ip().is_loopback(), "{endpoint}");
            assert_eq!(endpoint.port(), 4000);
        }
    }
}
