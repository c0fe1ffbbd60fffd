//! A port of the home's router for this node's socket: asked for, renewed, given back.
//!
//! Routers that know PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP's IGD open a port on request, so that also a
//! peer behind a NAT with random ports can send here. It is asked for only where that is harmless: the router is
//! the default gateway (whatever else on the network offers itself is left alone), it and this machine have private
//! addresses, what it gives is on a public one (another NAT is in front of it otherwise, and the port would be open
//! to that network's strangers for nothing), and it forgets the port by itself when nobody asks again. What comes in
//! is what comes in at the socket anyway.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::worker::{Command, WorkerHandle};
use lease::Lease;

mod lease;
mod upnp;

/// How long the router may take to close the port.
const PARTING: Duration = Duration::from_millis(800);

/// How long ports are asked for, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leases {
    /// How long a port is asked for; it is asked for again at half of what the router gives.
    pub lifetime: Duration,
    /// The least pause between renewals, whatever the router says.
    pub least_pause: Duration,
    /// How often it is looked whether this machine has another router by now, and whether it is time to renew.
    pub look: Duration,
    /// Before a router that gave nothing is asked again. Most of them never will.
    pub retry: Duration,
}

/// Chosen: a port that nobody gives back is shut soon; RFC 6886 recommends two hours for programs that cannot
/// renew well.
impl Default for Leases {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(1200),
            least_pause: Duration::from_secs(20),
            look: Duration::from_secs(20),
            retry: Duration::from_secs(600),
        }
    }
}

/// A router that may be asked, and this machine's address on its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    router: Ipv4Addr,
    own: Ipv4Addr,
}

/// Keeps that UDP port open at the router until `stopping` says so; then gives it back.
pub(crate) async fn keep(
    port: u16,
    leases: Leases,
    worker: WorkerHandle,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(port) = NonZeroU16::new(port) else { return };
    let mut asked: Option<Place> = None;
    let mut retry_at = tokio::time::Instant::now();
    let mut lease: Option<Lease> = None;
    let mut told = None;
    loop {
        let place = here().filter(|place| is_harmless(*place));
        let now = tokio::time::Instant::now();
        if place != asked {
            // The former router is out of reach: its lease ends by itself.
            lease = None;
            retry_at = now;
        }
        asked = place;
        if let Some(place) = place
            && now >= retry_at
            && lease.as_ref().is_none_or(Lease::is_half_over)
        {
            let is_held = lease.is_some();
            lease = tokio::select! {
                given = lease::ask(place, port, leases.lifetime, lease.take()) => given,
                // Most routers never answer, which takes seconds to know. What one gives too late
                // ends by itself.
                _ = stopping.wait_for(|stopping| *stopping), if !is_held => break,
            };
            retry_at = now + if lease.is_some() { leases.least_pause } else { leases.retry };
        }
        let outer = lease.as_ref().map(Lease::outer);
        if outer != told {
            told = outer;
            let by = lease.as_ref().map(Lease::protocol);
            tracing::info!(is_open = outer.is_some(), by, "the router's port for this node");
            let endpoints = outer.into_iter().collect();
            if worker.send(Command::PortMapped(endpoints)).await.is_err() {
                break;
            }
        }
        tokio::select! {
            () = sleep(leases.look) => {}
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    if let Some(lease) = lease {
        let given_back = timeout(PARTING, lease.give_back()).await == Ok(true);
        tracing::debug!(given_back, "the router's port");
    }
}

fn is_harmless(place: Place) -> bool {
    is_private(place.router) && is_private(place.own)
}

/// RFC 1918's networks, and RFC 6598's between carriers and homes.
fn is_private(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_private() || (first == 100 && second & 0xc0 == 64) || address.is_link_local()
}

/// The default gateway, and this machine's address towards it.
fn here() -> Option<Place> {
    let routes = std::fs::read_to_string("/proc/thread-self/net/route").ok()?;
    let router = default_gateway(&routes)?;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((router, crab_nat::GATEWAY_PORT)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) => Some(Place { router, own }),
        IpAddr::V6(_) => None,
    }
}

/// The gateway of the default route with the least metric: columns of the kernel's `route`.
fn default_gateway(routes: &str) -> Option<Ipv4Addr> {
    /// RTF_GATEWAY.
    const GATEWAY: u16 = 2;
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else {
            return None;
        };
        let number = |text| u32::from_str_radix(text, 16).ok();
        let is_default = number(destination)? == 0 && number(mask)? == 0;
        let flags = u16::from_str_radix(flags, 16).ok()?;
        // Written as the machine stores it: network order in its memory.
        let gateway = Ipv4Addr::from(number(gateway)?.to_ne_bytes());
        (is_default && flags & GATEWAY != 0).then_some((metric.parse::<u32>().ok()?, gateway))
    };
    routes.lines().skip(1).filter_map(route).min().map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_default_route_with_the_least_metric_counts() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
            wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_gateway(routes), Some(Ipv4Addr::new(192, 168, 0, 1)));
        assert_eq!(default_gateway(""), None);
        assert_eq!(default_gateway("header\nnonsense\n"), None);
    }

    #[test]
    fn only_homes_routers_are_asked() {
        let place = |router: &str, own: &str| Place {
            router: router.parse().unwrap(),
            own: own.parse().unwrap(),
        };
        assert!(is_harmless(place("192.168.1.1", "192.168.1.7")));
        assert!(is_harmless(place("100.64.0.1", "10.0.0.2")));
        assert!(!is_harmless(place("198.51.100.1", "198.51.100.7")), "a server in a data centre");
        assert!(!is_harmless(place("100.128.0.1", "192.168.1.7")));
    }
}
