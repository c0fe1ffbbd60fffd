//! The endpoints of the machine's own interfaces.

use std::net::{IpAddr, SocketAddr};

use if_addrs::{IfOperStatus, Interface};

/// Interfaces whose addresses lead nowhere for others: container and VM bridges, other overlays.
const FOREIGN_PREFIXES: [&str; 14] = [
    "br-",
    "cali",
    "cni",
    "docker",
    "flannel",
    "lxc",
    "lxd",
    "mesh",
    "podman",
    "tailscale",
    "veth-",
    "virbr",
    "wg",
    "zt",
];

/// Where a socket bound to `local` may be reached on this machine's own networks.
///
/// A socket bound to one address has that endpoint alone; otherwise every interface that is up counts,
/// but for loopback, link-local IPv6 and [`FOREIGN_PREFIXES`].
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
                && !FOREIGN_PREFIXES.iter().any(|prefix| interface.name.starts_with(prefix))
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
