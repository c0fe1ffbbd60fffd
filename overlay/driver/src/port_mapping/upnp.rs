//! UPnP's Internet Gateway Device: what most homes' routers know, though often switched off.
//!
//! Anything on the network may answer the search. The router itself is asked first, alone; where it does not hear
//! that, everybody is, and whoever answers from another address than the router's is left alone. (That the addresses
//! within an answer are the answerer's own is seen to by `igd-next`.)

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};

use super::Place;

/// Where gateways listen: SSDP's port, and its group.
const SSDP: u16 = 1900;
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// How long a search may take, its descriptions included.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the router shows its owner beside the port.
const DESCRIPTION: &str = "Clouds@home";

/// A port that the router has opened.
pub(super) struct Lease {
    gateway: Gateway<Tokio>,
    own: SocketAddr,
    outer: SocketAddrV4,
    lifetime: Duration,
    ends: Instant,
}

/// Asks the router, if it can be asked at all.
pub(super) async fn ask(place: Place, port: NonZeroU16, lifetime: Duration) -> Option<Lease> {
    let gateway = find(place).await?;
    let IpAddr::V4(address) = gateway.get_external_ip().await.ok()? else { return None };
    let own = SocketAddr::from((place.own, port.get()));
    let outer = SocketAddrV4::new(address, port.get());
    let lease = Lease { gateway, own, outer, lifetime, ends: Instant::now() };
    lease.renewed(lifetime).await
}

async fn find(place: Place) -> Option<Gateway<Tokio>> {
    for to in [place.router, EVERYBODY] {
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddr::from((place.own, 0));
        options.broadcast_address = SocketAddr::from((to, SSDP));
        options.timeout = Some(PATIENCE);
        options.single_search_timeout = Some(PATIENCE);
        match search_gateway(options).await {
            Ok(gateway) if is_the_router(gateway.addr, place) => return Some(gateway),
            Ok(gateway) => tracing::debug!(at = %gateway.addr, "a gateway that is not the router"),
            Err(error) => tracing::debug!(%error, "no answer to a search for gateways"),
        }
    }
    None
}

fn is_the_router(at: SocketAddr, place: Place) -> bool {
    at.ip().to_canonical() == IpAddr::V4(place.router)
}

impl Lease {
    pub(super) fn outer(&self) -> SocketAddrV4 {
        self.outer
    }

    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Asks for the same port again. Where somebody else on the network has it, any is as good. Routers that
    /// would keep it open for ever are not asked.
    pub(super) async fn renewed(mut self, lifetime: Duration) -> Option<Self> {
        let protocol = PortMappingProtocol::UDP;
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        let (own, wanted) = (self.own, self.outer.port());
        match self.gateway.add_port(protocol, wanted, own, seconds, DESCRIPTION).await {
            Ok(()) => {}
            Err(AddPortError::PortInUse) => {
                let any = self.gateway.add_any_port(protocol, own, seconds, DESCRIPTION).await;
                self.outer.set_port(any.ok()?);
            }
            Err(error) => {
                tracing::debug!(%error, "the router opens no port by UPnP");
                return None;
            }
        }
        self.lifetime = lifetime;
        self.ends = Instant::now() + lifetime;
        Some(self)
    }

    /// Shuts the port. Whether the router has said so.
    pub(super) async fn give_back(self) -> bool {
        self.gateway.remove_port(PortMappingProtocol::UDP, self.outer.port()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_gateway_is_the_router() {
        let place =
            Place { router: Ipv4Addr::new(192, 168, 0, 1), own: Ipv4Addr::new(192, 168, 0, 7) };
        let at = |text: &str| is_the_router(text.parse().unwrap(), place);
        assert!(at("192.168.0.1:5000") && at("[::ffff:192.168.0.1]:80"));
        assert!(!at("192.168.0.2:5000") && !at("127.0.0.1:5000") && !at("[::1]:80"));
    }
}
