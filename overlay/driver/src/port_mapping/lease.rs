//! A port that a router has opened, by whichever protocol it knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use crab_nat::{
    GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions, PortMappingType,
    TimeoutConfig, natpmp,
};

use super::{Place, is_private, upnp};

/// Three requests within 1.75 s.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};

/// See the module.
pub(super) enum Lease {
    /// PCP or NAT-PMP.
    Pcp { mapping: Box<PortMapping>, outer: SocketAddr },
    /// UPnP's IGD.
    Upnp(Box<upnp::Lease>),
}

/// Asks for the port, or to keep it. None when there is none that would be of use.
pub(super) async fn ask(
    place: Place,
    port: NonZeroU16,
    lifetime: Duration,
    former: Option<Lease>,
) -> Option<Lease> {
    let former = match former {
        Some(Lease::Upnp(lease)) => {
            if let Some(renewed) = lease.renewed(lifetime).await {
                return Some(Lease::Upnp(Box::new(renewed)));
            }
            None
        }
        Some(Lease::Pcp { mapping, .. }) => Some(*mapping),
        None => None,
    };
    if let Some(mapping) = by_pcp(place, port, lifetime, former).await {
        return with_outer(mapping).await;
    }
    let lease = upnp::ask(place, port, lifetime).await?;
    if is_public(*lease.outer().ip()) {
        return Some(Lease::Upnp(Box::new(lease)));
    }
    tracing::debug!("the router's port is not on a public address");
    lease.give_back().await;
    None
}

impl Lease {
    /// Where the port is reached from outside.
    pub(super) fn outer(&self) -> SocketAddr {
        match self {
            Self::Pcp { outer, .. } => *outer,
            Self::Upnp(lease) => lease.outer().into(),
        }
    }

    /// For the log.
    pub(super) fn protocol(&self) -> &'static str {
        match self {
            Self::Pcp { mapping, .. } => match mapping.mapping_type() {
                PortMappingType::Pcp { .. } => "PCP",
                PortMappingType::NatPmp => "NAT-PMP",
            },
            Self::Upnp(_) => "UPnP",
        }
    }

    /// It is time to ask again.
    pub(super) fn is_half_over(&self) -> bool {
        let (ends, lifetime) = match self {
            Self::Pcp { mapping, .. } => {
                (mapping.expiration(), Duration::from_secs(mapping.lifetime().into()))
            }
            Self::Upnp(lease) => (lease.ends(), lease.lifetime()),
        };
        ends.saturating_duration_since(Instant::now()) * 2 < lifetime
    }

    /// Shuts the port. Whether the router has said so.
    pub(super) async fn give_back(self) -> bool {
        match self {
            Self::Pcp { mapping, .. } => mapping.try_drop().await.is_ok(),
            Self::Upnp(lease) => lease.give_back().await,
        }
    }
}

async fn with_outer(mapping: PortMapping) -> Option<Lease> {
    match outer(&mapping).await {
        Some(outer) => Some(Lease::Pcp { mapping: Box::new(mapping), outer }),
        None => {
            tracing::debug!("the router's port is not on a public address");
            let _ = mapping.try_drop().await;
            None
        }
    }
}

async fn by_pcp(
    place: Place,
    port: NonZeroU16,
    lifetime: Duration,
    former: Option<PortMapping>,
) -> Option<PortMapping> {
    if let Some(mut mapping) = former
        && mapping.renew().await.is_ok()
    {
        return Some(mapping);
    }
    let options = PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: u32::try_from(lifetime.as_secs()).ok(),
        timeout_config: Some(PATIENCE),
    };
    let (router, own) = (GatewayAddress::IpV4(place.router), IpAddr::V4(place.own));
    match PortMapping::new(router, own, InternetProtocol::Udp, port, options).await {
        Ok(mapping) => Some(mapping),
        Err(error) => {
            tracing::debug!(?error, "the router knows no PCP and no NAT-PMP");
            None
        }
    }
}

/// Where the mapped port is reached from outside, if that is a public address.
async fn outer(mapping: &PortMapping) -> Option<SocketAddr> {
    let address = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip,
        PortMappingType::NatPmp => {
            let told = natpmp::external_address(mapping.gateway(), Some(PATIENCE)).await;
            IpAddr::V4(told.ok()?)
        }
    };
    // PCP gives an IPv4 address also as one that is mapped into IPv6.
    let IpAddr::V4(address) = address.to_canonical() else { return None };
    is_public(address).then(|| SocketAddr::from((address, mapping.external_port().get())))
}

fn is_public(address: Ipv4Addr) -> bool {
    !is_private(address) && !address.is_unspecified() && !address.is_loopback()
}
